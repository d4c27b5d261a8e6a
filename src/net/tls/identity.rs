//! The server's certificate and private key, read from PEM files.
//!
//! The files are read at the start and by [`Identity::replace`]; open connections keep the certificate that they started with.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio_rustls::rustls;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::certificate::{self, CertificateInfo};
use super::error::TlsError;
use super::key_kind;
use crate::config::{StoreDirectories, TlsConfig};

/// The server's certificate chain and private key, which can be replaced while it runs.
#[derive(Debug)]
pub(crate) struct Identity {
    current: ArcSwap<CertifiedKey>,
}

impl Identity {
    /// Reads the certificate chain and its key, which must not be in a Nix store.
    pub(crate) fn load(files: &TlsConfig, stores: &StoreDirectories) -> Result<Arc<Self>, TlsError> {
        let current = ArcSwap::from_pointee(read(files, stores)?);
        Ok(Arc::new(Self { current }))
    }

    /// Reads both files again. On an error the current certificate and key stay in use.
    pub(crate) fn replace(&self, files: &TlsConfig, stores: &StoreDirectories) -> Result<(), TlsError> {
        self.current.store(Arc::new(read(files, stores)?));
        Ok(())
    }

    /// Returns names and validity of the certificate in use, or `None` if it cannot be parsed.
    #[must_use]
    pub(crate) fn certificate(&self) -> Option<CertificateInfo> {
        CertificateInfo::from_der(self.current.load().cert.first()?)
    }

    /// Returns the expiry of the certificate in use, in seconds since 1970, or `None` if it cannot be parsed.
    pub(crate) fn not_after(&self) -> Option<i64> {
        certificate::not_after(self.current.load().cert.first()?)
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn refused(certificate: &Path, key: &Path, cause: rustls::Error) -> TlsError {
    TlsError::Refused { certificate: certificate.to_owned(), key: key.to_owned(), cause }
}

/// Reads and checks a certificate chain and its key.
fn read(files: &TlsConfig, stores: &StoreDirectories) -> Result<CertifiedKey, TlsError> {
    let TlsConfig { cert: certificate, key } = files;
    if let Some(found) = stores.find(key) {
        return Err(TlsError::InStore { path: key.clone(), found });
    }
    let (chain, private) = load(certificate, key)?;
    let provider = ring::default_provider();
    if provider.key_provider.load_private_key(private.clone_key()).is_err() {
        return Err(TlsError::KeyKind { path: key.clone(), found: key_kind::describe(private.secret_der()) });
    }
    CertifiedKey::from_der(chain, private, &provider).map_err(|cause| refused(certificate, key, cause))
}

/// Parses both PEM files.
fn load(certificate: &Path, key: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let read = |path: &Path| fs::read(path).map_err(|cause| TlsError::Read { path: path.to_owned(), cause });
    let not_pem = |path: &Path| {
        let path = path.to_owned();
        |cause| TlsError::Pem { path, cause }
    };
    let chain = rustls_pemfile::certs(&mut read(certificate)?.as_slice())
        .collect::<Result<Vec<_>, _>>()
        .map_err(not_pem(certificate))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(certificate.to_owned()));
    }
    let pem = read(key)?;
    let private = rustls_pemfile::private_key(&mut pem.as_slice()).map_err(not_pem(key))?;
    let private = private.ok_or_else(|| TlsError::NoKey { path: key.to_owned(), found: key_kind::pem_label(&pem) })?;
    Ok((chain, private))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the error for these contents of the two files.
    fn refused(certificate: &str, key: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let paths = ["cert.pem", "key.pem"].map(|name| directory.path().join(name));
        fs::write(&paths[0], certificate).unwrap();
        fs::write(&paths[1], key).unwrap();
        let [cert, key] = paths;
        let error = Identity::load(&TlsConfig { cert, key }, &StoreDirectories::default()).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("\n  help: "), "{message}");
        message
    }

    #[test]
    fn each_mistake_names_its_file() {
        let one = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (one.cert.pem(), one.signing_key.serialize_pem());
        let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        for (certificate, key, message, file) in [
            ("", &*key, "no certificate in ", "cert.pem"),
            (&*key, &*key, "no certificate in ", "cert.pem"),
            (&*certificate, "", "no private key in ", "key.pem"),
            (&*certificate, &*certificate, "no private key in ", "key.pem"),
            (&*certificate, &*encrypted, "no private key in ", "key.pem"),
            ("-----BEGIN CERTIFICATE-----\n", &*key, "cannot read ", "cert.pem"),
            (&*certificate, &*other.signing_key.serialize_pem(), "cannot use certificate ", "key.pem"),
        ] {
            let error = refused(certificate, key);
            assert!(error.starts_with(message), "{error}");
            assert!(error.contains(file), "{error}");
        }
    }

    #[test]
    fn an_unsupported_key_is_named_by_its_kind() {
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
        let pem = |label: &str, der: &[u8]| {
            let text = data_encoding::BASE64.encode(der);
            format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
        };
        // The object identifiers of a key, in the order of its format, without a key.
        let pkcs8 = |names: &[u8]| pem("PRIVATE KEY", &[b"\x30\x40\x02\x01\x00\x30\x10", names, &[0; 40]].concat());
        let ec = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01";
        let p521 = b"\x06\x05\x2b\x81\x04\x00\x23";
        for (key, kind) in [
            (pkcs8(&[&ec[..], p521].concat()), "is an ECDSA key over P-521"),
            (
                pem("EC PRIVATE KEY", &[&b"\x30\x70\x02\x01\x01"[..], &[7; 66], p521].concat()),
                "is an ECDSA key over P-521",
            ),
            (pkcs8(&[&ec[..], b"\x06\x05\x2b\x81\x04\x00\x0a"].concat()), "secp256k1"),
            (pkcs8(ec), "over another curve"),
            (pkcs8(b"\x06\x03\x2b\x65\x71"), "is an Ed448 key"),
            (pkcs8(b"\x06\x07\x2a\x86\x48\xce\x38\x04\x01"), "is a DSA key"),
            (pkcs8(b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01"), "is an RSA key of another size"),
            (pem("RSA PRIVATE KEY", b"\x30\x20\x02\x01\x00\x02\x41\x00"), "is an RSA key of another size"),
            (pkcs8(b"\x06\x01\x00"), "is something else"),
        ] {
            let error = refused(&certificate, &key);
            assert!(error.starts_with("cannot use key ") && error.contains(kind) && error.contains("P-256"), "{error}");
        }
        for label in ["ENCRYPTED PRIVATE KEY", "DSA PRIVATE KEY", "OPENSSH PRIVATE KEY"] {
            let error = refused(&certificate, &pem(label, b"x"));
            assert!(error.contains(&format!("key.pem: it has \"{label}\"\n")), "{error}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let files = TlsConfig { cert: "/nonexistent/cert.pem".into(), key: "key.pem".into() };
        let error = Identity::load(&files, &StoreDirectories::default()).unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with("cannot read /nonexistent/cert.pem: "), "{message}");
    }

    #[test]
    fn a_key_in_the_store_is_refused() {
        let store = tempfile::tempdir().unwrap();
        let key = store.path().join("key.pem");
        fs::write(&key, "").unwrap();
        let files = TlsConfig { cert: "/nonexistent".into(), key };
        let error = Identity::load(&files, &StoreDirectories::new([store.path().to_owned()])).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("key.pem is no secret: ") && message.contains("\n  help: "), "{message}");
    }
}
