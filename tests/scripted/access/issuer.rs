//! An issuer of JSON Web Tokens, and requests with them.

use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::{BASE64, BASE64URL_NOPAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::support::http::Response;
use crate::support::server::Harmonia;

pub(super) const AUDIENCE: &str = "https://cache.example.org";

/// An issuer of tokens with one key.
pub(super) struct Issuer {
    key: EcdsaKeyPair,
    kid: &'static str,
}

impl Issuer {
    pub(super) fn new(kid: &'static str) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        Self { key, kid }
    }

    pub(super) fn key_set(&self) -> String {
        let point = self.key.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|coordinate| BASE64URL_NOPAD.encode(coordinate));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": self.kid, "x": x, "y": y}]}).to_string()
    }

    /// Returns a token of this repository that expires these seconds from now.
    pub(super) fn token(&self, repository: &str, audience: &str, seconds: i64) -> String {
        let claims =
            json!({"iss": "https://issuer", "aud": audience, "exp": now() + seconds, "repository": repository});
        self.signed(&json!({"alg": "ES256", "kid": self.kid}), &claims)
    }

    /// Returns a token with this header and these claims.
    pub(super) fn signed(&self, header: &Value, claims: &Value) -> String {
        let text = unsigned(header, claims);
        let signature = self.key.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
    }
}

/// Returns the current second of Unix time.
pub(super) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

/// Returns what is signed of a token.
pub(super) fn unsigned(header: &Value, claims: &Value) -> String {
    let [header, claims] = [header, claims].map(|part| BASE64URL_NOPAD.encode(part.to_string().as_bytes()));
    format!("{header}.{claims}")
}

/// Returns a configuration that grants `acme` the right to read, with this line for the keys of the issuer.
pub(super) fn config(keys: &str) -> String {
    format!(
        "daemon_socket = \"/nonexistent/socket\"\n[access]\n[[access.jwt]]\nissuer = \"https://issuer\"\naudience = \"{AUDIENCE}\"\n\
         name = \"repository\"\n{keys}\n[[access.grant]]\nwho = [\"jwt:acme/*\"]\nmay = [\"read\"]\n"
    )
}

pub(super) fn with_bearer(harmonia: &Harmonia, token: &str) -> Response {
    harmonia.http().get_with("/nix-cache-info", &[("Authorization", &format!("Bearer {token}"))])
}

pub(super) fn with_password(harmonia: &Harmonia, user: &str, token: &str) -> Response {
    let credentials = BASE64.encode(format!("{user}:{token}").as_bytes());
    harmonia.http().get_with("/nix-cache-info", &[("Authorization", &format!("Basic {credentials}"))])
}
