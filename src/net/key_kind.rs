//! The kinds of private keys, to tell an operator which one was found where another is wanted.
//!
//! Reads no more than the names of things (object identifiers, X.690) at the beginning of a key: nothing secret gets from here
//! into a message.

/// Where the names of algorithm and curve are, in bytes from the start: behind the secret number in SEC 1.
const NAMES_WITHIN: usize = 128;

/// By the encoding of their names, those of curves first.
const KINDS: [(&[u8], &str); 11] = [
    (b"\x06\x05\x2b\x81\x04\x00\x23", "an ECDSA key over P-521"),
    (b"\x06\x05\x2b\x81\x04\x00\x0a", "an ECDSA key over secp256k1"),
    (b"\x06\x09\x2b\x24\x03\x03\x02\x08\x01\x01", "an ECDSA key over a Brainpool curve"),
    (b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01", "an ECDSA key over another curve"),
    (b"\x06\x03\x2b\x65\x71", "an Ed448 key"),
    (b"\x06\x03\x2b\x65\x6e", "an X25519 key, which cannot sign"),
    (b"\x06\x03\x2b\x65\x6f", "an X448 key, which cannot sign"),
    (b"\x06\x07\x2a\x86\x48\xce\x38\x04\x01", "a DSA key"),
    (b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a", "an RSA-PSS key"),
    (RSA, "an RSA key of another size"),
    (b"\x02\x01\x00\x02", "an RSA key of another size"),
];
const RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";

/// The kind of a key in DER that is none of those that are taken.
pub(super) fn of_refused(der: &[u8]) -> &'static str {
    let beginning = &der[..der.len().min(NAMES_WITHIN)];
    let kind = KINDS.iter().find(|(name, _)| beginning.windows(name.len()).any(|bytes| bytes == *name));
    kind.map_or("something else", |(_, kind)| kind)
}

/// The label of what is in a PEM file without a private key that can be read; nothing if there is nothing.
pub(super) fn label(pem: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(pem);
    let labels = text.lines().filter_map(|line| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----"));
    let plain = |label: &&str| label.len() < 40 && label.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b' ');
    labels.filter(plain).find(|label| *label != "EC PARAMETERS").map(str::to_owned)
}
