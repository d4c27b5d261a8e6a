//! Mistakes with signing keys, certificates and their keys.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::{Mistake, file};
use crate::support::exit::{CONFIG, OK};
use crate::support::keys;
use crate::support::scratch;

pub(super) fn mistakes() -> Vec<Mistake> {
    let mut mistakes = signing_keys();
    mistakes.extend(certificates());
    mistakes
}

fn signing_keys() -> Vec<Mistake> {
    let wrong = |what, path: &Path, message: &[&str]| {
        Mistake::in_file(what, format!("sign_key_paths = [{path:?}]"), CONFIG, message)
    };
    let secret = fs::read_to_string(&keys::OURS.secret).unwrap();
    let written = |text: &str| private("cache.secret", text);
    let (name, base64) = secret.trim().split_once(':').unwrap();
    let third = fs::read_to_string(&keys::THIRD.secret).unwrap();
    let same_name = written(&format!("{name}:{}", third.split_once(':').unwrap().1));
    let store = scratch::fresh_dir().join("store");
    fs::create_dir(&store).unwrap();
    let in_store = store.join("0-cache.secret");
    fs::copy(&keys::OURS.secret, &in_store).unwrap();
    let link = scratch::fresh_dir().join("cache.secret");
    symlink(&in_store, &link).unwrap();
    let open = file("open.secret", &secret);
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    vec![
        wrong(
            "a signing key that is not there",
            Path::new("/nonexistent/cache.secret"),
            &["cannot read the signing key /nonexistent/cache.secret: No such file", "generate-binary-cache-key"],
        ),
        wrong(
            "the public key for the secret one",
            &written(&keys::OURS.public),
            &["is a public key, but signing needs the secret one", "the first of the two files"],
        ),
        wrong(
            "the key itself for its file",
            Path::new(secret.trim()),
            &["a secret key was given", "write it into a file"],
        ),
        wrong("the directory of the key", &scratch::fresh_dir(), &["Is a directory", "a key file in this directory"]),
        wrong(
            "an empty key file",
            &written(""),
            &["is not a signing key: no key name before a colon", "help: make one"],
        ),
        wrong("a key without its name", &written(base64), &["is not a signing key: no key name before a colon"]),
        wrong(
            "a key that was cut off",
            &written(&format!("{name}:{}", &base64[..40])),
            &["bytes where 64 are required"],
        ),
        wrong(
            "a key that is no base64",
            &written("cache-1:not/base64!"),
            &["is not a signing key: ", "help: make one"],
        ),
        wrong("a key saved with a byte order mark", &written(&format!("\u{feff}{secret}")), &["byte order mark"]),
        wrong(
            "a key with a name of other letters",
            &written(&format!("größe-1:{base64}")),
            &["only printable ASCII characters"],
        ),
        wrong("a device for a key", Path::new("/dev/zero"), &["/dev/zero is not a signing key: it is larger than"]),
        Mistake::in_file(
            "two keys of one name",
            format!("sign_key_paths = [{:?}, {:?}]", keys::OURS.secret, same_name),
            CONFIG,
            &["another signing key are both named", "give a new key a new name"],
        ),
        Mistake::in_file(
            "a key in the store, behind a link",
            format!("real_nix_store = {store:?}\nsign_key_paths = [{link:?}]"),
            CONFIG,
            &["is no secret: it is", "in the Nix store", "make a new one outside the store"],
        ),
        Mistake::in_file(
            "two bad keys at once",
            "sign_key_paths = [\"/nonexistent/1\", \"/nonexistent/2\"]",
            CONFIG,
            &["/nonexistent/1: ", "/nonexistent/2: "],
        ),
        Mistake::in_file(
            "a key that everybody can read",
            format!("sign_key_paths = [{open:?}]"),
            OK,
            &["WARN", "is open to others (mode 0644)", "chmod 600"],
        ),
    ]
}

/// Writes a file that only its owner can read.
fn private(name: &str, text: &str) -> std::path::PathBuf {
    let path = file(name, text);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Returns a certificate that is valid between these days from now, in PEM, with its key.
fn certificate(begin: i64, end: i64) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["cache.example.org".to_owned()]).unwrap();
    let now = std::time::SystemTime::now();
    let day = |days: i64| {
        let days = std::time::Duration::from_secs(days.unsigned_abs() * 24 * 60 * 60);
        move |is_past: bool| if is_past { now - days } else { now + days }
    };
    params.not_before = day(begin)(begin < 0).into();
    params.not_after = day(end)(end < 0).into();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn certificates() -> Vec<Mistake> {
    let with = |what, certificate: &Path, key: &Path, code, message: &[&str]| {
        let config = format!("tls_cert_path = {certificate:?}\ntls_key_path = {key:?}");
        Mistake::in_file(what, config, code, message)
    };
    let (cert, key) = certificate(-1, 90);
    let (cert, key_file) = (file("cert.pem", &cert), private("key.pem", &key));
    let (_, other) = certificate(-1, 90);
    let absent = Path::new("/nonexistent/tls.pem");
    let of = |begin, end| {
        let (cert, key) = certificate(begin, end);
        (file("cert.pem", cert), private("key.pem", &key))
    };
    let (ended, ended_key) = of(-90, -3);
    let (ending, ending_key) = of(-90, 2);
    let (early, early_key) = of(3, 90);
    // The issuer first.
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["cache.example.org".to_owned()]).unwrap().signed_by(&leaf_key, &issuer).unwrap();
    let reversed = file("chain.pem", format!("{}{}", issuer.pem(), leaf.pem()));
    let leaf_key = private("key.pem", &leaf_key.serialize_pem());
    let encrypted = private("key.pem", &key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"));
    let der = file("cert.der", leaf.der());
    let torn = file("cert.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    let store = scratch::fresh_dir().join("store");
    fs::create_dir(&store).unwrap();
    let stored = store.join("0-key.pem");
    fs::copy(&key_file, &stored).unwrap();
    vec![
        with(
            "a certificate that is not there",
            absent,
            &key_file,
            CONFIG,
            &["cannot read /nonexistent/tls.pem", "help: "],
        ),
        with(
            "a certificate's key that is not there",
            &cert,
            absent,
            CONFIG,
            &["cannot read /nonexistent/tls.pem", "help: "],
        ),
        with(
            "certificate and key the wrong way round",
            &key_file,
            &cert,
            CONFIG,
            &["no certificate in", "key.pem", "help: "],
        ),
        with(
            "the key of another certificate",
            &cert,
            &private("key.pem", &other),
            CONFIG,
            &["cannot use certificate", "use its own key"],
        ),
        with(
            "a chain with its issuer first",
            &reversed,
            &leaf_key,
            CONFIG,
            &["cannot use certificate", "first in its file"],
        ),
        with("a key with a passphrase", &cert, &encrypted, CONFIG, &["ENCRYPTED PRIVATE KEY", "with openssl pkey"]),
        with("a certificate in DER", &der, &leaf_key, CONFIG, &["no certificate in", "PEM"]),
        with("a certificate that was cut off", &torn, &key_file, CONFIG, &["cert.pem", "help: "]),
        with("a certificate that has ended", &ended, &ended_key, CONFIG, &["expired 3 days ago", "renew it"]),
        with("a certificate that ends soon", &ending, &ending_key, OK, &["WARN", "expires in 1 days", "renew it"]),
        with("a certificate that is not valid yet", &early, &early_key, OK, &["WARN", "not valid yet", "clock"]),
        Mistake::in_file(
            "a certificate's key in the store",
            format!("virtual_nix_store = {store:?}\ntls_cert_path = {cert:?}\ntls_key_path = {stored:?}"),
            CONFIG,
            &["is no secret: it is", "in the Nix store", "outside the store"],
        ),
    ]
}
