//! The commands of the program, a file or folder each.

pub mod cache;
pub mod check;
pub mod quickstart;
pub mod serve;
pub mod status;
