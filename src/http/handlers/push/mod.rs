//! PUT: uploads of those who may push.
//!
//! The order of Nix: HEAD of `nar/<file hash>.nar.xz`, PUT of it, PUT of the narinfo. The file waits in the spool for its
//! narinfo; what nix-daemon then says decides. What harmonia makes itself is received and discarded, so that options of
//! `nix copy` that write it do no harm: listings and the index of debug info. What it could not keep is refused: build logs and
//! realisations.
//!
//! A request is refused before its body is asked for. The body of a refused one is not read, except for the start of one that
//! the client is sending in any case: on a connection that is closed with unread bytes the response may be lost.

mod cx;
mod discard;
mod nar;
mod narinfo;
mod receive;
mod refusal;
mod respond;

pub(crate) use nar::head;
pub(crate) use respond::{Received, end_refused, respond};
