//! Address of the list of uploads in parts.

use super::http_client::Http;

/// Address at which uploads of a bucket are listed.
#[derive(Debug)]
pub(super) struct UploadList {
    pub(super) http: Http,
    /// URL of the bucket.
    pub(super) url: String,
    pub(super) region: String,
}
