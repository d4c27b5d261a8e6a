//! The keys that this cache signs with, and their files.
//!
//! Owns reading key files and what is said about a bad one, making a new one, and which paths are signed (`signer`).
//! Leaves the format and the arithmetic to [`harmonia_protocol::signature`], what the text is that is signed to the path
//! info, and the settings to [`crate::config`].
//!
//! Invariants: key names are unique, because a client trusts one key per name (Nix keys `trusted-public-keys` by name);
//! no message and no `Debug` output holds a part of a secret.

mod examine;
mod signer;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use harmonia_protocol::signature::{KeyError, KeyName, PublicKey, SecretKey, Signature};

pub use examine::{SignatureReport, SignatureStatus, Trust};
pub use signer::Signer;

use crate::config::{Config, StoreDirectories};

/// A key file has a name of at most 255 characters, a colon and 88 characters of base64; this leaves room for white
/// space and keeps a wrong path, a device say, from being read into memory.
const MAX_KEY_FILE: u64 = 4096;

const MAKE_ONE: &str = "make one with `nix-store --generate-binary-cache-key NAME SECRET-FILE PUBLIC-FILE`";

/// Why a signing key cannot be used. Every message names the file.
#[derive(Debug, thiserror::Error)]
pub enum SigningKeyError {
    /// The file could not be read.
    #[error("cannot read the signing key {}: {cause}{}", path.display(), unreadable_help(path, .cause))]
    Read {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The file is in the store.
    #[error(
        "the signing key {} is no secret: it is {} in the Nix store, which every user reads and this cache serves\n  help: make a new one outside the store, with `nix-store --generate-binary-cache-key`, and name it by its path as a string",
        path.display(),
        found.display()
    )]
    InStore {
        /// The key file, as it was named.
        path: PathBuf,
        /// Its place behind all symlinks.
        found: PathBuf,
    },
    /// What should be the name of a file is a key, which is not repeated.
    #[error(
        "a signing key itself is given where the name of its file belongs\n  help: write it into a file that only this user can read, and make a new one if others have seen it"
    )]
    NotAFile,
    /// The file is far larger than any key.
    #[error("{} is not a signing key: it is larger than {MAX_KEY_FILE} bytes\n  help: {MAKE_ONE}", path.display())]
    TooLarge {
        /// The key file.
        path: PathBuf,
    },
    /// The file holds the public half.
    #[error(
        "{} is a public key, a signing key is secret\n  help: use the first of the two files that `nix-store --generate-binary-cache-key` wrote",
        path.display()
    )]
    Public {
        /// The key file.
        path: PathBuf,
    },
    /// The file holds something else.
    #[error("{} is not a signing key: {cause}\n  help: {}", path.display(), malformed_help(.cause))]
    Malformed {
        /// The key file.
        path: PathBuf,
        /// What is wrong with its text.
        cause: KeyError,
    },
    /// Two different keys have one name.
    #[error(
        "{} and another signing key are both named \"{name}\"\n  help: a client trusts one key per name: give a new key a new name, such as \"{name}-2\"",
        path.display()
    )]
    SameName {
        /// The second file.
        path: PathBuf,
        /// The name of both.
        name: KeyName,
    },
    /// A new key could not be made or written.
    #[error("cannot create the signing key {}: {cause}", path.display())]
    Create {
        /// The file to be.
        path: PathBuf,
        /// What failed.
        cause: io::Error,
    },
}

/// Returns the way out for a key that cannot be read.
fn unreadable_help(path: &Path, cause: &io::Error) -> String {
    let path = path.display();
    match cause.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "\n  help: the user that harmonia runs as has to be able to read it; a service of systemd is given a copy by a \
             drop-in with LoadCredential=sign-key-1:{path}, and then {path} has no place in sign_key_paths or SIGN_KEY_PATHS"
        ),
        io::ErrorKind::NotFound if path.to_string().contains([':', ',']) => {
            "\n  help: several files are separated by spaces in SIGN_KEY_PATHS, and an array in the configuration file"
                .to_owned()
        }
        io::ErrorKind::NotFound => format!(
            "\n  help: `nix-store --generate-binary-cache-key NAME {path} PUBLIC-FILE` makes one, where the name is right"
        ),
        io::ErrorKind::IsADirectory => "\n  help: name the file in it that has the secret key".to_owned(),
        _ => String::new(),
    }
}

/// What can be done about a key that is not one.
const fn malformed_help(cause: &KeyError) -> &'static str {
    match cause {
        KeyError::NameCharacter('\u{feff}') => {
            "an editor has put a byte order mark in front of the key: save the file as plain UTF-8 without one"
        }
        KeyError::NameCharacter(_) => "clients compare names byte by byte: make a key with a name of ASCII letters",
        _ => MAKE_ONE,
    }
}

/// The keys that sign narinfos and realisations, in the order of their files.
#[derive(Debug, Default)]
pub struct SigningKeys(Vec<SecretKey>);

impl SigningKeys {
    /// Reads the keys from these files. The strings are warnings for the log: a key that others can read.
    ///
    /// A key that comes twice is taken once. Files below `credentials` are not warned about: systemd makes them
    /// readable for a group (0440) in a directory that is closed to it. Files in `stores` are refused.
    pub fn load(
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

    /// Reads the keys that are configured. Warnings go to the log.
    pub fn load_and_warn(config: &Config) -> Result<Self, SigningKeyError> {
        let Config { sign_key_paths, credentials_directory, .. } = config;
        let (keys, warnings) =
            Self::load(sign_key_paths, credentials_directory.as_deref(), &config.store_directories())?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        Ok(keys)
    }

    /// Each key's signature of the fingerprint of a path info or a realisation.
    #[must_use]
    pub fn sign(&self, fingerprint: &str) -> Vec<Signature> {
        self.0.iter().map(|key| key.sign(fingerprint.as_bytes())).collect()
    }

    /// What clients list in `trusted-public-keys`, in the same order.
    pub fn public_keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.iter().map(SecretKey::public_key)
    }

    /// The same as the value of that setting; empty without keys.
    #[must_use]
    pub fn trusted_public_keys(&self) -> String {
        self.public_keys().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }
}

/// Makes a new key of this name and writes it to a new file that only this user can read. A file that is there is an
/// error, whatever it holds; one that could not be written whole is removed again.
pub fn generate(path: &Path, name: KeyName) -> Result<(), SigningKeyError> {
    let create = |cause| SigningKeyError::Create { path: path.to_owned(), cause };
    let (_, secret) = SecretKey::generate(name).map_err(|cause| create(io::Error::other(cause)))?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(create)?;
    file.write_all(format!("{secret}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(|cause| {
        // The first error is the one to report; an empty key file left behind would only be reported by the next start.
        drop(std::fs::remove_file(path));
        create(cause)
    })
}

/// A key file's key and its mode, of one and the same file.
fn read(path: &Path, stores: &StoreDirectories) -> Result<(SecretKey, u32), SigningKeyError> {
    if path.to_str().is_some_and(|path| SecretKey::parse(path).is_ok()) {
        return Err(SigningKeyError::NotAFile);
    }
    if let Some(found) = stores.find(path) {
        return Err(SigningKeyError::InStore { path: path.to_owned(), found });
    }
    let unreadable = |cause| SigningKeyError::Read { path: path.to_owned(), cause };
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    let mut text = String::new();
    file.take(MAX_KEY_FILE + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_KEY_FILE {
        return Err(SigningKeyError::TooLarge { path: path.to_owned() });
    }
    let text = text.trim_end();
    match SecretKey::parse(text) {
        Ok(key) => Ok((key, mode)),
        Err(_) if PublicKey::parse(text).is_ok() => Err(SigningKeyError::Public { path: path.to_owned() }),
        Err(cause) => Err(SigningKeyError::Malformed { path: path.to_owned(), cause }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> KeyName {
        KeyName::new(text).unwrap()
    }

    /// A directory, and a path in it for each key name, where a key was generated.
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
                "{} and another signing key are both named \"cache\"\n  help: a client trusts one key per name: give a \
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
