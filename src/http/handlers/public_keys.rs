//! `/pubkey`: the public keys, for people and for scripts that set up a client.

use std::fmt::Write;

use bytes::Bytes;

use crate::signing::SigningKeys;

/// The public keys, one per line; `None` where nothing is signed.
#[must_use]
pub(in crate::http) fn render(keys: &SigningKeys) -> Option<Bytes> {
    let text = keys.public_keys().fold(String::new(), |mut text, key| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{key}");
        text
    });
    (!text.is_empty()).then(|| text.into())
}
