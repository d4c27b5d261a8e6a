//! Bodies of requests, which only uploads have.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Body;

/// Error of a body: the client is gone, or does not keep to HTTP.
pub(crate) type UploadBodyError = Box<dyn std::error::Error + Send + Sync>;

/// Body of an upload. The client is asked for it when it is first polled.
pub(crate) type UploadBody = UnsyncBoxBody<Bytes, UploadBodyError>;

/// Boxes the body of a request.
pub(crate) fn upload_body<B>(body: B) -> UploadBody
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<UploadBodyError>,
{
    body.map_err(Into::into).boxed_unsync()
}
