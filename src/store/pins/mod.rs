//! Pins: store paths that an operator protects from the garbage collector under a name, for a time or for good.
//!
//! `name` is the strict name, `pin` what is known of one, `directory` keeps them in the state directory, `roots` has nix-daemon
//! make them GC roots, `set` puts these together, one `access` at a time, and `expiry` removes those whose time is over.
//!
//! Each time a name is pinned makes a generation, of which the last [`KEEP`](pin::KEEP) are kept. A generation is `NAME/N-BASENAME`,
//! a symlink to each of its paths, and `NAME/.N.json`, by which it is complete. It is written last and removed first, so
//! that after a crash links without it are those of no generation, and are removed. Files with other names are left alone.

pub(super) mod access;
pub(super) mod directory;
pub(super) mod error;
pub(super) mod expiry;
pub(super) mod name;
pub(super) mod pin;
pub(super) mod roots;
pub(super) mod set;
