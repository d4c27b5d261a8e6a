//! Errors of reading the certificate, its key and the authorities of client certificates.

use std::io;
use std::path::PathBuf;

use tokio_rustls::rustls;

/// Reason for which TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {cause}\n  help: {}", .path.display(), read_help(.cause))]
    Read {
        /// The certificate or key file.
        path: PathBuf,
        /// Error of the system.
        cause: io::Error,
    },
    /// The key is in a Nix store.
    #[error("key {} is no secret: it is {} in the Nix store, which every user can read and this cache serves\n  help: make a new one outside the store, have a certificate issued for it, and set tls_key_path to its path as a string", .path.display(), .found.display())]
    InStore {
        /// The key file, as it was configured.
        path: PathBuf,
        /// Its place client_of all symlinks.
        found: PathBuf,
    },
    /// A file is not PEM.
    #[error("cannot read {}: not valid PEM: {cause}\n  help: check that the file is complete; convert DER files with openssl x509 -inform der or openssl pkey -inform der", .path.display())]
    Pem {
        /// The certificate or key file.
        path: PathBuf,
        /// Error of the parser.
        cause: io::Error,
    },
    /// The certificate file has no certificate.
    #[error("no certificate in {}\n  help: set tls_cert_path to a PEM file with the server's certificate followed by its issuers", .0.display())]
    NoCertificate(PathBuf),
    /// The key file has no key in a supported format.
    #[error("no private key in {}{}\n  help: set tls_key_path to an unencrypted PEM file (PKCS #8, PKCS #1 or SEC 1); remove a passphrase with openssl pkey", .path.display(), .found.as_ref().map(|found| format!(": it has \"{found}\"")).unwrap_or_default())]
    NoKey {
        /// The key file.
        path: PathBuf,
        /// PEM label of what it has.
        found: Option<String>,
    },
    /// The key is of an unsupported kind.
    #[error("cannot use key {}: it is {found}\n  help: use an ECDSA key over P-256 or P-384, an Ed25519 key or an RSA key of 2048 to 4096 bits, e.g. from openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256", .path.display())]
    KeyKind {
        /// The key file.
        path: PathBuf,
        /// The kind, with an article.
        found: &'static str,
    },
    /// The file of client certificate authorities cannot be read.
    #[error("cannot read {}: {cause}\n  help: {}", .path.display(), client_ca_help(.cause))]
    ReadClientCa {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        cause: io::Error,
    },
    /// The file of client certificate authorities has no certificate.
    #[error("no certificate in {}\n  help: set access.client_ca_path to a PEM file with the certificates of those that issue client certificates", .0.display())]
    NoClientCa(PathBuf),
    /// The file of client certificate authorities has too many certificates.
    #[error("{found} certificates in {}, which may have {max}\n  help: set access.client_ca_path to a file with your own authorities, not to the system's bundle", .path.display())]
    ManyClientCas {
        /// The file.
        path: PathBuf,
        /// Number of certificates.
        found: usize,
        /// Limit of certificates.
        max: usize,
    },
    /// The TLS library rejects a client certificate authority.
    #[error("cannot use certificate {number} in {}: {cause}\n  help: replace it by the X.509 certificate of the authority", .path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// Number of the certificate in the file, from one.
        number: usize,
        /// Error of the library.
        cause: rustls::Error,
    },
    /// The TLS library cannot verify client certificates.
    #[error("cannot verify client certificates: {0}")]
    ClientVerifier(rustls::server::VerifierBuilderError),
    /// The TLS library cannot be configured.
    #[error("cannot offer TLS: {0}")]
    Versions(rustls::Error),
    /// The TLS library rejects certificate and key, e.g. because they do not match.
    #[error("cannot use certificate {} with key {}: {cause}\n  help: put the server's certificate (X.509 version 3) first in its file, and use its own key", .certificate.display(), .key.display())]
    Refused {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
        /// Error of the library.
        cause: rustls::Error,
    },
}

fn read_help(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::NotFound => "check tls_cert_path and tls_key_path",
        _ => "let the user that harmonia runs as read it",
    }
}

fn client_ca_help(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::NotFound => "check access.client_ca_path",
        _ => "let the user that harmonia runs as read it",
    }
}
