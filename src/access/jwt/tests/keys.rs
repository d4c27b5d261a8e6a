//! Which keys of a key set are used.

use std::slice;

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use super::issuer::{Signer, key_set};
use crate::access::jwt::key_set::{KeySet, KeySetError, MAX_KEY_SET};

fn count(keys: &[Value]) -> usize {
    match KeySet::parse(key_set(keys).as_bytes()) {
        Ok(keys) => keys.count(),
        Err(KeySetError::NoKeys(_)) => 0,
        Err(error) => panic!("{error}"),
    }
}

fn with(mut jwk: Value, member: &str, value: impl Into<Value>) -> Value {
    jwk[member] = value.into();
    jwk
}

#[test]
fn keys_for_signatures_by_the_three_algorithms_are_used_and_others_left_out() {
    let rsa = || Signer::rsa().jwk(Some("1"));
    let p256 = || Signer::p256().jwk(Some("1"));
    let ed25519 = || Signer::ed25519().jwk(Some("1"));
    for usable in [
        with(rsa(), "use", "sig"),
        with(rsa(), "alg", "RS256"),
        with(rsa(), "key_ops", json!(["verify"])),
        // As GitHub publishes it.
        with(with(rsa(), "x5t", "xyz"), "x5c", json!(["MII"])),
        with(p256(), "alg", "ES256"),
        with(ed25519(), "alg", "EdDSA"),
        with(ed25519(), "alg", "Ed25519"),
    ] {
        assert_eq!(count(slice::from_ref(&usable)), 1, "{usable}");
    }
    for unusable in [
        json!(1),
        json!({}),
        json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}),
        with(rsa(), "use", "enc"),
        with(rsa(), "use", 1),
        with(rsa(), "alg", "RS512"),
        with(rsa(), "alg", "ES256"),
        with(rsa(), "alg", "RSA-OAEP"),
        with(rsa(), "alg", 1),
        with(rsa(), "key_ops", json!(["encrypt"])),
        with(rsa(), "kid", 1),
        with(rsa(), "d", "AAAA"),
        with(rsa(), "n", "AAAA"),
        with(rsa(), "n", "not base64url"),
        with(rsa(), "e", ""),
        with(rsa(), "e", "AAAA"),
        with(rsa(), "kty", "EC"),
        with(p256(), "crv", "P-384"),
        with(p256(), "crv", "secp256k1"),
        with(p256(), "x", BASE64URL_NOPAD.encode(&[1; 31])),
        with(p256(), "y", BASE64URL_NOPAD.encode(&[1; 33])),
        with(ed25519(), "crv", "X25519"),
        with(ed25519(), "x", BASE64URL_NOPAD.encode(&[1; 31])),
    ] {
        assert_eq!(count(slice::from_ref(&unusable)), 0, "{unusable}");
        assert_eq!(count(&[unusable, p256()]), 1);
    }
}

#[test]
fn an_rsa_key_has_2048_to_8192_bits() {
    let of = |bits: usize| {
        let mut modulus = vec![0xff; bits.div_ceil(8)];
        modulus[0] = if bits % 8 == 0 { 0xff } else { (1 << (bits % 8)) - 1 };
        let padded: Vec<u8> = [&[0, 0], modulus.as_slice()].concat();
        [modulus, padded].map(|n| count(&[json!({"kty": "RSA", "n": BASE64URL_NOPAD.encode(&n), "e": "AQAB"})]))
    };
    for (bits, usable) in [(512, 0), (1024, 0), (2047, 0), (2048, 1), (4096, 1), (8192, 1), (8193, 0), (16384, 0)] {
        assert_eq!(of(bits), [usable; 2], "{bits}");
    }
}

#[test]
fn a_key_set_is_bounded_and_one_object() {
    let jwk = Signer::p256().jwk(None);
    assert_eq!(count(&vec![jwk.clone(); 100]), 100);
    assert!(matches!(KeySet::parse(key_set(&vec![jwk.clone(); 101]).as_bytes()), Err(KeySetError::TooMany)));
    let padded = |length: usize| {
        let mut text = key_set(slice::from_ref(&jwk)).into_bytes();
        text.resize(length, b' ');
        KeySet::parse(&text)
    };
    assert!(padded(MAX_KEY_SET).is_ok());
    assert!(matches!(padded(MAX_KEY_SET + 1), Err(KeySetError::TooLong)));
    for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#, "<html>", r#"{"keys":[]}x"#] {
        assert!(KeySet::parse(text.as_bytes()).is_err(), "{text}");
    }
    let twice = key_set(&[jwk]).replace("\"kty\"", "\"kty\":\"RSA\",\"kty\"");
    assert!(matches!(KeySet::parse(twice.as_bytes()), Err(KeySetError::Json(_))));
    let whole = key_set(&[Signer::rsa().jwk(None)]);
    assert!((0..whole.len()).all(|end| KeySet::parse(&whole.as_bytes()[..end]).is_err()));
}
