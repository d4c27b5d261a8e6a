//! `/nar/<file hash>.nar.zst`: a file that some host of the fleet has published, whole or a range of it.
//!
//! The name of a file is its hash, so its bytes never change and any host of the fleet serves it, whichever has told a client of it.
//! From the NAR cache, if it is there as it was fetched or compressed; else the client is redirected to the object store; else this
//! host fetches it, through the NAR cache where that is possible. A file that a client was told of is no 404 because the
//! bucket fails, or lacks it for a while.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderValue};

use super::compressed_body::resumable;
use super::lookup::NAR_TYPE;
use crate::bucket::{Bucket, BucketNarInfo, NarFile};
use crate::fairness::ClientId;
use crate::http::app::App;
use crate::http::error::HandlerError;
use crate::http::error_reason::NotFound;
use crate::http::request::conditional::matches_if_none_match;
use crate::http::request::context::RequestCx;
use crate::http::request::range::{Selection, applicable_range, resolve};
use crate::http::response::body::{Body, Response};
use crate::http::response::cache_control::CacheControl;
use crate::http::response::etag::etag;
use crate::http::response::headers::{new_response, set, set_content_length};
use crate::http::response::partial::{partial_content, range_not_satisfiable};
use crate::http::response::status::{not_modified, redirect};
use crate::http::response::stream_body::StreamBody;
use crate::nar_cache::{CompressedNar, FileInfo, FileSource, FileToFetch, FillError, VerifiedStream};

/// Answers with the file of this name.
pub(crate) async fn respond(
    app: &App,
    bucket: &Arc<Bucket>,
    cx: RequestCx<'_>,
    name: &str,
) -> Result<Response, HandlerError> {
    // What is in a view is decided by the store, which knows no files.
    let file = bucket.nar_file(name).filter(|_| app.known_sight(cx).is_unlimited()).ok_or(NotFound::UnknownUrl)?;
    let wanted = Wanted::new(app, bucket, cx, file).await?;
    wanted.respond(app, cx).await
}

/// A file that a client may have, and what is known of it.
pub(super) struct Wanted<'a> {
    bucket: &'a Arc<Bucket>,
    file: NarFile,
    /// `None` if no narinfo that was read lately names it.
    narinfo: Option<Arc<BucketNarInfo>>,
}

impl<'a> Wanted<'a> {
    /// Finds out what is known of a file, unless it may be of a path that is hidden here.
    async fn new(app: &App, bucket: &'a Arc<Bucket>, cx: RequestCx<'_>, file: NarFile) -> Result<Self, HandlerError> {
        let narinfo = bucket.narinfo_of_file(file);
        if app.store.has_hidden() {
            let hash = narinfo.as_ref().ok_or(NotFound::UnknownUrl)?.path().hash_part();
            app.path_in_bucket(hash, cx, NotFound::NotValid.into()).await?;
        }
        Ok(Self { bucket, file, narinfo })
    }

    /// Creates it for the file of a path that the client sees.
    pub(super) fn of_path(bucket: &'a Arc<Bucket>, narinfo: Arc<BucketNarInfo>) -> Self {
        Self { bucket, file: narinfo.file(), narinfo: Some(narinfo) }
    }

    async fn respond(self, app: &App, cx: RequestCx<'_>) -> Result<Response, HandlerError> {
        let tag = etag(&self.file.hash().to_string());
        if matches_if_none_match(cx.headers(), &tag) {
            return Ok(not_modified(CacheControl::Immutable, tag));
        }
        let mut response = match self.find(app).await {
            Some(nar) if cx.is_head() => head(nar.known_length()),
            Some(nar) => resumable(cx, &tag, Ok(nar)).await?,
            None => self.absent(app, cx, &tag).await?,
        };
        if response.status().is_success() {
            set(&mut response, CONTENT_TYPE, NAR_TYPE);
            set(&mut response, ETAG, tag);
        }
        Ok(response)
    }

    /// Answers with a file that is not here.
    async fn absent(&self, app: &App, cx: RequestCx<'_>, tag: &HeaderValue) -> Result<Response, HandlerError> {
        let size = self.bucket.file_size(self.file).await?.ok_or(NotFound::UnknownUrl)?;
        if cx.is_head() {
            // A signed URL is for GET alone.
            return Ok(head(Some(size)));
        }
        if let Some(url) = self.bucket.redirect(self.file, size).await {
            // Temporary: the URL ends, and the file may be here next time.
            return Ok(redirect(StatusCode::TEMPORARY_REDIRECT, CacheControl::NoStore, &url));
        }
        if let Some(nar) = self.fetch(app, size, cx.client).await? {
            return Ok(resumable(cx, tag, Ok(nar)).await?);
        }
        let range = match resolve(applicable_range(cx.headers(), tag), size) {
            Selection::Whole => None,
            Selection::Range(range) => Some(range),
            Selection::Unsatisfiable => return Ok(range_not_satisfiable(size)),
        };
        let bounds = range.map_or(0..size, |range| range.bounds());
        let permits = vec![app.io_limits.bucket_file(cx.client).await];
        let source = self.stream(size, bounds.clone()).await?;
        let body = Body::Stream(Box::new(StreamBody::new(source, bounds.end - bounds.start, permits)));
        if let Some(range) = range {
            return Ok(partial_content(&range, CacheControl::Immutable, body));
        }
        let mut response = new_response(StatusCode::OK, CacheControl::Immutable, body);
        set_content_length(&mut response, size);
        Ok(response)
    }

    /// Finds the file in the NAR cache. What this host has compressed itself may be of a path that it does not serve, unless a
    /// narinfo of the bucket says which path it is.
    pub(super) async fn find(&self, app: &App) -> Option<CompressedNar> {
        let (cache, sha256) = (app.nar_cache.as_ref()?, self.file.hash());
        if let Some(nar) = cache.find_fetched(sha256.as_bytes()).await {
            return Some(nar);
        }
        let may_serve = self.narinfo.is_some() || !app.signer.load().hides_untrusted();
        if may_serve { cache.find_compressed_to(sha256.as_bytes()).await } else { None }
    }

    /// Fetches the file into the NAR cache, as far as that was necessary for its first bytes; `None` if it does not fit or the disk
    /// fails.
    pub(super) async fn fetch(
        &self,
        app: &App,
        size: u64,
        client: ClientId,
    ) -> Result<Option<CompressedNar>, HandlerError> {
        let Some(cache) = app.nar_cache.as_ref().filter(|cache| cache.fits(size)) else { return Ok(None) };
        let path = self.narinfo.as_ref().map(|narinfo| narinfo.path().clone());
        let to_fetch = FileToFetch { info: self.info(size), path };
        let (bucket, file) = (Arc::clone(self.bucket), self.file);
        let open = async move { bucket.open_file(file, size, 0..size).await.map_err(io::Error::other) };
        match cache.get_or_fetch(to_fetch, client, open).await {
            Ok(nar) => Ok(Some(nar)),
            Err(FillError::Disk(cause)) => {
                tracing::debug!("sending a file without the NAR cache: {cause}");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Streams a range of the file from the bucket. One that reaches the end is proven, and so read from the start.
    pub(super) async fn stream(&self, size: u64, range: Range<u64>) -> Result<Box<dyn FileSource>, HandlerError> {
        if range.end < size {
            return Ok(self.bucket.open_file(self.file, size, range).await?);
        }
        let whole = self.bucket.open_file(self.file, size, 0..size).await?;
        Ok(Box::new(VerifiedStream::file(whole, self.info(size), &range)))
    }

    fn info(&self, size: u64) -> FileInfo {
        FileInfo { sha256: *self.file.hash().as_bytes(), size }
    }
}

fn head(length: Option<u64>) -> Response {
    let mut response = new_response(StatusCode::OK, CacheControl::Immutable, Body::empty());
    if let Some(length) = length {
        set_content_length(&mut response, length);
    }
    response
}
