//! Files that are read directly where the store or the log directory is visible: below `/serve`, and build logs.

pub(super) mod build_log;
pub(super) mod directory;
pub(super) mod lookup;
pub(super) mod regular_file;
pub(super) mod tree;
