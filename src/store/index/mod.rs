//! Index of debug info by build ID: `lib/debug/.build-id/<2>/<rest>.debug` in some path, where nixpkgs' hook for
//! separate debug info puts it, and where Nix looks when it copies to a cache (`src/libstore/binary-cache-store.cc`,
//! `index-debug-info`).
//!
//! nix-daemon has no such query.

pub(super) mod build_id;
pub(super) mod change_time;
pub(super) mod debug_files;
pub(super) mod debug_info;
pub(super) mod entries;
pub(super) mod scan;
pub(super) mod scans;
pub(super) mod search;
