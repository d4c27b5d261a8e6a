//! Listings and build logs that other hosts have published.

use std::io::Cursor;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use harmonia_protocol::{HashPart, StorePath};
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderValue};
use percent_encoding::percent_decode_str;
use twox_hash::XxHash3_128;

use crate::fairness::Permit;
use crate::http::app::App;
use crate::http::error::HandlerError;
use crate::http::error_reason::NotFound;
use crate::http::request::conditional::matches_if_none_match;
use crate::http::request::context::RequestCx;
use crate::http::response::body::{Body, Response};
use crate::http::response::cache_control::CacheControl;
use crate::http::response::etag::etag;
use crate::http::response::file_body::FileBody;
use crate::http::response::headers::{PLAIN_TEXT, new_response, set, set_content_length, set_nosniff};
use crate::http::response::status::not_modified;

impl App {
    /// Answers with the listing of a path that the store has failed with this error to serve.
    pub(crate) async fn listing_in_bucket(
        &self,
        hash: HashPart,
        cx: RequestCx<'_>,
        why: HandlerError,
    ) -> Result<Response, HandlerError> {
        let Some(bucket) = self.bucket_after(&why, cx).map(Arc::clone) else { return Err(why) };
        self.path_in_bucket(hash, cx, why).await?;
        let permit = self.io_limits.large_body(cx.client).await;
        let listing = bucket.listing(hash).await?.ok_or(NotFound::NoFile)?;
        Ok(self.send_text(cx, listing, "application/json", CacheControl::OneHour, permit))
    }

    /// Answers with the log of the derivation that this host has failed with this error to find by its hash part, or by that of
    /// its output.
    pub(crate) async fn log_in_bucket(
        &self,
        hash: HashPart,
        cx: RequestCx<'_>,
        why: HandlerError,
    ) -> Result<Response, HandlerError> {
        let Some(bucket) = self.bucket_after(&why, cx).map(Arc::clone) else { return Err(why) };
        if self.store.hides_log(hash, cx.client).await? {
            return Err(why);
        }
        let derivation = match derivation_named(cx, hash) {
            Some(derivation) => Some(derivation),
            None => match self.store.valid_path(hash, cx.client).await? {
                Some(valid) => valid.info.to_path_info().deriver,
                None => bucket.narinfo(hash, cx.client).await?.and_then(|found| found.path_info().deriver),
            },
        };
        let Some(derivation) = derivation else { return Err(why) };
        if self.store.hides_log(derivation.hash_part(), cx.client).await? {
            return Err(why);
        }
        let permit = self.io_limits.large_body(cx.client).await;
        let log = bucket.build_log(derivation).await?.ok_or(why)?;
        let mut response = self.send_text(cx, log, PLAIN_TEXT, CacheControl::Revalidate, permit);
        set_nosniff(&mut response);
        Ok(response)
    }

    fn send_text(
        &self,
        cx: RequestCx<'_>,
        text: Bytes,
        media_type: &'static str,
        cache_control: CacheControl,
        permit: Permit,
    ) -> Response {
        let tag = etag(&format!("{:x}", XxHash3_128::oneshot(&text)));
        if matches_if_none_match(cx.headers(), &tag) {
            return not_modified(cache_control, tag);
        }
        let length = text.len() as u64;
        let reads = Arc::clone(self.io_limits.reads());
        let body = FileBody::new(Cursor::new(text), PathBuf::new(), Some(length), reads, vec![permit]);
        let mut response = new_response(StatusCode::OK, cache_control, Body::File(Box::new(body)));
        set(&mut response, CONTENT_TYPE, HeaderValue::from_static(media_type));
        set(&mut response, ETAG, tag);
        set_content_length(&mut response, length);
        response
    }
}

/// Returns the derivation that the last segment of the URL names, if it is that of the hash part.
fn derivation_named(cx: RequestCx<'_>, hash: HashPart) -> Option<StorePath> {
    let (_, name) = cx.parts.uri.path().rsplit_once('/')?;
    let name = percent_decode_str(name).decode_utf8().ok()?;
    StorePath::from_base_name(&name).ok().filter(|path| path.is_derivation() && path.hash_part() == hash)
}
