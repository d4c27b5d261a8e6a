//! Paths that clients push: from an uploaded file and its narinfo to a valid path in nix-daemon's store.
//!
//! The narinfo is checked first (`narinfo`), then the references, then the bytes while nix-daemon receives them
//! (`nar_check`, `decode`). Nothing is added unless all of it is right, and nix-daemon itself checks signatures. Files wait for
//! their narinfo in the `spool`. Receiving them and knowing principals belongs to others.

mod accept;
pub mod decode;
mod error;
mod file_name;
mod keep;
pub mod nar_check;
mod narinfo;
mod refusal;
pub(crate) mod spool;
mod uploaded_paths;

pub(crate) use accept::{Outcome, Pusher, Sender, Spooled};
pub use error::PushError;
pub use file_name::UploadName;
pub(crate) use keep::Keep;
pub use narinfo::{MAX_NARINFO, NarInfoFault, PushRules, PushedNarInfo};
