//! Errors of the entries of `[[access.jwt]]`.

use std::io;
use std::path::PathBuf;

use super::key_set::KeySetError;
use super::principal_name::NameError;
use super::url::UrlError;

/// Reason for which an entry of `[[access.jwt]]` cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JwtError {
    /// The key set cannot be read.
    #[error("cannot read the keys of \"{issuer}\" in {}: {cause}\n  help: save the issuer's jwks_uri there, readable to the user that harmonia runs as", path.display())]
    Read {
        /// The issuer.
        issuer: String,
        /// The file.
        path: PathBuf,
        /// Error of the system.
        cause: io::Error,
    },
    /// The file is no usable key set.
    #[error("cannot use the keys of \"{issuer}\" in {}: {cause}\n  help: save the document of the issuer's jwks_uri there, unchanged", path.display())]
    KeySet {
        /// The issuer.
        issuer: String,
        /// The file.
        path: PathBuf,
        /// Cause.
        cause: KeySetError,
    },
    /// The URL cannot be used.
    #[error(
        "cannot use jwks_url of \"{issuer}\": {cause}\n  help: set it to the jwks_uri of ISSUER/.well-known/openid-configuration"
    )]
    Url {
        /// The issuer.
        issuer: String,
        /// Cause.
        cause: UrlError,
    },
    /// The name of the principal cannot be taken from claims.
    #[error(
        "cannot use name of \"{issuer}\": {cause}\n  help: set it to a claim, such as \"repository\", or to claims in braces, such as \"{{repository}}@{{ref}}\""
    )]
    Name {
        /// The issuer.
        issuer: String,
        /// Cause.
        cause: NameError,
    },
}
