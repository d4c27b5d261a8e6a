//! Limits that the server and the client of the admin socket share.

use std::time::Duration;

/// Limit on the body of a request, in bytes: ten thousand store paths.
pub(super) const MAX_REQUEST: usize = 1 << 20;
/// Limit on a connection, from its start to the last byte of the response.
pub(super) const MAX_TIME: Duration = Duration::from_secs(60);
