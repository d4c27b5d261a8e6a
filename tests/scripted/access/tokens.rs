//! JSON Web Tokens as credentials: as a bearer and as the password of a netrc, with a key set in a file.

use std::fs;
use std::thread;

use data_encoding::BASE64URL_NOPAD;

use super::token_requests::{config, with_bearer, with_password};
use crate::support::issuer::{AUDIENCE, Issuer};
use crate::support::scratch;
use crate::support::server::Harmonia;

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
