//! Claims of a token (RFC 7519 section 4.1).

use serde_json::{Map, Value};

use super::token_error::TokenError;

/// Time by which clocks of issuers may be ahead of ours, in seconds. It applies to the beginning of a token's validity only:
/// a token that has expired is refused at once.
const LEEWAY: u64 = 30;

/// Claims of a token, with those that decide about it parsed.
#[derive(Debug)]
pub(super) struct Claims {
    /// All claims.
    pub(super) all: Map<String, Value>,
    /// The second at which the token expires, in Unix time.
    pub(super) expiry: u64,
    /// The second before which the token is not valid, in Unix time; 0 if it does not say.
    not_before: u64,
    audiences: Vec<String>,
}

impl Claims {
    /// Parses the claims. Those that decide must be there: the issuer, the audience and the expiry.
    pub(super) fn new(all: Map<String, Value>) -> Result<Self, TokenError> {
        if !matches!(all.get("iss"), Some(Value::String(_))) {
            return Err(TokenError::Malformed("its iss is not a string"));
        }
        let audiences = match all.get("aud") {
            Some(Value::String(audience)) => vec![audience.clone()],
            Some(Value::Array(audiences)) => {
                let texts: Option<_> = audiences.iter().map(|it| it.as_str().map(str::to_owned)).collect();
                texts.ok_or(TokenError::Malformed("its aud is not an array of strings"))?
            }
            _ => return Err(TokenError::Malformed("its aud is not a string")),
        };
        let expiry = match all.get("exp") {
            Some(value) => second(value, f64::floor).ok_or(TokenError::Malformed("its exp is not a time"))?,
            None => return Err(TokenError::Malformed("it has no exp")),
        };
        let mut not_before = 0;
        for claim in ["nbf", "iat"] {
            if let Some(value) = all.get(claim) {
                let time = second(value, f64::ceil).ok_or(TokenError::Malformed("its nbf or iat is not a time"))?;
                not_before = not_before.max(time);
            }
        }
        Ok(Self { all, expiry, not_before, audiences })
    }

    /// Returns whether the issuer is this one, byte by byte.
    pub(super) fn is_of(&self, issuer: &str) -> bool {
        self.all.get("iss").and_then(Value::as_str) == Some(issuer)
    }

    /// Checks that the token is valid in this second of Unix time.
    pub(super) fn check_time(&self, now: u64) -> Result<(), TokenError> {
        if now >= self.expiry {
            return Err(TokenError::Expired);
        }
        if now.saturating_add(LEEWAY) < self.not_before {
            return Err(TokenError::NotYetValid);
        }
        Ok(())
    }

    /// Checks that the token is for this audience.
    pub(super) fn check_audience(&self, audience: &str) -> Result<(), TokenError> {
        if self.audiences.iter().any(|it| it == audience) { Ok(()) } else { Err(TokenError::Audience) }
    }
}

/// Returns a NumericDate as whole seconds.
fn second(value: &Value, round: fn(f64) -> f64) -> Option<u64> {
    let Value::Number(number) = value else { return None };
    if let Some(second) = number.as_u64() {
        return Some(second);
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time beyond the range is its end")]
    number.as_f64().filter(|seconds| *seconds >= 0.0).map(|seconds| round(seconds) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn claims(more: &str) -> Result<Claims, TokenError> {
        Claims::new(serde_json::from_str(&format!(r#"{{"iss":"i",{more}}}"#)).unwrap())
    }

    fn at(now: u64, times: &str) -> Result<(), TokenError> {
        claims(&format!(r#""aud":"a",{times}"#))?.check_time(now)
    }

    #[test]
    fn a_token_expires_in_the_second_of_its_exp() {
        let exp = format!(r#""exp":{NOW}"#);
        assert_eq!(at(NOW - 1, &exp), Ok(()));
        assert_eq!(at(NOW, &exp), Err(TokenError::Expired));
        assert_eq!(at(NOW + 1, &exp), Err(TokenError::Expired));
        let exp = format!(r#""exp":{NOW}.9"#);
        assert_eq!((at(NOW - 1, &exp), at(NOW, &exp)), (Ok(()), Err(TokenError::Expired)));
        assert_eq!(at(u64::MAX - 1, r#""exp":1e300"#), Ok(()));
        assert_eq!(at(0, r#""exp":0"#), Err(TokenError::Expired));
    }

    #[test]
    fn nbf_and_iat_may_be_ahead_by_the_leeway() {
        for claim in ["nbf", "iat"] {
            let ahead = |by: u64| at(NOW, &format!(r#""exp":{},"{claim}":{}"#, NOW + 600, NOW + by));
            assert_eq!(ahead(LEEWAY), Ok(()));
            assert_eq!(ahead(LEEWAY + 1), Err(TokenError::NotYetValid));
        }
        assert_eq!(at(NOW, r#""exp":1e300,"nbf":1e299"#), Err(TokenError::NotYetValid));
    }

    #[test]
    fn times_are_numbers_and_an_expiry_is_needed() {
        for times in [
            r#""x":1"#,
            r#""exp":"1900000000""#,
            r#""exp":null"#,
            r#""exp":true"#,
            r#""exp":-1"#,
            r#""exp":[1900000000]"#,
            r#""exp":1900000000,"nbf":"1""#,
            r#""exp":1900000000,"iat":null"#,
            r#""exp":1900000000,"iat":-1"#,
        ] {
            assert!(matches!(at(NOW, times), Err(TokenError::Malformed(_))), "{times}");
        }
    }

    #[test]
    fn an_audience_is_compared_whole() {
        let of =
            |aud: &str| claims(&format!(r#""aud":{aud},"exp":1"#)).map(|it| it.check_audience("https://a").is_ok());
        assert_eq!(of(r#""https://a""#), Ok(true));
        assert_eq!(of(r#"["https://b","https://a"]"#), Ok(true));
        for other in [r#""https://a/""#, r#""https://A""#, r#""https://a b""#, r#""""#, "[]", r#"["https://b"]"#] {
            assert_eq!(of(other), Ok(false), "{other}");
        }
        for malformed in ["1", "null", "{}", r#"["https://a",1]"#, r#"[["https://a"]]"#] {
            assert!(of(malformed).is_err(), "{malformed}");
        }
        assert!(claims(r#""exp":1"#).is_err());
    }

    #[test]
    fn an_issuer_is_compared_whole() {
        let claims = claims(r#""aud":"a","exp":1"#).unwrap();
        assert!(claims.is_of("i") && !claims.is_of("I") && !claims.is_of("i/") && !claims.is_of(""));
        assert!(Claims::new(serde_json::from_str(r#"{"iss":["i"],"aud":"a","exp":1}"#).unwrap()).is_err());
    }
}
