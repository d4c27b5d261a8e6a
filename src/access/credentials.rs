//! Credentials in the header `Authorization`: `Basic` (RFC 7617) and `Bearer` (RFC 6750).

use std::fmt;

use data_encoding::BASE64;

/// Limit of the header's value, in bytes: a token of 16 KiB as a password in base64, and a name.
const MAX_VALUE: usize = 24 << 10;
/// Limit of a user's name, in bytes.
const MAX_NAME: usize = 256;

/// Credentials as a client sent them.
#[derive(PartialEq, Eq)]
pub enum Credentials {
    /// Name and password. The password may be a token.
    Basic {
        /// Name, which may be empty.
        name: String,
        /// Password.
        password: String,
    },
    /// Token.
    Bearer(String),
}

/// Shows no secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Credentials::Basic",
            Self::Bearer(_) => "Credentials::Bearer",
        })
    }
}

/// Reason why a value is no credentials. Shows nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Longer than credentials are.
    #[error("the Authorization header is too long")]
    TooLong,
    /// Another scheme.
    #[error("the Authorization header is neither Basic nor Bearer")]
    Scheme,
    /// Not base64 of a name, a colon and a password, in UTF-8 without control characters.
    #[error("the Authorization header has no name and password")]
    Basic,
    /// Not a token.
    #[error("the Authorization header has no token")]
    Bearer,
}

impl Credentials {
    /// Parses the value of the header.
    pub fn parse(value: &[u8]) -> Result<Self, CredentialsError> {
        if value.len() > MAX_VALUE {
            return Err(CredentialsError::TooLong);
        }
        let (scheme, rest) = value.split_at(value.iter().position(|byte| *byte == b' ').unwrap_or(value.len()));
        let argument = rest.trim_ascii();
        if scheme.eq_ignore_ascii_case(b"basic") {
            basic(argument).ok_or(CredentialsError::Basic)
        } else if scheme.eq_ignore_ascii_case(b"bearer") {
            bearer(argument).ok_or(CredentialsError::Bearer)
        } else {
            Err(CredentialsError::Scheme)
        }
    }
}

fn basic(argument: &[u8]) -> Option<Credentials> {
    // The decoder also takes texts that are encoded one after the other, each with its padding, where others stop at the first.
    if argument.split(|byte| *byte == b'=').skip(1).any(|after| !after.is_empty()) {
        return None;
    }
    let text = String::from_utf8(BASE64.decode(argument).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    let is_plain = name.len() <= MAX_NAME && !text.chars().any(char::is_control);
    is_plain.then(|| Credentials::Basic { name: name.to_owned(), password: password.to_owned() })
}

/// Parses the `b64token` of RFC 6750.
fn bearer(argument: &[u8]) -> Option<Credentials> {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    let text = std::str::from_utf8(argument).ok()?;
    (!text.is_empty() && argument.iter().all(is_token)).then(|| Credentials::Bearer(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &[u8]) -> Vec<u8> {
        [b"Basic ".as_slice(), BASE64.encode(text).as_bytes()].concat()
    }

    #[test]
    fn names_passwords_and_tokens_are_taken_apart() {
        let basic =
            |name: &str, password: &str| Ok(Credentials::Basic { name: name.into(), password: password.into() });
        assert_eq!(Credentials::parse(&encoded(b"alice:pass")), basic("alice", "pass"));
        assert_eq!(Credentials::parse(&encoded(b"a:b:c")), basic("a", "b:c"));
        assert_eq!(Credentials::parse(&encoded(":é".as_bytes())), basic("", "é"));
        assert_eq!(Credentials::parse(b"bAsIc  YTpi "), basic("a", "b"));
        assert_eq!(Credentials::parse(b"bearer a.b-c_d=="), Ok(Credentials::Bearer("a.b-c_d==".into())));
    }

    #[test]
    fn anything_else_is_an_error_that_shows_nothing() {
        let long = [b"Bearer ".as_slice(), &vec![b'a'; MAX_VALUE]].concat();
        for (value, error) in [
            (&b""[..], CredentialsError::Scheme),
            (b"Digest secret", CredentialsError::Scheme),
            (b"Basic", CredentialsError::Basic),
            (b"Basic secret", CredentialsError::Basic),
            (b"Basic YTpi=", CredentialsError::Basic),
            (b"Basic YQ==OmI=", CredentialsError::Basic),
            (b"Basic YT\npi", CredentialsError::Basic),
            (&encoded(b"nocolon"), CredentialsError::Basic),
            (&encoded(b"a:b\0"), CredentialsError::Basic),
            (&encoded(b"a\n:b"), CredentialsError::Basic),
            (&encoded(b"\xff:b"), CredentialsError::Basic),
            (&encoded(&[&[b'a'; MAX_NAME + 1], &b":b"[..]].concat()), CredentialsError::Basic),
            (b"Bearer ", CredentialsError::Bearer),
            (b"Bearer a b", CredentialsError::Bearer),
            (b"Bearer \xff", CredentialsError::Bearer),
            (&long, CredentialsError::TooLong),
        ] {
            assert_eq!(Credentials::parse(value), Err(error), "{:?}", String::from_utf8_lossy(value));
            assert!(!error.to_string().contains("secret"));
        }
        let shown = format!("{:?}", Credentials::parse(&encoded(b"alice:pass")));
        assert!(!shown.contains("alice") && !shown.contains("pass"), "{shown}");
    }
}
