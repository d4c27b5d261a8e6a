//! Issuers of tokens, with keys of all three kinds.

use data_encoding::{BASE64_MIME, BASE64URL_NOPAD};
use ring::rand::SystemRandom;
use ring::rsa::{KeyPair as RsaKeyPair, PublicKeyComponents};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256};
use serde_json::{Value, json};

/// A PKCS #8 key, since ring makes none for RSA.
const RSA: &str = include_str!("rsa_2048.pkcs8.base64");

/// The second in which the tests take place.
pub(super) const NOW: u64 = 1_800_000_000;

pub(super) enum Signer {
    Rsa(Box<RsaKeyPair>),
    P256(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl Signer {
    pub(super) fn rsa() -> Self {
        let pkcs8 = BASE64_MIME.decode(RSA.as_bytes()).unwrap();
        Self::Rsa(Box::new(RsaKeyPair::from_pkcs8(&pkcs8).unwrap()))
    }

    pub(super) fn p256() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random);
        Self::P256(Box::new(key.unwrap()))
    }

    pub(super) fn ed25519() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(Box::new(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap()))
    }

    pub(super) fn all() -> [Self; 3] {
        [Self::rsa(), Self::p256(), Self::ed25519()]
    }

    pub(super) fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
        }
    }

    /// Returns the modulus of an RSA key.
    pub(super) fn modulus(&self) -> Vec<u8> {
        let Self::Rsa(key) = self else { panic!("not an RSA key") };
        PublicKeyComponents::<Vec<u8>>::from(key.public()).n
    }

    pub(super) fn jwk(&self, kid: Option<&str>) -> Value {
        let text = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        let mut jwk = match self {
            Self::Rsa(key) => {
                let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({"kty": "RSA", "n": text(&n), "e": text(&e)})
            }
            Self::P256(key) => {
                let point = key.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])})
            }
            Self::Ed25519(key) => json!({"kty": "OKP", "crv": "Ed25519", "x": text(key.public_key().as_ref())}),
        };
        if let Some(kid) = kid {
            jwk["kid"] = kid.into();
        }
        jwk
    }

    pub(super) fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), bytes, &mut signature).unwrap();
                signature
            }
            Self::P256(key) => key.sign(&SystemRandom::new(), bytes).unwrap().as_ref().to_vec(),
            Self::Ed25519(key) => key.sign(bytes).as_ref().to_vec(),
        }
    }

    /// Returns a token with this header and these claims.
    pub(super) fn token_with(&self, header: &Value, claims: &Value) -> String {
        let signed = signed(header, claims);
        format!("{signed}.{}", BASE64URL_NOPAD.encode(&self.sign(signed.as_bytes())))
    }

    /// Returns a token with the usual header.
    pub(super) fn token(&self, kid: Option<&str>, claims: &Value) -> String {
        let mut header = json!({"alg": self.algorithm(), "typ": "JWT"});
        if let Some(kid) = kid {
            header["kid"] = kid.into();
        }
        self.token_with(&header, claims)
    }
}

/// Returns what is signed of a token.
pub(super) fn signed(header: &Value, claims: &Value) -> String {
    let [header, claims] = [header, claims].map(|part| BASE64URL_NOPAD.encode(part.to_string().as_bytes()));
    format!("{header}.{claims}")
}

pub(super) const ISSUER: &str = "https://issuer.example.org";
pub(super) const AUDIENCE: &str = "https://cache.example.org";

/// Returns the claims of a token that is valid for five minutes.
pub(super) fn claims() -> Value {
    json!({"iss": ISSUER, "aud": AUDIENCE, "exp": NOW + 300, "iat": NOW, "nbf": NOW - 5, "repository": "acme/app"})
}

/// Returns claims of which one differs; null removes it.
pub(super) fn claims_with(claim: &str, value: &Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(claim)),
        value => claims[claim] = value.clone(),
    }
    claims
}

pub(super) fn key_set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}
