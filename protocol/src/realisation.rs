//! Realisations: which path an output of a content-addressed derivation turned out to be.
//!
//! Owns the types and the JSON form of protocol 1.31 and later; how a realisation is asked for differs by version and
//! is in [`crate::operation`]. (Nix `src/libstore/realisation.cc`.)

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use crate::hash::{Algorithm, Hash};
use crate::signature::Signature;
use crate::store_path::StorePath;
use crate::wire::{DecodeError, Problem};

/// The longest output name: as for store path names.
const MAX_OUTPUT_NAME: usize = 211;

/// The name of a derivation's output, e.g. `out`: not empty, and of the characters of store path names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OutputName(Box<str>);

/// A text that is not `sha256:<64 hex>!<output>`, or not an output name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed derivation output")]
pub struct InvalidOutput;

impl OutputName {
    /// Checks an output name.
    pub fn new(name: &str) -> Result<Self, InvalidOutput> {
        let of_the_set = |c: u8| c.is_ascii_alphanumeric() || b"+-._?=".contains(&c);
        if name.is_empty() || name.len() > MAX_OUTPUT_NAME || !name.bytes().all(of_the_set) {
            return Err(InvalidOutput);
        }
        Ok(Self(name.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An output by the hash of its derivation: `sha256:<64 hex>!<output>`, as up to Nix 2.34 and in Lix.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HashedOutput {
    derivation: Hash,
    output: OutputName,
}

impl FromStr for HashedOutput {
    type Err = InvalidOutput;

    fn from_str(text: &str) -> Result<Self, InvalidOutput> {
        let (hash, output) = text.split_once('!').ok_or(InvalidOutput)?;
        let derivation = Hash::parse(hash).map_err(|_| InvalidOutput)?;
        if derivation.algorithm() != Algorithm::Sha256 {
            return Err(InvalidOutput);
        }
        Ok(Self { derivation, output: OutputName::new(output)? })
    }
}

impl fmt::Display for HashedOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}!{}", self.derivation.to_hex(), self.output.as_str())
    }
}

/// An output as a caller knows it: each daemon is asked by the form that it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DerivationOutput {
    /// By derivation hash: Nix 2.4 to 2.34, Lix 2.90 to 2.93.
    Hashed(HashedOutput),
    /// By derivation path: Nix 2.35 and later.
    Path(StorePath, OutputName),
}

/// The path that an output is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realisation {
    /// The output's path.
    pub path: StorePath,
    /// The well-formed signatures over it; none below protocol 1.31, where they are not transmitted.
    pub signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Json {
    #[serde(rename = "outPath")]
    out_path: String,
    #[serde(default)]
    signatures: Vec<String>,
}

impl Realisation {
    pub(crate) fn from_json(text: &[u8]) -> Result<Self, DecodeError> {
        let json: Json = serde_json::from_slice(text).map_err(|_| Problem::Json.of("realisation"))?;
        let path =
            StorePath::from_base_name(&json.out_path).map_err(|error| Problem::StorePath(error).of("realisation"))?;
        let signatures = json.signatures.iter().filter_map(|text| Signature::parse(text).ok()).collect();
        Ok(Self { path, signatures })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_id_has_one_spelling() {
        let id = format!("sha256:{}!out", "7b".repeat(32));
        assert_eq!(id.parse::<HashedOutput>().unwrap().to_string(), id);
        for bad in [
            "",
            "sha256:00!out",
            "sha1:0000000000000000000000000000000000000000!out",
            &id[..71],
            &id.replace("out", "a/b"),
        ] {
            assert_eq!(bad.parse::<HashedOutput>(), Err(InvalidOutput), "{bad}");
        }
    }

    #[test]
    fn old_and_new_json_are_read_alike() {
        let base = "3dcxyc6w8pkhc4nhbdpkq7shq6jkp94j-pb-b";
        for json in [
            format!(r#"{{"dependentRealisations":{{}},"id":"x","outPath":"{base}","signatures":[]}}"#),
            format!(r#"{{"outPath":"{base}"}}"#),
        ] {
            assert_eq!(Realisation::from_json(json.as_bytes()).unwrap().path.base_name(), base);
        }
        assert!(Realisation::from_json(br#"{"outPath":"/nix/store/x"}"#).is_err());
        assert!(Realisation::from_json(b"[]").is_err());
    }
}
