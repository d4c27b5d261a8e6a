//! JSON Web Tokens as credentials: as a bearer and as the password of a netrc, with key sets in a file and from a server.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::{BASE64, BASE64URL_NOPAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::support::http::Response;
use crate::support::scratch;
use crate::support::server::Harmonia;

const AUDIENCE: &str = "https://cache.example.org";

/// An issuer of tokens with one key.
struct Issuer {
    key: EcdsaKeyPair,
    kid: &'static str,
}

impl Issuer {
    fn new(kid: &'static str) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        Self { key, kid }
    }

    fn key_set(&self) -> String {
        let point = self.key.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|coordinate| BASE64URL_NOPAD.encode(coordinate));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": self.kid, "x": x, "y": y}]}).to_string()
    }

    /// Returns a token of this repository that expires these seconds from now.
    fn token(&self, repository: &str, audience: &str, seconds: i64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let exp = now.checked_add_signed(seconds).unwrap();
        let claims = json!({"iss": "https://issuer", "aud": audience, "exp": exp, "repository": repository});
        self.signed(&json!({"alg": "ES256", "kid": self.kid}), &claims)
    }

    fn signed(&self, header: &Value, claims: &Value) -> String {
        let [header, claims] = [header, claims].map(|part| BASE64URL_NOPAD.encode(part.to_string().as_bytes()));
        let text = format!("{header}.{claims}");
        let signature = self.key.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
    }
}

/// Returns a configuration that grants `acme` the right to read, with this line for the keys of the issuer.
fn config(keys: &str) -> String {
    format!(
        "daemon_socket = \"/nonexistent/socket\"\n[access]\n[[access.jwt]]\nissuer = \"https://issuer\"\naudience = \"{AUDIENCE}\"\n\
         name = \"repository\"\n{keys}\n[[access.grant]]\nwho = [\"jwt:acme/*\"]\nmay = [\"read\"]\n"
    )
}

fn with_bearer(harmonia: &Harmonia, token: &str) -> Response {
    harmonia.http().get_with("/nix-cache-info", &[("Authorization", &format!("Bearer {token}"))])
}

fn with_password(harmonia: &Harmonia, user: &str, token: &str) -> Response {
    let credentials = BASE64.encode(format!("{user}:{token}").as_bytes());
    harmonia.http().get_with("/nix-cache-info", &[("Authorization", &format!("Basic {credentials}"))])
}

#[test]
fn a_token_opens_a_private_cache_as_bearer_and_as_password_of_any_user() {
    let issuer = Issuer::new("1");
    let file = scratch::fresh_dir().join("jwks");
    fs::write(&file, issuer.key_set()).unwrap();
    let harmonia = Harmonia::start(&config(&format!("jwks_path = \"{}\"", file.display())));
    let token = issuer.token("acme/app", AUDIENCE, 300);
    assert_eq!(harmonia.http().get("/nix-cache-info").status, 401);
    assert_eq!(with_bearer(&harmonia, &token).status, 200);
    for user in ["", "jwt", "alice"] {
        assert_eq!(with_password(&harmonia, user, &token).status, 200, "{user:?}");
    }
    // A right token without rights.
    assert_eq!(with_bearer(&harmonia, &issuer.token("evil/app", AUDIENCE, 300)).status, 403);
    let forged = Issuer::new("1").token("acme/app", AUDIENCE, 300);
    let unsecured = BASE64URL_NOPAD.encode(br#"{"alg":"none"}"#);
    let unsecured = format!("{unsecured}.{}.", token.split('.').nth(1).unwrap());
    for (token, said) in [
        (issuer.token("acme/app", AUDIENCE, -1), "the token has expired"),
        (issuer.token("acme/app", "https://other", 300), "the token is for another audience"),
        (forged, "the token's signature is wrong"),
        (unsecured, "the token is not signed by"),
        (format!("{token}A"), "the token"),
    ] {
        for response in [with_bearer(&harmonia, &token), with_password(&harmonia, "jwt", &token)] {
            assert_eq!(response.status, 401, "{said}");
            assert!(response.text().contains(said), "{}", response.text());
            assert!(response.header("www-authenticate").is_some());
        }
    }
    assert!(!harmonia.log().contains(&token[..40]));
}

#[test]
fn new_keys_in_the_file_are_used_after_a_reload_and_bad_ones_are_not() {
    let (old, new) = (Issuer::new("1"), Issuer::new("2"));
    let file = scratch::fresh_dir().join("jwks");
    fs::write(&file, old.key_set()).unwrap();
    let harmonia = Harmonia::start(&config(&format!("jwks_path = \"{}\"", file.display())));
    let [old_token, new_token] = [&old, &new].map(|issuer| issuer.token("acme/app", AUDIENCE, 300));
    assert_eq!([&old_token, &new_token].map(|token| with_bearer(&harmonia, token).status), [200, 401]);
    fs::write(&file, "{}").unwrap();
    harmonia.reload();
    harmonia.wait_for_log("cannot use the keys of \"https://issuer\"");
    assert_eq!([&old_token, &new_token].map(|token| with_bearer(&harmonia, token).status), [200, 401]);
    fs::write(&file, new.key_set()).unwrap();
    harmonia.reload();
    // The old key ends with the reload, though its token was verified before.
    while with_bearer(&harmonia, &new_token).status != 200 {
        thread::yield_now();
    }
    assert_eq!(with_bearer(&harmonia, &old_token).status, 401);
}

/// A server of a key set: while there is none, connections wait for their response.
#[derive(Default)]
struct Server {
    document: Mutex<Option<String>>,
    changed: Condvar,
}

impl Server {
    fn set(&self, document: Option<String>) {
        *self.document.lock().unwrap() = document;
        self.changed.notify_all();
    }

    /// Starts to serve, and returns the URL.
    fn start(self: &Arc<Self>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let server = Arc::clone(self);
        thread::spawn(move || {
            for stream in listener.incoming() {
                server.answer(stream.unwrap());
            }
        });
        url
    }

    fn answer(&self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).unwrap();
        }
        let document = self.changed.wait_while(self.document.lock().unwrap(), |document| document.is_none()).unwrap();
        let text = document.clone().unwrap();
        drop(document);
        let length = text.len();
        let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}");
        stream.get_mut().write_all(response.as_bytes()).unwrap();
    }
}

fn has_kept_keys(state: &Path) -> bool {
    let mut files = fs::read_dir(state.join("jwks")).into_iter().flatten();
    files.any(|file| file.unwrap().path().extension().is_some_and(|it| it == "json"))
}

#[test]
fn tokens_are_503_until_the_first_keys_are_fetched_and_the_keys_outlive_a_restart() {
    let issuer = Issuer::new("1");
    let server = Arc::new(Server::default());
    let url = server.start();
    let state = scratch::fresh_dir();
    let config = format!("state_dir = \"{}\"\n{}", state.display(), config(&format!("jwks_url = \"{url}\"")));
    let token = issuer.token("acme/app", AUDIENCE, 300);
    let harmonia = Harmonia::start(&config);
    let response = with_bearer(&harmonia, &token);
    assert_eq!(response.status, 503);
    assert!(response.header("retry-after").is_some());
    assert!(response.text().contains("the keys of the token's issuer are not known yet"), "{}", response.text());
    server.set(Some(issuer.key_set()));
    harmonia.wait_for_log("fetched 1 token keys from ");
    assert_eq!(with_bearer(&harmonia, &token).status, 200);
    // The server of the keys hangs from now on.
    while !has_kept_keys(&state) {
        thread::yield_now();
    }
    server.set(None);
    drop(harmonia);
    let harmonia = Harmonia::start(&config);
    assert_eq!(with_bearer(&harmonia, &token).status, 200);
    let unknown = Issuer::new("2").token("acme/app", AUDIENCE, 300);
    assert_eq!(with_bearer(&harmonia, &unknown).status, 503);
}
