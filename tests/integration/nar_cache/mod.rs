//! The NAR cache: its URLs, its directory, its disk and its command.

mod command;
pub(crate) mod compressed_nars;
mod directory;
