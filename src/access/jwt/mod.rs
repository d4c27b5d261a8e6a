//! Tokens of CI systems and other issuers: signed JWTs (RFC 7519), verified by the issuer's published keys.
//!
//! Three algorithms, by ring. The key decides which one: a token's `alg` is compared with it and chooses nothing. What a token
//! says is used in this order: its issuer selects the configured keys, its times are checked, its signature is verified, and
//! only then its audience and the claims of its name are read.

mod algorithm;
mod claims;
mod fetch;
mod json;
mod kept_file;
mod key;
pub mod key_set;
mod load_error;
mod principal_name;
mod remembered;
mod remote;
#[cfg(test)]
mod tests;
pub mod token;
mod token_error;
mod url;
mod verifier;

pub(crate) use load_error::JwtError;
pub(crate) use token::is_token;
pub(crate) use token_error::TokenError;
pub(crate) use verifier::JwtVerifier;
