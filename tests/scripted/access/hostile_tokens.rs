//! Tokens that others made, and headers that carry more than one credential.

use std::fs;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use ring::hmac;
use serde_json::{Value, json};

use super::token_requests::{config, with_bearer, with_password};
use crate::support::http2_frames::{END_HEADERS, END_STREAM, HEADERS, RawHttp2, frame, request};
use crate::support::issuer::{AUDIENCE, Issuer, now, unsigned};
use crate::support::scratch;
use crate::support::server::Harmonia;
use crate::support::store_item::noise;

/// A private cache that takes tokens of an issuer.
fn start(issuer: &Issuer) -> Harmonia {
    start_with(&issuer.key_set())
}

fn start_with(key_set: &str) -> Harmonia {
    let file = scratch::fresh_dir().join("jwks");
    fs::write(&file, key_set).unwrap();
    Harmonia::start(&config(&format!("jwks_path = \"{}\"", file.display())))
}

/// Returns the claims of a valid token, of which one differs.
fn claims_with(claim: &str, value: Value) -> Value {
    let mut claims = json!({"iss": "https://issuer", "aud": AUDIENCE, "exp": now() + 300, "repository": "acme/app"});
    claims[claim] = value;
    claims
}

/// Asserts that a token is refused for this reason in either place, and that the response shows nothing of it.
fn assert_refused(harmonia: &Harmonia, token: &str, said: &str) {
    for response in [with_bearer(harmonia, token), with_password(harmonia, "jwt", token)] {
        assert_eq!(response.status, 401, "{said}: {}", response.text());
        assert!(response.text().starts_with(said), "{said}: {}", response.text());
        assert_eq!(response.text().lines().count(), 1);
        assert_eq!(response.header("cache-control"), Some("no-store"));
    }
}

#[test]
fn tokens_of_another_issuer_or_audience_or_time_are_refused() {
    let issuer = Issuer::new("1");
    let harmonia = start(&issuer);
    let header = json!({"alg": "ES256", "kid": "1"});
    let token = |claim: &str, value: Value| issuer.signed(&header, &claims_with(claim, value));
    assert_eq!(with_bearer(&harmonia, &token("x", json!(1))).status, 200);
    for (claim, value, said) in [
        ("iss", json!("https://issuer.evil"), "the token is of an issuer that is not configured here"),
        ("iss", json!("https://issuer/"), "the token is of an issuer that is not configured here"),
        ("iss", json!(["https://issuer"]), "the token is not a signed JWT: its iss is not a string"),
        ("aud", json!("https://cache.example.org.evil"), "the token is for another audience"),
        ("aud", json!(["https://other"]), "the token is for another audience"),
        ("aud", json!([]), "the token is for another audience"),
        ("aud", Value::Null, "the token is not a signed JWT: its aud is not a string"),
        ("exp", json!(now() - 1), "the token has expired"),
        ("exp", json!(now()), "the token has expired"),
        ("exp", Value::Null, "the token is not a signed JWT: its exp is not a time"),
        ("nbf", json!(now() + 300), "the token is not valid yet"),
        ("iat", json!(now() + 300), "the token is not valid yet"),
        ("repository", json!("acme/app\nX: y"), "the token lacks the claim"),
        ("repository", Value::Null, "the token lacks the claim"),
    ] {
        assert_refused(&harmonia, &token(claim, value), said);
    }
}

#[test]
fn a_token_that_is_not_signed_or_by_a_key_it_brings_along_is_refused() {
    let (issuer, other) = (Issuer::new("1"), Issuer::new("1"));
    let harmonia = start(&issuer);
    let claims = claims_with("x", json!(1));
    for alg in ["none", "None", "NONE", "nOnE"] {
        let text = unsigned(&json!({"alg": alg, "kid": "1"}), &claims);
        for token in [format!("{text}."), issuer.signed(&json!({"alg": alg, "kid": "1"}), &claims)] {
            assert_refused(&harmonia, &token, "the token is not signed by RS256, ES256 or EdDSA");
        }
    }
    let token = issuer.signed(&json!({"alg": "ES256", "kid": "1"}), &claims);
    let stripped = &token[..=token.rfind('.').unwrap()];
    assert_refused(&harmonia, stripped, "the token's signature is wrong");
    let key_set: Value = serde_json::from_str(&other.key_set()).unwrap();
    let header = json!({"alg": "ES256", "kid": "1", "jwk": key_set["keys"][0], "jku": "http://127.0.0.1:1/"});
    assert_refused(&harmonia, &other.signed(&header, &claims), "the token's signature is wrong");
}

#[test]
fn the_rsa_key_of_an_issuer_is_no_secret_of_hmac() {
    let mut modulus = noise(256);
    modulus[0] |= 0x80;
    modulus[255] |= 1;
    let text = BASE64URL_NOPAD.encode(&modulus);
    let key = json!({"kty": "RSA", "kid": "1", "n": text, "e": "AQAB"});
    let key_set = json!({"keys": [key]}).to_string();
    let harmonia = start_with(&key_set);
    let secrets = [modulus, text.into_bytes(), key.to_string().into_bytes(), key_set.into_bytes()];
    let claims = claims_with("x", json!(1));
    for (alg, hash, said) in [
        ("HS256", hmac::HMAC_SHA256, "the token is not signed by RS256, ES256 or EdDSA"),
        ("HS512", hmac::HMAC_SHA512, "the token is not signed by RS256, ES256 or EdDSA"),
        // The same tag under the name of the key's algorithm.
        ("RS256", hmac::HMAC_SHA256, "the token's signature is wrong"),
        ("ES256", hmac::HMAC_SHA256, "the token is signed by another algorithm than that of the key it names"),
    ] {
        for secret in &secrets {
            let text = unsigned(&json!({"alg": alg, "kid": "1"}), &claims);
            let tag = hmac::sign(&hmac::Key::new(hash, secret), text.as_bytes());
            let token = format!("{text}.{}", BASE64URL_NOPAD.encode(tag.as_ref()));
            assert_refused(&harmonia, &token, said);
        }
    }
}

#[test]
fn two_credentials_in_one_request_are_never_the_one_that_is_right() {
    let issuer = Issuer::new("1");
    let harmonia = start(&issuer);
    let right = format!("Bearer {}", issuer.token("acme/app", AUDIENCE, 300));
    let wrong = format!("Basic {}", BASE64.encode(b"alice:wrong"));
    assert_eq!(harmonia.http().get_with("/nix-cache-info", &[("Authorization", &right)]).status, 200);
    let http2 = |fields: &[(&str, &str)]| {
        let mut connection = RawHttp2::open(harmonia.address());
        let block = request("GET", "/nix-cache-info", fields);
        assert!(connection.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)));
        connection.finish().statuses()
    };
    assert_eq!(http2(&[("authorization", &right)]), [(1, 200)]);
    for (first, second) in [(&right, &wrong), (&wrong, &right), (&right, &right)] {
        let twice = [("Authorization", &**first), ("authorization", &**second)];
        assert_eq!(harmonia.http().get_with("/nix-cache-info", &twice).status, 400, "two headers");
        let listed = format!("{first}, {second}");
        assert_eq!(harmonia.http().get_with("/nix-cache-info", &[("Authorization", &listed)]).status, 401, "a list");
        // Folded into two lines, which RFC 9112 section 5.2 forbids.
        let folded = format!("GET / HTTP/1.1\r\nHost: h\r\nAuthorization: {first},\r\n {second}\r\n\r\n");
        assert_eq!(harmonia.http().request(folded.as_bytes()).unwrap().status, 400, "two lines");
        assert_eq!(http2(&[("authorization", first), ("authorization", second)]), [(1, 400)], "two fields");
        assert_eq!(http2(&[("authorization", &listed)]), [(1, 401)], "a list");
    }
    // A space before the colon hides the header from some.
    let raw = format!("GET / HTTP/1.1\r\nHost: h\r\nAuthorization : {right}\r\n\r\n");
    assert_eq!(harmonia.http().request(raw.as_bytes()).unwrap().status, 400);
}

#[test]
fn a_token_that_is_longer_than_a_head_is_refused_and_the_next_request_is_not() {
    let issuer = Issuer::new("1");
    let harmonia = start(&issuer);
    let padded = |length: usize| {
        let claims = claims_with("x", json!("a".repeat(length)));
        format!("Bearer {}", issuer.signed(&json!({"alg": "ES256", "kid": "1"}), &claims))
    };
    assert_eq!(harmonia.http().get_with("/", &[("Authorization", &padded(8000))]).status, 200);
    let mut connection = harmonia.http().connect().unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: h\r\nAuthorization: {}\r\n\r\n", padded(16 << 10));
    // The server may close before it has read all of it, and the response is lost then.
    let _ = connection.send(request.as_bytes());
    if let Ok(response) = connection.receive(false) {
        assert_eq!(response.status, 431);
    }
    assert_eq!(harmonia.http().get_with("/", &[("Authorization", &padded(10))]).status, 200);
}
