//! `Authorization`: what is accepted is one name and password, or one token, in its only spelling.

use data_encoding::BASE64;
use harmonia::access::credentials::Credentials;

/// Maximum length of a name, in bytes.
const MAX_NAME: usize = 256;

pub(super) fn property(input: &[u8]) {
    let Ok(credentials) = Credentials::parse(input) else { return };
    let (scheme, argument) = match &credentials {
        Credentials::Basic { name, password } => {
            assert!(!name.contains(':') && name.len() <= MAX_NAME, "{name:?}");
            let text = format!("{name}:{password}");
            assert!(!text.chars().any(char::is_control), "{text:?}");
            ("basic ", BASE64.encode(text.as_bytes()))
        }
        Credentials::Bearer(token) => {
            assert!(
                !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic() && byte != b','),
                "{token:?}"
            );
            ("bearer ", token.clone())
        }
    };
    let (front, rest) = input.split_at(scheme.len());
    assert!(front.eq_ignore_ascii_case(scheme.as_bytes()));
    assert_eq!(rest.trim_ascii(), argument.as_bytes());
    let shown = format!("{credentials:?}");
    assert!(shown == "Credentials::Basic" || shown == "Credentials::Bearer", "{shown}");
    // Two in one value are none, since a proxy may have believed the other.
    for separator in [&b", "[..], b",", b" ", b"\n", b"\0"] {
        assert!(Credentials::parse(&[input, separator, input].concat()).is_err(), "{separator:?}");
    }
}
