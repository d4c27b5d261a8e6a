//! Pins in the bucket: roots that are kept under a name, as a JSON object each.

use std::str::FromStr as _;

use harmonia_protocol::{HashPart, StorePath};
use serde::{Deserialize, Serialize};

/// Upper bound of an object's size, in bytes.
pub(crate) const MAX_PIN_FILE: usize = 1 << 20;
/// Upper bound of the roots of a pin.
const MAX_ROOTS: usize = 10_000;
/// Longest name of a user, in bytes.
const MAX_BY: usize = 128;

/// A pin. Unknown fields are ignored, so that later releases can add some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PinFile {
    /// Base names of store paths.
    pub(crate) roots: Vec<String>,
    /// When it was put, in seconds since 1970.
    pub(crate) since: u64,
    /// When it ends, in seconds since 1970; `None` if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<u64>,
    /// Who has put it.
    pub(crate) by: String,
}

impl PinFile {
    /// Renders the object.
    pub(crate) fn render(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec_pretty(self)
    }

    /// Parses an object. Its error is a reason.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let pin: Self = serde_json::from_slice(bytes).map_err(|cause| cause.to_string())?;
        if pin.roots.len() > MAX_ROOTS {
            return Err(format!("more than {MAX_ROOTS} roots"));
        }
        if pin.by.len() > MAX_BY || pin.by.contains(char::is_control) {
            return Err("malformed \"by\"".to_owned());
        }
        match pin.roots.iter().find(|root| StorePath::from_base_name(root).is_err()) {
            Some(root) => Err(format!("{root:?} is not the name of a store path")),
            None => Ok(pin),
        }
    }

    /// Returns the hash parts of its roots.
    pub(crate) fn hash_parts(&self) -> impl Iterator<Item = HashPart> + '_ {
        self.roots.iter().filter_map(|root| HashPart::from_str(root.split('-').next()?).ok())
    }

    /// Returns whether it keeps its roots at a time, in seconds since 1970.
    pub(crate) fn is_in_force(&self, now: u64) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::narinfo::tests::path;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let roots = vec![path(1).base_name().to_owned(), path(2).base_name().to_owned()];
        let pin = PinFile { roots, since: 1_800_000_000, until: Some(1_900_000_000), by: "alice".into() };
        assert_eq!(PinFile::parse(&pin.render().unwrap()), Ok(pin.clone()));
        assert_eq!(pin.hash_parts().collect::<Vec<_>>(), [path(1).hash_part(), path(2).hash_part()]);
        assert!(pin.is_in_force(1_899_999_999) && !pin.is_in_force(1_900_000_000));
        let bad = PinFile { roots: vec!["x".into()], ..pin.clone() };
        assert_eq!(PinFile::parse(&bad.render().unwrap()), Err("\"x\" is not the name of a store path".to_owned()));
        let control = PinFile { by: "\u{1b}".into(), ..pin };
        assert!(PinFile::parse(&control.render().unwrap()).is_err());
        assert!(PinFile::parse(b"{}").is_err());
    }
}
