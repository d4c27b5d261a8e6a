//! Paths that other hosts have published, for the clients of this one.

mod breaker;
mod narinfo;
mod narinfos;
#[cfg(test)]
mod tests;
mod text;
mod told;
mod unreachable;

pub(in crate::bucket) use narinfos::NarInfos;
pub(crate) use unreachable::Unreachable;
