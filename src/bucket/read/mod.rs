//! Paths that other hosts have published, for the clients of this one.

mod breaker;
mod file_reader;
mod known_files;
mod narinfo;
mod narinfos;
mod nars;
#[cfg(test)]
mod tests;
mod text;
mod told;
mod unreachable;

pub(in crate::bucket) use known_files::KnownFiles;
pub(in crate::bucket) use narinfos::NarInfos;
pub(crate) use unreachable::Unreachable;
