//! A private cache that takes tokens of an issuer, and requests with tokens.

use data_encoding::BASE64;

use crate::support::http::Response;
use crate::support::issuer::AUDIENCE;
use crate::support::server::Harmonia;

/// Returns a configuration that grants `acme` the right to read, with this line for the keys of the issuer.
pub(super) fn config(keys: &str) -> String {
    format!(
        "daemon_socket = \"/nonexistent/socket\"\n[access]\n[[access.jwt]]\nissuer = \"https://issuer\"\naudience = \"{AUDIENCE}\"\n\
         name = \"repository\"\n{keys}\n[[access.grant]]\nwho = [\"jwt:acme/*\"]\nmay = [\"read\"]\n"
    )
}

/// Sends a request with a token.
pub(super) fn with_bearer(harmonia: &Harmonia, token: &str) -> Response {
    harmonia.http().get_with("/nix-cache-info", &[("Authorization", &format!("Bearer {token}"))])
}

/// Sends a request with a token as the password of a user.
pub(super) fn with_password(harmonia: &Harmonia, user: &str, token: &str) -> Response {
    let credentials = BASE64.encode(format!("{user}:{token}").as_bytes());
    harmonia.http().get_with("/nix-cache-info", &[("Authorization", &format!("Basic {credentials}"))])
}
