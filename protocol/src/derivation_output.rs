//! Names of derivation outputs, by which realisations are looked up.
//!
//! Source: Nix `src/libstore/realisation.cc` up to 2.34 (`DrvOutput`), and from 2.35 on.

use std::fmt;
use std::str::FromStr;

use crate::hash::{Algorithm, Hash};
use crate::store_path::StorePath;

/// Longest name of an output, in bytes: that of store path names.
const MAX_OUTPUT_NAME: usize = 211;

/// Name of an output, e.g. `out`: 1 to 211 characters of those in store path names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OutputName(Box<str>);

/// Error of parsing a [`HashedOutput`] or [`OutputName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed derivation output")]
pub struct DerivationOutputError;

impl OutputName {
    /// Creates an output name, or fails if it is empty, too long or has other characters.
    pub fn new(name: &str) -> Result<Self, DerivationOutputError> {
        let of_the_set = |c: u8| c.is_ascii_alphanumeric() || b"+-._?=".contains(&c);
        if name.is_empty() || name.len() > MAX_OUTPUT_NAME || !name.bytes().all(of_the_set) {
            return Err(DerivationOutputError);
        }
        Ok(Self(name.into()))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OutputName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Output of the derivation that has a given hash: `sha256:<64 hex>!<output>` (`DrvOutput` up to Nix 2.34 and in Lix).
/// Ordered as its text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HashedOutput {
    derivation: Hash,
    output: OutputName,
}

impl FromStr for HashedOutput {
    type Err = DerivationOutputError;

    fn from_str(text: &str) -> Result<Self, DerivationOutputError> {
        let (hash, output) = text.split_once('!').ok_or(DerivationOutputError)?;
        let derivation = Hash::parse(hash).map_err(|_| DerivationOutputError)?;
        // Nix reads other encodings too, but never writes them.
        if derivation.algorithm() != Algorithm::Sha256 || derivation.to_prefixed_hex() != hash {
            return Err(DerivationOutputError);
        }
        Ok(Self { derivation, output: OutputName::new(output)? })
    }
}

impl fmt::Display for HashedOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}!{}", self.derivation.to_prefixed_hex(), self.output.as_str())
    }
}

/// Output of a derivation, in the form of a query. Each nix-daemon understands one of the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DerivationOutput {
    /// Output named by the hash of the derivation: Nix 2.4 to 2.34, Lix 2.90 to 2.93.
    Hashed(HashedOutput),
    /// Output named by the store path of the derivation: Nix 2.35 and later.
    Path(StorePath, OutputName),
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
            &id.replace("7b", "7B"),
            &format!("sha256:{}!out", "0".repeat(52)),
            &format!("sha256-{}=!out", "A".repeat(43)),
        ] {
            assert_eq!(bad.parse::<HashedOutput>(), Err(DerivationOutputError), "{bad}");
        }
    }
}
