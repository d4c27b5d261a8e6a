//! Files of NARs from elsewhere, which are sent as whoever compressed them wrote them.
//!
//! Owns reading a file once for all who wait for it, keeping it beside the NARs that are compressed here (`fetches`, `get`), and
//! that nobody gets the end of a file, or of the NAR in it, whose hash is wrong (`verified`). A file is kept under its own
//! hash: it may have any compression, and nothing has to be known of its NAR. Leaves where files come from to `source`'s callers.

pub(super) mod fetches;
mod get;
pub(super) mod source;
#[cfg(test)]
mod tests;
pub(super) mod verified;

pub(crate) use source::{FileSource, FileToFetch};
pub(crate) use verified::VerifiedStream;
