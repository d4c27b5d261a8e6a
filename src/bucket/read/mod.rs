//! Paths that other hosts have published, for the clients of this one.

mod breaker;
mod file_reader;
mod narinfo;
mod narinfos;
mod nars;
#[cfg(test)]
mod tests;
mod text;
mod told;
mod unreachable;

pub(in crate::bucket) use narinfos::NarInfos;
pub(in crate::bucket) use nars::KnownFiles;
pub(crate) use unreachable::Unreachable;
