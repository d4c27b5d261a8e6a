//! Upper bounds of a NAR and its index. The format has none; these come from Linux, and from the memory of an index.

/// Longest name of a directory entry, in bytes: Linux's `NAME_MAX`.
pub const MAX_NAME: usize = 255;

/// Longest target of a symlink, in bytes: Linux's `PATH_MAX`, less the terminating zero.
pub const MAX_TARGET: usize = 4095;

/// Most levels of directories; a NAR of one file has depth 0.
///
/// A path has at most 4095 bytes on Linux, of which the shortest store path takes 44, and each level takes two or more:
/// 2025 levels. Nix reaches files by absolute paths, so nothing deeper gets into a store. Recent releases (2.34.8) stop
/// at 64 levels. That limit is not applied here: what an older nix-daemon serves is valid, and its clients unpack it.
pub const MAX_DEPTH: usize = 2048;

/// Most objects that a [`Layout`](super::Layout) holds, 40 bytes each. The largest trees in Nixpkgs (TeX Live, Nixpkgs
/// itself) have a few hundred thousand.
pub const MAX_ENTRIES: usize = 1 << 20;

/// Most bytes of names and symlink targets that a [`Layout`](super::Layout) holds: 64 for each of [`MAX_ENTRIES`].
pub const MAX_TEXT: usize = 64 << 20;
