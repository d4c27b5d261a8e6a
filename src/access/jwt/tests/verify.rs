//! Which tokens give a name.

use std::fs;
use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use super::issuer::{AUDIENCE, ISSUER, NOW, Signer, claims, claims_with, key_set, signed};
use crate::access::jwt::token_error::TokenError;
use crate::access::jwt::verifier::JwtVerifier;
use crate::config::{JwksSource, JwtConfig};

/// Returns the configuration of an issuer whose keys are in a new file of this directory.
fn config(directory: &tempfile::TempDir, issuer: &str, audience: &str, name: &str, keys: &[Value]) -> JwtConfig {
    let path = directory.path().join(format!("{}.json", fs::read_dir(directory).unwrap().count()));
    fs::write(&path, key_set(keys)).unwrap();
    JwtConfig {
        issuer: issuer.to_owned(),
        audience: audience.to_owned(),
        keys: JwksSource::Path(path),
        name: name.to_owned(),
    }
}

fn verifier(keys: &[Value]) -> JwtVerifier {
    let directory = tempfile::tempdir().unwrap();
    let config = config(&directory, ISSUER, AUDIENCE, "repository", keys);
    JwtVerifier::load(&[config], None, None).unwrap()
}

fn verify(verifier: &JwtVerifier, token: &str) -> Result<String, TokenError> {
    verifier.verify_at(token, NOW).map(|name| name.to_string())
}

#[test]
fn a_token_by_each_kind_of_key_gives_the_name_of_its_claim() {
    for signer in Signer::all() {
        for kid in [Some("1"), None] {
            let verifier = verifier(&[signer.jwk(Some("0")), signer.jwk(kid)]);
            let token = signer.token(kid, &claims());
            assert_eq!(verify(&verifier, &token).as_deref(), Ok("acme/app"), "{}", signer.algorithm());
            // And from memory.
            assert_eq!(verify(&verifier, &token).as_deref(), Ok("acme/app"));
        }
    }
}

#[test]
fn any_changed_character_is_refused() {
    for signer in Signer::all() {
        let verifier = verifier(&[signer.jwk(Some("1"))]);
        let token = signer.token(Some("1"), &claims());
        for position in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[position] = if changed[position] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(verify(&verifier, &changed).is_err(), "{position}");
            assert!(verify(&verifier, &token[..position]).is_err(), "{position}");
        }
        for changed in [format!("{token}A"), format!("{token}AAAA"), format!("{token}\n"), format!("{token}.")] {
            assert!(verify(&verifier, &changed).is_err(), "{changed:?}");
        }
        assert!(verify(&verifier, &token).is_ok());
    }
}

#[test]
fn an_unsecured_token_is_refused() {
    let signer = Signer::rsa();
    let verifier = verifier(&[signer.jwk(Some("1"))]);
    for alg in ["none", "None", "NONE", ""] {
        let unsecured = signed(&json!({"alg": alg, "kid": "1"}), &claims());
        assert_eq!(verify(&verifier, &format!("{unsecured}.")), Err(TokenError::Algorithm));
        // With a right signature, too.
        let token = signer.token_with(&json!({"alg": alg, "kid": "1"}), &claims());
        assert_eq!(verify(&verifier, &token), Err(TokenError::Algorithm));
    }
    let token = signer.token(Some("1"), &claims());
    let unsigned = &token[..=token.rfind('.').unwrap()];
    assert_eq!(verify(&verifier, unsigned), Err(TokenError::Signature));
}

#[test]
fn a_public_key_is_no_shared_secret() {
    let signer = Signer::rsa();
    let verifier = verifier(&[signer.jwk(Some("1"))]);
    let jwk = signer.jwk(Some("1"));
    let secrets = [signer.modulus(), jwk["n"].as_str().unwrap().into(), jwk.to_string().into_bytes()];
    for (alg, hash) in [("HS256", ring::hmac::HMAC_SHA256), ("HS512", ring::hmac::HMAC_SHA512)] {
        for secret in &secrets {
            let text = signed(&json!({"alg": alg, "kid": "1"}), &claims());
            let tag = ring::hmac::sign(&ring::hmac::Key::new(hash, secret), text.as_bytes());
            let tag = BASE64URL_NOPAD.encode(tag.as_ref());
            assert_eq!(verify(&verifier, &format!("{text}.{tag}")), Err(TokenError::Algorithm));
            // Or under the name of the key's own algorithm.
            let renamed = signed(&json!({"alg": "RS256", "kid": "1"}), &claims());
            assert_eq!(verify(&verifier, &format!("{renamed}.{tag}")), Err(TokenError::Signature));
        }
    }
}

#[test]
fn the_algorithm_is_that_of_the_key() {
    let signers = Signer::all();
    let kids = ["0", "1", "2"];
    let keys: Vec<_> = signers.iter().zip(kids).map(|(signer, kid)| signer.jwk(Some(kid))).collect();
    let verifier = verifier(&keys);
    for signer in &signers {
        for (other, kid) in signers.iter().zip(kids) {
            let token = signer.token_with(&json!({"alg": other.algorithm(), "kid": kid}), &claims());
            let is_own = signer.algorithm() == other.algorithm();
            let expected = if is_own { Ok("acme/app".to_owned()) } else { Err(TokenError::Signature) };
            assert_eq!(verify(&verifier, &token), expected);
            let token = signer.token(Some(kid), &claims());
            let expected = if is_own { Ok("acme/app".to_owned()) } else { Err(TokenError::KeyAlgorithm) };
            assert_eq!(verify(&verifier, &token), expected);
        }
    }
}

#[test]
fn a_key_in_the_token_is_not_used() {
    let (signer, other) = (Signer::p256(), Signer::p256());
    let verifier = verifier(&[signer.jwk(Some("1"))]);
    let header = json!({"alg": "ES256", "kid": "1", "jwk": other.jwk(Some("1")), "jku": "https://evil.example.org/"});
    assert_eq!(verify(&verifier, &other.token_with(&header, &claims())), Err(TokenError::Signature));
}

#[test]
fn a_kid_selects_and_without_one_a_few_keys_are_tried() {
    let signer = Signer::p256();
    let others: Vec<_> = (0..8).map(|_| Signer::p256()).collect();
    let mut keys: Vec<_> = others.iter().take(7).map(|other| other.jwk(None)).collect();
    keys.extend((0..50).map(|kid| Signer::ed25519().jwk(Some(&kid.to_string()))));
    keys.push(signer.jwk(Some("mine")));
    let with_eight = verifier(&keys);
    assert!(verify(&with_eight, &signer.token(None, &claims())).is_ok());
    assert!(verify(&with_eight, &signer.token(Some("mine"), &claims())).is_ok());
    assert_eq!(verify(&with_eight, &signer.token(Some("other"), &claims())), Err(TokenError::UnknownKey));
    assert_eq!(verify(&with_eight, &signer.token(Some(""), &claims())), Err(TokenError::UnknownKey));
    assert_eq!(verify(&with_eight, &others[7].token(None, &claims())), Err(TokenError::Signature));
    assert_eq!(verify(&with_eight, &Signer::rsa().token(None, &claims())), Err(TokenError::UnknownKey));
    keys.push(others[7].jwk(None));
    let with_nine = verifier(&keys);
    assert_eq!(verify(&with_nine, &signer.token(None, &claims())), Err(TokenError::AmbiguousKey));
    assert!(verify(&with_nine, &signer.token(Some("mine"), &claims())).is_ok());
}

#[test]
fn claims_decide_and_are_compared_whole() {
    let signer = Signer::ed25519();
    let verifier = verifier(&[signer.jwk(None)]);
    for (claim, value, expected) in [
        ("iss", json!("https://issuer.example.org/"), Err(TokenError::Issuer)),
        ("iss", json!("https://evil.example.org"), Err(TokenError::Issuer)),
        ("aud", json!("https://cache.example.org/"), Err(TokenError::Audience)),
        ("aud", json!(["https://other.example.org"]), Err(TokenError::Audience)),
        ("aud", json!([]), Err(TokenError::Audience)),
        ("aud", json!(["https://other.example.org", AUDIENCE]), Ok(())),
        ("exp", json!(NOW + 1), Ok(())),
        ("exp", json!(NOW), Err(TokenError::Expired)),
        ("exp", json!(NOW - 1), Err(TokenError::Expired)),
        ("nbf", json!(NOW + 30), Ok(())),
        ("nbf", json!(NOW + 31), Err(TokenError::NotYetValid)),
        ("iat", json!(NOW + 31), Err(TokenError::NotYetValid)),
        ("nbf", Value::Null, Ok(())),
        ("iat", Value::Null, Ok(())),
        ("repository", Value::Null, Err(TokenError::Name)),
        ("repository", json!(["acme/app"]), Err(TokenError::Name)),
        ("repository", json!("acme/app\n127.0.0.1 GET"), Err(TokenError::Name)),
        ("repository", json!("a".repeat(10_000)), Err(TokenError::Name)),
    ] {
        let token = signer.token(None, &claims_with(claim, &value));
        assert_eq!(verify(&verifier, &token).map(drop), expected, "{claim} {value}");
    }
    for claim in ["iss", "aud", "exp"] {
        let token = signer.token(None, &claims_with(claim, &Value::Null));
        assert!(matches!(verify(&verifier, &token), Err(TokenError::Malformed(_))), "{claim}");
    }
    let huge = signer.token(None, &claims_with("x", &json!("a".repeat(20_000))));
    assert_eq!(verify(&verifier, &huge), Err(TokenError::TooLong));
}

#[test]
fn a_remembered_token_expires_to_the_second() {
    let signer = Signer::rsa();
    let verifier = verifier(&[signer.jwk(None)]);
    let token = signer.token(None, &claims());
    for (now, expected) in
        [(NOW, Ok(())), (NOW + 299, Ok(())), (NOW + 300, Err(TokenError::Expired)), (NOW + 299, Ok(()))]
    {
        assert_eq!(verifier.verify_at(&token, now).map(drop), expected, "{now}");
    }
}

#[test]
fn each_issuer_has_its_own_keys_audience_and_name() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (Signer::p256(), Signer::p256());
    let verifier = JwtVerifier::load(
        &[
            config(&directory, "https://one", "cache", "sub", &[one.jwk(Some("1"))]),
            config(&directory, "https://other", "cache", "other/{sub}", &[other.jwk(Some("1"))]),
            // One issuer twice: for another audience there is another name.
            config(&directory, "https://one", "deploy", "deploy/{sub}", &[one.jwk(Some("1"))]),
        ],
        None,
        None,
    )
    .unwrap();
    let token = |signer: &Signer, issuer: &str, audience: &str| {
        signer.token(Some("1"), &json!({"iss": issuer, "aud": audience, "exp": NOW + 1, "sub": "a"}))
    };
    for (signer, issuer, audience, expected) in [
        (&one, "https://one", "cache", Ok("a")),
        (&other, "https://other", "cache", Ok("other/a")),
        (&one, "https://one", "deploy", Ok("deploy/a")),
        (&one, "https://other", "cache", Err(TokenError::Signature)),
        (&other, "https://one", "cache", Err(TokenError::Signature)),
        (&other, "https://other", "deploy", Err(TokenError::Audience)),
        (&one, "https://third", "cache", Err(TokenError::Issuer)),
    ] {
        let name = verify(&verifier, &token(signer, issuer, audience));
        assert_eq!(name.as_deref(), expected.as_ref().copied(), "{issuer} {audience}");
    }
}

#[test]
fn what_is_printed_shows_no_token_and_no_claim() {
    let signer = Signer::p256();
    let verifier = verifier(&[signer.jwk(None)]);
    let token = signer.token(None, &claims_with("repository", &json!("secret-name\n")));
    let error = verify(&verifier, &token).unwrap_err();
    verify(&verifier, &signer.token(None, &claims_with("repository", &json!("secret-name")))).unwrap();
    for text in [format!("{error} {error:?}"), format!("{verifier:?}")] {
        assert!(!text.contains("secret-name") && !text.contains(&token[..20]), "{text}");
    }
}

#[test]
fn mistakes_of_an_entry_name_the_issuer_and_say_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let jwk = Signer::p256().jwk(None);
    let good = config(&directory, ISSUER, AUDIENCE, "repository", &[jwk]);
    let empty = config(&directory, ISSUER, AUDIENCE, "repository", &[]);
    let url = |url: &str| JwksSource::Url(url.to_owned());
    for (config, message) in [
        (
            JwtConfig { name: "{ref".to_owned(), ..good.clone() },
            "cannot use name of \"https://issuer.example.org\": its braces",
        ),
        (
            JwtConfig { keys: JwksSource::Path("/nonexistent".into()), ..good.clone() },
            "cannot read the keys of \"https://issuer.example.org\" in /nonexistent: ",
        ),
        (JwtConfig { keys: JwksSource::Path("/dev/zero".into()), ..good.clone() }, "cannot read the keys of "),
        (
            JwtConfig { keys: url("http://example.org/"), ..good.clone() },
            "cannot use jwks_url of \"https://issuer.example.org\": it is neither",
        ),
        (empty, "cannot use the keys of \"https://issuer.example.org\" in "),
    ] {
        let error = JwtVerifier::load(&[good.clone(), config], None, None).unwrap_err().to_string();
        assert!(error.starts_with(message) && error.contains("\n  help: "), "{error}");
    }
    assert!(Arc::new(JwtVerifier::load(&[], None, None).unwrap()).verify("eyJ.eyJ.").is_err());
}
