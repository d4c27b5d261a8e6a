//! The set of keys that this cache signs with.

use std::path::{Path, PathBuf};

use harmonia_protocol::signature::{PublicKey, SecretKey, Signature};

use super::error::SigningKeyError;
use super::key_file::read;
use crate::config::{Config, StoreDirectories};

/// Keys that sign narinfos and realisations, in the order of their files.
#[derive(Debug, Default)]
pub(crate) struct SigningKeys(pub(super) Vec<SecretKey>);

impl SigningKeys {
    /// Reads keys from files. Returns them with warnings for the log about key files that others can read.
    ///
    /// A key that occurs twice is used once. There is no warning about files below `credentials`: systemd makes them
    /// group-readable (0440) in a directory that is closed to that group. Files in `stores` are refused.
    pub(crate) fn load(
        paths: &[PathBuf],
        credentials: Option<&Path>,
        stores: &StoreDirectories,
    ) -> Result<(Self, Vec<String>), SigningKeyError> {
        let mut keys: Vec<SecretKey> = Vec::new();
        let mut warnings = Vec::new();
        for path in paths {
            let (key, mode) = read(path, stores)?;
            if mode & 0o077 != 0 && !credentials.is_some_and(|directory| path.starts_with(directory)) {
                let mode = mode & 0o777;
                let path = path.display();
                warnings.push(format!(
                    "the signing key {path} is open to others (mode {mode:04o})\n  help: chmod 600 {path}"
                ));
            }
            let public = key.public_key();
            match keys.iter().find(|other| other.public_key().name() == public.name()) {
                None => keys.push(key),
                Some(other) if other.public_key() == public => {}
                Some(_) => {
                    return Err(SigningKeyError::SameName { path: path.clone(), name: public.name().clone() });
                }
            }
        }
        Ok((Self(keys), warnings))
    }

    /// Reads the configured keys and logs the warnings.
    pub(crate) fn load_and_warn(config: &Config) -> Result<Self, SigningKeyError> {
        let Config { sign_key_paths, credentials_directory, .. } = config;
        let (keys, warnings) =
            Self::load(sign_key_paths, credentials_directory.as_deref(), &config.store_directories())?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        Ok(keys)
    }

    /// Signs the fingerprint of a path info or a realisation with every key.
    #[must_use]
    pub(crate) fn sign(&self, fingerprint: &str) -> Vec<Signature> {
        self.0.iter().map(|key| key.sign(fingerprint.as_bytes())).collect()
    }

    /// Returns the public keys, in the order of the files.
    pub(crate) fn public_keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.iter().map(SecretKey::public_key)
    }

    /// Returns the public keys as a value for the clients' setting `trusted-public-keys`; empty if there are none.
    #[must_use]
    pub(crate) fn trusted_public_keys(&self) -> String {
        self.public_keys().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use harmonia_protocol::signature::KeyName;

    use super::*;
    use crate::signing::key_file::generate;

    fn name(text: &str) -> KeyName {
        KeyName::new(text).unwrap()
    }

    /// Generates a key file for each name, in a temporary directory.
    fn keys<const N: usize>(names: [&str; N]) -> (tempfile::TempDir, [PathBuf; N]) {
        let directory = tempfile::tempdir().unwrap();
        let mut file = 0;
        let paths = names.map(|key| {
            file += 1;
            let path = directory.path().join(format!("{file}.secret"));
            generate(&path, name(key)).unwrap();
            path
        });
        (directory, paths)
    }

    fn written(text: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, text).unwrap();
        (directory, path)
    }

    fn load(paths: &[PathBuf], credentials: Option<&Path>) -> Result<(SigningKeys, Vec<String>), SigningKeyError> {
        SigningKeys::load(paths, credentials, &StoreDirectories::default())
    }

    fn refusal(path: PathBuf) -> SigningKeyError {
        load(&[path], None).unwrap_err()
    }

    #[test]
    fn every_key_signs_in_the_order_of_the_files() {
        let (_directory, paths) = keys(["b-1", "a-1"]);
        let (keys, warnings) = load(&paths, None).unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        let signatures = keys.sign("1;/nix/store/...");
        assert_eq!(signatures.iter().map(|signature| signature.key().as_str()).collect::<Vec<_>>(), ["b-1", "a-1"]);
        for (public, signature) in keys.public_keys().zip(&signatures) {
            assert!(public.verifies(b"1;/nix/store/...", signature));
        }
    }

    #[test]
    fn a_generated_key_is_for_its_owner_only_and_never_overwritten() {
        let (_directory, [path]) = keys(["k"]);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let before = std::fs::read(&path).unwrap();
        let error = generate(&path, name("k")).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot create the signing key {}: ", path.display())), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_key_without_a_newline_is_the_same_key() {
        let (_directory, [path]) = keys(["k"]);
        let text = std::fs::read_to_string(&path).unwrap();
        let (_other, bare) = written(text.trim_end().as_bytes());
        let (keys, _) = load(&[path, bare], None).unwrap();
        assert_eq!(keys.public_keys().count(), 1, "a key that comes twice is taken once");
    }

    #[test]
    fn two_keys_of_one_name_are_refused() {
        let (_directory, paths) = keys(["cache", "cache"]);
        let error = load(&paths, None).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "{} and another signing key are both named \"cache\"\n  help: clients trust one key per name; give a \
                 new key a new name, such as \"cache-2\"",
                paths[1].display()
            )
        );
    }

    #[test]
    fn a_public_key_is_refused_and_the_secret_one_asked_for() {
        let (_directory, paths) = keys(["k"]);
        let (keys, _) = load(&paths, None).unwrap();
        let public = keys.public_keys().next().unwrap().to_string();
        let (_other, path) = written(public.as_bytes());
        let message = refusal(path.clone()).to_string();
        assert!(message.starts_with(&format!("{} is a public key", path.display())), "{message}");
        assert!(message.contains("\n  help: "), "{message}");
    }

    #[test]
    fn what_is_not_a_key_is_refused_with_its_file_named() {
        for (text, reason) in [
            (&b""[..], "no key name before a colon"),
            (b"k:AAAA", "3 bytes where 64 are required"),
            (b"k:?", "not base64"),
            ("\u{feff}k:AAAA".as_bytes(), "byte order mark"),
            ("clé:AAAA".as_bytes(), "'é'"),
        ] {
            let (_directory, path) = written(text);
            let message = refusal(path.clone()).to_string();
            assert!(message.starts_with(&format!("{} is not a signing key: ", path.display())), "{message}");
            assert!(message.contains(reason) && message.contains("\n  help: "), "{message}");
        }
        let (_directory, path) = written(b"\xff");
        assert!(matches!(refusal(path), SigningKeyError::Read { .. }));
        let (directory, path) = written(&[b'a'; 4097]);
        assert!(matches!(refusal(path), SigningKeyError::TooLarge { .. }));
        assert!(matches!(refusal(directory.path().join("absent")), SigningKeyError::Read { .. }));
        assert!(matches!(refusal("/dev/zero".into()), SigningKeyError::TooLarge { .. }));
    }

    #[test]
    fn a_key_in_the_store_is_refused_by_either_of_its_names() {
        let (directory, [path]) = keys(["k"]);
        let stores = StoreDirectories::new([directory.path().to_owned()]);
        let elsewhere = tempfile::tempdir().unwrap();
        let link = elsewhere.path().join("key");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for named in [&path, &link] {
            let message = SigningKeys::load(std::slice::from_ref(named), None, &stores).unwrap_err().to_string();
            let beginning = format!("the signing key {} is no secret: it is {}", named.display(), path.display());
            assert!(message.starts_with(&beginning) && message.contains("\n  help: "), "{message}");
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_warned_about_unless_it_is_a_credential() {
        let (directory, [path]) = keys(["k"]);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o440)).unwrap();
        let paths = [path];
        let (_, warnings) = load(&paths, None).unwrap();
        let shown = paths[0].display();
        assert_eq!(
            warnings,
            [format!("the signing key {shown} is open to others (mode 0440)\n  help: chmod 600 {shown}")]
        );
        let (_, warnings) = load(&paths, Some(directory.path())).unwrap();
        assert_eq!(warnings, Vec::<String>::new());
    }

    #[test]
    fn neither_debug_output_nor_errors_hold_a_secret() {
        let (_directory, [path]) = keys(["k"]);
        let secret = std::fs::read_to_string(&path).unwrap();
        let seed = &secret[2..42];
        let (keys, _) = load(&[path], None).unwrap();
        assert!(!format!("{keys:?}").contains(seed));
        let (_other, cut) = written(&secret.as_bytes()[..80]);
        let error = refusal(cut);
        assert!(!format!("{error} {error:?}").contains(seed));
    }
}
