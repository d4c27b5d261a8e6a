//! Exit statuses of the program: those of sysexits.h, and clap's for a wrong command line.

pub(crate) const OK: i32 = 0;
/// Invalid command line.
pub(crate) const USAGE: i32 = 2;
pub(crate) const DATA: i32 = 65;
pub(crate) const UNAVAILABLE: i32 = 69;
pub(crate) const OS_ERROR: i32 = 71;
pub(crate) const CANNOT_CREATE: i32 = 73;
pub(crate) const PROTOCOL: i32 = 76;
pub(crate) const NO_PERMISSION: i32 = 77;
pub(crate) const CONFIG: i32 = 78;
