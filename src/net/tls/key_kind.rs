//! Describes an unsupported private key in an error message.
//!
//! Reads only the object identifiers (X.690) at the start of a key, so that nothing secret gets into the message.

/// Bytes from the start that contain the identifiers of algorithm and curve; in SEC 1 they follow the secret number.
const HEADER_LENGTH: usize = 128;

/// Kinds by the encoding of their identifiers, curves first.
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

/// Returns the kind of an unsupported key in DER, with an article.
pub(super) fn describe(der: &[u8]) -> &'static str {
    let beginning = &der[..der.len().min(HEADER_LENGTH)];
    let kind = KINDS.iter().find(|(name, _)| beginning.windows(name.len()).any(|bytes| bytes == *name));
    kind.map_or("something else", |(_, kind)| kind)
}

/// Returns the first label in a PEM file without a supported key, or `None` if it has none.
pub(super) fn pem_label(pem: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(pem);
    let labels = text.lines().filter_map(|line| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----"));
    let plain = |label: &&str| label.len() < 40 && label.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b' ');
    labels.filter(plain).find(|label| *label != "EC PARAMETERS").map(str::to_owned)
}
