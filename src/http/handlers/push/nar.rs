//! `nar/<file hash>.nar`, with any extension: the file of a NAR, on its way into the store.

use hyper::StatusCode;

use super::cx::{Cx, owner};
use super::receive::Receiver;
use super::refusal::Refusal;
use crate::access::Rights;
use crate::http::error::HandlerError;
use crate::http::error_reason::NotFound;
use crate::http::request::context::RequestCx;
use crate::http::response::body::{Body, Response};
use crate::http::response::cache_control::CacheControl;
use crate::http::response::headers::{new_response, set_content_length};
use crate::http::uploads::Uploads;
use crate::push::UploadName;
use crate::push::spool::{FileHash, Upload};

/// Size of a piece, in bytes. There are two for each upload: one is written while the other is received.
const PIECE: usize = 512 << 10;
/// Memory for a piece, in bytes, with what the last frame may have beyond it, so that it is not moved to twice as much.
const PIECE_MEMORY: usize = PIECE + (128 << 10);

/// Answers HEAD: whether this principal has uploaded the file. Nix asks before it uploads.
///
/// It is never sent: the store path has its own URL once it was accepted.
pub(crate) fn head(uploads: &Uploads, cx: RequestCx<'_>, file: &UploadName) -> Result<Response, HandlerError> {
    let file = FileHash::from_digest(*file.sha256());
    if !cx.is_head() || !cx.granted.may(Rights::PUSH) || !uploads.spool().claim(owner(cx.granted), file) {
        return Err(NotFound::UnknownUrl.into());
    }
    let mut response = new_response(StatusCode::OK, CacheControl::NoStore, Body::empty());
    set_content_length(&mut response, 0);
    Ok(response)
}

/// Receives a file into the spool.
pub(super) async fn put(cx: &Cx<'_>, file: FileHash, body: &mut Receiver) -> Result<(), Refusal> {
    if cx.content_encoding()?.is_some() {
        return Err(Refusal::unsupported_coding());
    }
    let spool = cx.uploads.spool();
    let length = body.length();
    spool.check_size(length.unwrap_or_default())?;
    let permit = cx.turn().await?;
    let reservation = spool.reserve(cx.owner(), length)?;
    let mut upload = Upload::create(spool, reservation).await?;
    body.hold(&permit);
    let active = cx.active(length);
    let (mut piece, mut spare) =
        (body.fill(Vec::with_capacity(PIECE_MEMORY), PIECE).await?, Vec::with_capacity(PIECE_MEMORY));
    while !piece.is_empty() {
        active.add_sent(piece.len() as u64);
        let (written, received) = tokio::join!(upload.write(piece), body.fill(spare, PIECE));
        let next: (Upload, Vec<u8>) = written?;
        (upload, spare, piece) = (next.0, next.1, received?);
    }
    drop(permit);
    upload.finish(file).await?;
    Ok(())
}
