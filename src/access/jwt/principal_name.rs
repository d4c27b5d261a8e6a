//! The name of a token's principal, composed of claims.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::token_error::TokenError;

/// Upper bound of a name, in bytes: it is compared with patterns and goes to logs.
const MAX_NAME: usize = 256;

/// The `name` of an entry of `[[access.jwt]]`: a claim, or a text with claims in braces.
///
/// A text keeps apart what one claim does not: the branches of a repository, and the repositories of two issuers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PrincipalName(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Claim(String),
}

/// Reason for which a `name` cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    /// It names no claim.
    #[error("it names no claim")]
    NoClaim,
    /// A brace has no partner.
    #[error("its braces do not match")]
    Braces,
}

impl PrincipalName {
    /// Parses `claim`, or a text with `{claim}` in it.
    pub(super) fn parse(text: &str) -> Result<Self, NameError> {
        if !text.contains(['{', '}']) {
            return if text.is_empty() {
                Err(NameError::NoClaim)
            } else {
                Ok(Self(vec![Part::Claim(text.to_owned())]))
            };
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (claim, after) = after.split_once('}').ok_or(NameError::Braces)?;
            if claim.is_empty() {
                return Err(NameError::NoClaim);
            }
            if before.contains('}') || claim.contains('{') {
                return Err(NameError::Braces);
            }
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Claim(claim.to_owned()));
            rest = after;
        }
        if rest.contains('}') {
            return Err(NameError::Braces);
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// Returns the name that these claims give: each claim is a string that is not empty, without control characters.
    pub(super) fn of(&self, claims: &Map<String, Value>) -> Result<Arc<str>, TokenError> {
        let mut name = String::new();
        for part in &self.0 {
            let text = match part {
                Part::Text(text) => text,
                Part::Claim(claim) => claims.get(claim).and_then(Value::as_str).ok_or(TokenError::Name)?,
            };
            if text.is_empty() || text.contains(char::is_control) || name.len() + text.len() > MAX_NAME {
                return Err(TokenError::Name);
            }
            name.push_str(text);
        }
        Ok(name.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, claims: &str) -> Result<String, TokenError> {
        let claims = serde_json::from_str(claims).unwrap();
        PrincipalName::parse(name).unwrap().of(&claims).map(|name| name.to_string())
    }

    #[test]
    fn a_name_is_a_claim_or_claims_in_braces() {
        let claims = r#"{"repository":"acme/app","ref":"refs/heads/main"}"#;
        assert_eq!(of("repository", claims).unwrap(), "acme/app");
        assert_eq!(of("{repository}", claims).unwrap(), "acme/app");
        assert_eq!(of("{repository}@{ref}", claims).unwrap(), "acme/app@refs/heads/main");
        assert_eq!(of("gitlab/{repository}!", claims).unwrap(), "gitlab/acme/app!");
        assert_eq!(of("{repository}@{environment}", claims), Err(TokenError::Name));
    }

    #[test]
    fn a_claim_that_is_no_plain_string_gives_no_name() {
        let long = format!(r#"{{"sub":"{}"}}"#, "a".repeat(MAX_NAME + 1));
        for claims in [
            "{}",
            r#"{"sub":1}"#,
            r#"{"sub":null}"#,
            r#"{"sub":["a"]}"#,
            r#"{"sub":{"a":"b"}}"#,
            r#"{"sub":""}"#,
            r#"{"sub":"a\nb"}"#,
            r#"{"sub":"a\u0000"}"#,
            r#"{"sub":"a\u0085"}"#,
            &long,
        ] {
            assert_eq!(of("sub", claims), Err(TokenError::Name), "{claims}");
        }
        let longest = "a".repeat(MAX_NAME);
        assert_eq!(of("sub", &format!(r#"{{"sub":"{longest}"}}"#)).unwrap(), longest);
        // Each is short enough, both are not.
        assert_eq!(of("{sub}{sub}", &format!(r#"{{"sub":"{longest}"}}"#)), Err(TokenError::Name));
    }

    #[test]
    fn a_name_without_claims_or_with_single_braces_is_refused() {
        for (name, error) in [
            ("", NameError::NoClaim),
            ("{}", NameError::NoClaim),
            ("a{}", NameError::NoClaim),
            ("{a", NameError::Braces),
            ("a}", NameError::Braces),
            ("{a}}", NameError::Braces),
            ("}{a}", NameError::Braces),
            ("{{a}}", NameError::Braces),
        ] {
            assert_eq!(PrincipalName::parse(name), Err(error), "{name}");
        }
    }
}
