//! Signed tokens: JWS in compact serialization (RFC 7515 section 7.1) whose payload is a set of claims (RFC 7519).
//!
//! Parsing trusts nothing: what a token says is believed only when [`super::verifier`] has verified its signature.

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::claims::Claims;
use super::json;
use super::key_set::KeySet;
use super::token_error::TokenError;

/// Upper bound of a token, in bytes. Those of GitHub and GitLab have 1 to 2 KiB, and a request's head is not much longer.
pub const MAX_TOKEN: usize = 16 * 1024;

/// A token, whose signature was not verified yet.
#[derive(Debug)]
pub struct Token<'a> {
    algorithm: Algorithm,
    /// The key that it is signed with.
    kid: Option<String>,
    /// The claims.
    pub(super) claims: Claims,
    /// The bytes that are signed.
    signed: &'a [u8],
    signature: Vec<u8>,
}

impl<'a> Token<'a> {
    /// Parses a token. Unsecured and encrypted tokens are refused, and those with critical extensions.
    pub fn parse(text: &'a str) -> Result<Self, TokenError> {
        if text.len() > MAX_TOKEN {
            return Err(TokenError::TooLong);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenError::Malformed("it has one part"))?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed("it has two parts"))?;
        if claims.contains('.') {
            return Err(TokenError::Malformed("it has more than three parts"));
        }
        let header = object(header, "its header is not a JSON object")?;
        let algorithm = checked_algorithm(&header)?;
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err(TokenError::Malformed("its kid is not a string")),
        };
        Ok(Self {
            algorithm,
            kid,
            claims: Claims::new(object(claims, "its claims are not a JSON object")?)?,
            signed: signed.as_bytes(),
            signature: decode(signature).ok_or(TokenError::Malformed("its signature is not base64url"))?,
        })
    }

    /// Verifies the signature by one of these keys.
    pub fn verify_signature(&self, keys: &KeySet) -> Result<(), TokenError> {
        keys.verify(self.kid.as_deref(), self.algorithm, self.signed, &self.signature)
    }
}

/// Returns whether a password is meant as a token: it begins as an object in base64url does, and has three parts.
#[must_use]
pub(crate) fn is_token(password: &str) -> bool {
    password.starts_with("eyJ") && password.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// Returns the algorithm of a header that demands nothing else.
fn checked_algorithm(header: &Map<String, Value>) -> Result<Algorithm, TokenError> {
    // RFC 7515 section 4.1.11: what is critical and not understood makes the token invalid.
    if header.contains_key("crit") {
        return Err(TokenError::Malformed("it has critical extensions"));
    }
    if header.contains_key("enc") || header.contains_key("zip") {
        return Err(TokenError::Malformed("it is encrypted"));
    }
    // RFC 8725 section 3.11: a token made for something else is no credential.
    match header.get("typ") {
        None => {}
        Some(Value::String(kind)) if is_jwt(kind) => {}
        Some(_) => return Err(TokenError::Malformed("its typ is not JWT")),
    }
    header.get("alg").and_then(Value::as_str).and_then(Algorithm::from_name).ok_or(TokenError::Algorithm)
}

fn is_jwt(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    matches!(kind.strip_prefix("application/").unwrap_or(&kind), "jwt" | "at+jwt")
}

fn object(part: &str, otherwise: &'static str) -> Result<Map<String, Value>, TokenError> {
    decode(part).and_then(|bytes| json::parse_object(&bytes).ok()).ok_or(TokenError::Malformed(otherwise))
}

fn decode(part: &str) -> Option<Vec<u8>> {
    BASE64URL_NOPAD.decode(part.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(header: &str, claims: &str) -> Result<Algorithm, TokenError> {
        let [header, claims] = [header, claims].map(|part| BASE64URL_NOPAD.encode(part.as_bytes()));
        Token::parse(&format!("{header}.{claims}.AAAA")).map(|token| token.algorithm)
    }

    const CLAIMS: &str = r#"{"iss":"i","aud":"a","exp":1}"#;

    #[test]
    fn the_algorithm_is_one_of_three() {
        for (name, algorithm) in [("RS256", Algorithm::Rs256), ("ES256", Algorithm::Es256), ("EdDSA", Algorithm::EdDsa)]
        {
            assert_eq!(with(&format!(r#"{{"alg":"{name}","typ":"JWT"}}"#), CLAIMS), Ok(algorithm));
        }
        for alg in
            [r#""none""#, r#""None""#, r#""HS256""#, r#""PS256""#, r#""rs256""#, r#""RS512""#, r#""""#, "1", "null"]
        {
            assert_eq!(with(&format!(r#"{{"alg":{alg}}}"#), CLAIMS), Err(TokenError::Algorithm), "{alg}");
        }
        assert_eq!(with("{}", CLAIMS), Err(TokenError::Algorithm));
    }

    #[test]
    fn headers_that_demand_more_are_refused() {
        for header in [
            r#"{"alg":"RS256","crit":["exp"]}"#,
            r#"{"alg":"RS256","crit":[]}"#,
            r#"{"alg":"RS256","b64":false,"crit":["b64"]}"#,
            r#"{"alg":"RS256","enc":"A256GCM"}"#,
            r#"{"alg":"RS256","zip":"DEF"}"#,
            r#"{"alg":"RS256","kid":1}"#,
            r#"{"alg":"RS256","typ":"logout+jwt"}"#,
            r#"{"alg":"RS256","typ":1}"#,
            r#"{"alg":"none","alg":"RS256"}"#,
            r#"["RS256"]"#,
            "",
        ] {
            assert!(matches!(with(header, CLAIMS), Err(TokenError::Malformed(_))), "{header}");
        }
        for typ in ["JWT", "jwt", "at+jwt", "application/at+jwt"] {
            assert!(with(&format!(r#"{{"alg":"RS256","typ":"{typ}"}}"#), CLAIMS).is_ok(), "{typ}");
        }
    }

    #[test]
    fn only_three_parts_of_canonical_base64url_are_a_token() {
        let [header, claims] = [r#"{"alg":"RS256"}"#, CLAIMS].map(|part| BASE64URL_NOPAD.encode(part.as_bytes()));
        let whole = format!("{header}.{claims}.AAAA");
        assert!(Token::parse(&whole).is_ok() && is_token(&whole));
        for text in [
            String::new(),
            ".".to_owned(),
            "..".to_owned(),
            header.clone(),
            format!("{header}.{claims}"),
            format!("{whole}.AAAA"),
            // As an encrypted token has.
            format!("{whole}.AAAA.AAAA"),
            format!("{whole}="),
            format!("{whole} "),
            format!(" {whole}"),
            format!("{header}.{claims}.AB"),
            format!("{header}.{claims}.++++"),
            format!("{header}\n.{claims}.AAAA"),
        ] {
            assert!(matches!(Token::parse(&text), Err(TokenError::Malformed(_))), "{text:?}");
        }
        for end in 0..whole.len() - 5 {
            assert!(Token::parse(&whole[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn a_token_is_as_long_as_16_kib_at_most() {
        let [header, claims] = [r#"{"alg":"RS256"}"#, CLAIMS].map(|part| BASE64URL_NOPAD.encode(part.as_bytes()));
        let front = format!("{header}.{claims}.");
        let padded = |length: usize| format!("{front}{}", "A".repeat(length - front.len()));
        // Four more characters are three more bytes of signature.
        let longest = MAX_TOKEN - (MAX_TOKEN - front.len()) % 4;
        assert!(Token::parse(&padded(longest)).is_ok());
        assert_eq!(Token::parse(&padded(longest + 4)).unwrap_err(), TokenError::TooLong);
    }
}
