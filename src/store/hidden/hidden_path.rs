//! A hidden path, as it is stored and shown.

use harmonia_protocol::HashPart;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Upper bound of the text of a reason and of the name of a user, in bytes.
pub(crate) const MAX_TEXT: usize = 1024;

/// A path that is hidden from clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HiddenPath {
    /// Hash part.
    #[serde(with = "HashText")]
    pub(crate) hash: HashPart,
    /// Base name, if the path was valid when it was hidden.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    /// Base name of its derivation, whose build log is hidden too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deriver: Option<String>,
    /// Whether all paths that refer to it, directly or not, are hidden too.
    #[serde(default)]
    pub(crate) referrers: bool,
    /// Reason that the operator gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// User who hid it.
    pub(crate) by: String,
    /// Time when it was hidden, in seconds since 1970.
    pub(crate) since: u64,
}

impl HiddenPath {
    /// Returns the base name, or the hash part if it is not known.
    #[must_use]
    pub(crate) fn name(&self) -> &str {
        self.path.as_deref().unwrap_or(self.hash.as_str())
    }
}

/// Hash parts as text.
struct HashText;

impl HashText {
    fn serialize<S: Serializer>(hash: &HashPart, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(hash.as_str())
    }

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HashPart, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
