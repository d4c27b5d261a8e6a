//! Signing policy: `sign`, `trusted_public_keys` and `serve_untrusted`.
//!
//! Leaves to [`crate::signing`] whether a path is trusted. A message never contains what follows the colon of a key, since it
//! may be a secret key.

use std::fmt;

use harmonia_protocol::signature::{KeyError, KeyName, PublicKey, SecretKey};

use super::keyword::keywords;

/// Policy for signing paths with our keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SigningPolicy {
    /// Every path.
    #[default]
    All,
    /// Trusted paths only.
    Trusted(TrustPolicy),
}

/// Policy for trusting paths other than those built on this machine and content-addressed ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustPolicy {
    /// Keys whose signatures make a path trusted.
    pub public_keys: Vec<PublicKey>,
    /// Serves untrusted paths, unsigned.
    pub serve_untrusted: bool,
}

/// Continues a sentence that begins with "signing".
impl fmt::Display for SigningPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Trusted(TrustPolicy { public_keys, serve_untrusted }) = self else {
            return f.write_str("every path");
        };
        f.write_str("what was built here, is content-addressed")?;
        match public_keys.len() {
            0 => f.write_str(" and nothing else")?,
            1 => f.write_str(" or has a signature of the trusted key")?,
            more => write!(f, " or has a signature of one of {more} trusted keys")?,
        }
        f.write_str(if *serve_untrusted { ", other paths are served unsigned" } else { ", other paths are not served" })
    }
}

/// The value of `sign`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    All,
    Trusted,
}

keywords!(Scope, r#""all" or "trusted""#, "all" => All, "trusted" => Trusted);

/// Parses an element of `trusted_public_keys`.
pub(super) fn public_key(text: &str) -> Result<PublicKey, String> {
    PublicKey::parse(text).map_err(|cause| {
        let name = text.split_once(':').and_then(|(name, _)| KeyName::new(name).ok());
        let shown = name.map_or_else(|| "an element".to_owned(), |name| format!("{:?}", name.as_str()));
        if matches!(cause, KeyError::Length { .. }) && SecretKey::parse(text).is_ok() {
            return format!(
                "{shown} is a secret key\n  help: write its public key; keep the secret key in a file that only harmonia can read"
            );
        }
        format!(
            "{shown} is not a public key: {cause}\n  help: write \"NAME:BASE64\", as in trusted-public-keys of nix.conf"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{loaded, message};

    const KEY: &str = "cache.example.org-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

    #[test]
    fn every_path_is_signed_unless_the_file_says_otherwise() {
        for text in ["", "sign = \"all\"", "serve_untrusted = true\ntrusted_public_keys = []"] {
            assert_eq!(loaded(text).0.sign, SigningPolicy::All, "{text}");
        }
        let trusted =
            |public_keys, serve_untrusted| SigningPolicy::Trusted(TrustPolicy { public_keys, serve_untrusted });
        assert_eq!(loaded("sign = \"trusted\"").0.sign, trusted(vec![], true));
        let text = format!("sign = \"trusted\"\ntrusted_public_keys = [\"{KEY}\"]\nserve_untrusted = false");
        assert_eq!(loaded(&text).0.sign, trusted(vec![PublicKey::parse(KEY).unwrap()], false));
    }

    #[test]
    fn what_contradicts_itself_or_is_malformed_is_an_error_with_its_line_and_help() {
        let (_, secret) = SecretKey::generate(KeyName::new("cache-1").unwrap()).unwrap();
        for (text, expected) in [
            ("sign = \"some\"".to_owned(), "config.toml:1: sign: expected \"all\" or \"trusted\", found \"some\""),
            (
                format!("\ntrusted_public_keys = [\"{KEY}\"]"),
                "config.toml:2: trusted_public_keys has no effect with sign = \"all\"\n  help: set sign = \"trusted\", or \
                 remove it",
            ),
            (
                "sign = \"all\"\nserve_untrusted = false".to_owned(),
                "config.toml:2: serve_untrusted has no effect with sign = \"all\"\n  help: set sign = \"trusted\", or \
                 remove it",
            ),
            (
                format!("sign = \"trusted\"\ntrusted_public_keys = [\n\"{KEY}\",\n\"short:AAAA\"]"),
                "config.toml:4: trusted_public_keys: \"short\" is not a public key: 3 bytes where 32 are required\n  help: \
                 write \"NAME:BASE64\", as in trusted-public-keys of nix.conf",
            ),
            (
                "trusted_public_keys = [\"AAAA\"]".to_owned(),
                "config.toml:1: trusted_public_keys: an element is not a public key: no key name before a colon\n  help: \
                 write \"NAME:BASE64\", as in trusted-public-keys of nix.conf",
            ),
            (
                format!("trusted_public_keys = [\"\u{feff}{KEY}\"]"),
                "config.toml:1: trusted_public_keys: an element is not a public key: the key name contains \
                 '\\u{feff}'; only printable ASCII characters except the space are allowed\n  help: write \"NAME:BASE64\", as \
                 in trusted-public-keys of nix.conf",
            ),
            (
                format!("trusted_public_keys = [\"{secret}\"]"),
                "config.toml:1: trusted_public_keys: \"cache-1\" is a secret key\n  help: write its public key; keep \
                 the secret key in a file that only harmonia can read",
            ),
        ] {
            assert_eq!(message(&text), expected);
        }
    }
}
