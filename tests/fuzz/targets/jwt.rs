//! Tokens and key sets: what is parsed keeps the limits, and no other bytes than those that were signed verify.

use std::sync::LazyLock;

use harmonia::access::jwt::key_set::{KeySet, MAX_KEY_SET};
use harmonia::access::jwt::token::{MAX_TOKEN, Token};

use super::Parameters;

/// A key set, and a token that its key signed. The private key is gone.
const KEYS: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"1","x":"YyKjHsseE6vMg-4HNvIQGjbVFm2eEdDqK-mcXlyatvg"}]}"#;
const TOKEN: &str = "eyJhbGciOiJFZERTQSIsImtpZCI6IjEifQ.eyJpc3MiOiJpIiwiYXVkIjpbImEiXSwiZXhwIjoxODAwMDAwMDAwLCJuYmYiOjEuNSwic3ViIjoieCJ9.2AhsQxEy0i_yH3NlidYlKxWuADUqfAAI17-ABaRNw8FqzUQsCQWDcqA7AswCazSzHTGgulZtQLRUiiGypXkOAg";

static KEY_SET: LazyLock<KeySet> = LazyLock::new(|| KeySet::parse(KEYS.as_bytes()).expect("a key set"));

pub(super) fn property(input: &[u8]) {
    let mut parameters = Parameters(input);
    match parameters.byte() % 3 {
        0 => of_a_token(parameters.rest()),
        1 => of_a_key_set(parameters.rest()),
        _ => of_a_changed_token(parameters),
    }
}

fn of_a_token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(token) = Token::parse(text) else { return };
    assert!(text.len() <= MAX_TOKEN);
    let parts: Vec<_> = text.split('.').collect();
    assert_eq!(parts.len(), 3, "{text:?}");
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    assert!(parts.iter().all(|part| part.bytes().all(is_base64url)), "{text:?}");
    assert_eq!(token.verify_signature(&KEY_SET).is_ok(), text == TOKEN, "{text:?}");
}

fn of_a_key_set(bytes: &[u8]) {
    let Ok(keys) = KeySet::parse(bytes) else { return };
    assert!(bytes.len() <= MAX_KEY_SET);
    assert!((1..=100).contains(&keys.count()), "{} keys", keys.count());
    // Only the key that signed it verifies the token, under whatever name.
    if let Ok(token) = Token::parse(TOKEN) {
        let verified = token.verify_signature(&keys).is_ok();
        let point = KEYS.rsplit('"').nth(1).expect("the value of x");
        let escaped = bytes.contains(&b'\\');
        assert!(!verified || escaped || bytes.windows(point.len()).any(|it| it == point.as_bytes()));
    }
}

/// Replaces a stretch of the token by other bytes.
fn of_a_changed_token(mut parameters: Parameters<'_>) {
    let start = usize::from(parameters.byte()) % TOKEN.len();
    let end = TOKEN.len().min(start + usize::from(parameters.byte()));
    let Ok(text) = std::str::from_utf8(parameters.rest()) else { return };
    let changed = format!("{}{text}{}", &TOKEN[..start], &TOKEN[end..]);
    let verified = Token::parse(&changed).is_ok_and(|token| token.verify_signature(&KEY_SET).is_ok());
    assert_eq!(verified, changed == TOKEN, "{changed:?}");
}
