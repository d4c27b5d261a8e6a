//! Whether a path has the contents that its content address names, where that takes reading them.
//!
//! What is read is bounded; whether the bytes are those of the path info is proven by [`Nar`](super::Nar), as for every
//! other reader.

use std::sync::Arc;

use harmonia_protocol::content_check::ContentCheck;

use super::{Store, StoreError, ValidPath};
use crate::client::Client;

/// The largest NAR that is read for it, in bytes. Longer ones are source archives for the most part, which whoever wants
/// them can also get from where they came from.
const MAX_NAR: u64 = 64 << 20;

impl Store {
    /// Whether the contents of this path, whose content address it follows from, are those that the address names; no if
    /// they are too large to be read for that. Dropping the future ends the reading.
    pub async fn has_named_contents(&self, valid: &Arc<ValidPath>, client: Client) -> Result<bool, StoreError> {
        let check = valid.info.expand().content_address.as_ref().and_then(ContentCheck::of);
        let Some(mut check) = check.filter(|_| valid.info.nar_size <= MAX_NAR) else { return Ok(false) };
        let mut nar = self.nar_for_keeping(valid, client).await?;
        while let Some(bytes) = nar.chunk().await? {
            check.feed(&bytes);
        }
        Ok(check.holds())
    }
}
