//! Files that were uploaded and whose narinfo has not come yet.
//!
//! Owns the directory `STATE_DIR/spool`: its mark, the names in it, and who may fill how much of it. A file is written to a
//! temporary name, hashed on the way, and gets its name when size and hash are right. It belongs to whoever uploaded it: nobody
//! else sees it. It is removed when its narinfo was accepted, when nobody has asked for it for an hour, and at the next start.
//! Leaves to the caller what is in a file.

mod directory;
mod disk;
mod error;
mod ledger;
mod owner;
mod reservation;
#[cfg(test)]
mod tests;
mod upload;

pub(crate) use directory::SpoolDirectoryError;
pub(crate) use disk::Spool;
pub(crate) use error::SpoolError;
pub(crate) use owner::{FileHash, Owner};
pub(crate) use upload::Upload;
