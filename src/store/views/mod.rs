//! Views: parts of the store, each the closure of its roots, to which clients may be restricted.
//!
//! - `pattern` and `resolve` turn the configured roots into store paths: symlinks are followed a step at a time, until they
//!   lie in the store directory. `stamps` tells whether that could have another result by now.
//! - `path_table` numbers the paths of all views and keeps their references; `path_set` is the set of numbers of one view.
//! - `scan` resolves the roots of a view and completes its closure by queries of nix-daemon. `registry` has all views, and
//!   starts scans when requests need them: there is no task, and no memory worth mention, without views.
//!
//! Two rules:
//!
//! - A path is shown only if it was in the view at a scan that began less than [`registry::BELIEVED`] ago.
//! - It is not shown only if a scan that began after the request did not find it. So a new root shows at the first request,
//!   and the wait is the same whether the store has the path or not. What is in no view is never asked of nix-daemon.

pub(super) mod lookup;
pub(super) mod path_set;
pub(super) mod path_table;
pub(super) mod pattern;
pub(super) mod registry;
pub(super) mod resolve;
pub(super) mod scan;
pub(super) mod stamps;
#[cfg(test)]
mod tests;
pub(super) mod view;
