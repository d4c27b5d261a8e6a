//! Paths that an operator hides: clients get the 404 of a path that is not valid, until the path is shown again.
//!
//! `file` keeps them over restarts, `set` holds them in memory, `lookup` decides about a path. A path is hidden by its hash
//! part, whether it is valid or not. With `referrers`, so is every path whose closure has it, also one that is added later:
//! that is found out when the path is requested, and remembered. Without hidden paths a request costs one atomic load.
//!
//! If in doubt a path is not served: a file that cannot be read keeps the server from starting, and a closure that cannot be
//! walked through is an error.

pub(super) mod file;
pub(super) mod hidden_path;
pub(super) mod lookup;
pub(super) mod set;
