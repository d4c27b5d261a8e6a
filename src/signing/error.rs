//! Errors of signing keys.

use std::io;
use std::path::{Path, PathBuf};

use harmonia_protocol::signature::{KeyError, KeyName};

const MAKE_ONE: &str = "make one with `nix-store --generate-binary-cache-key NAME SECRET-FILE PUBLIC-FILE`";

/// Upper bound of a key file, in bytes.
///
/// A key has a name of at most 255 characters, a colon and 88 characters of base64. The bound keeps a wrong path, such as a
/// device, from being read into memory.
pub(super) const MAX_KEY_FILE: u64 = 4096;

/// Reason why a signing key cannot be used or created. Every message names the file, but for [`Self::NotAFile`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum SigningKeyError {
    /// The file could not be read.
    #[error("cannot read the signing key {}: {cause}{}", path.display(), unreadable_help(path, .cause))]
    Read {
        /// The key file.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// The file is in the Nix store, which this cache serves.
    #[error(
        "the signing key {} is no secret: it is {} in the Nix store, which every user can read and this cache serves\n  help: make a new one outside the store, with `nix-store --generate-binary-cache-key`, and give its path as a string",
        path.display(),
        found.display()
    )]
    InStore {
        /// The key file, as configured.
        path: PathBuf,
        /// Its path with all symlinks resolved.
        found: PathBuf,
    },
    /// The configured path is a secret key itself. The message does not repeat it.
    #[error(
        "a secret key was given in place of the path of a key file\n  help: write it into a file that only this user can read, and make a new one if others have seen it"
    )]
    NotAFile,
    /// The file is larger than any key.
    #[error("{} is not a signing key: it is larger than {MAX_KEY_FILE} bytes\n  help: {MAKE_ONE}", path.display())]
    TooLarge {
        /// The key file.
        path: PathBuf,
    },
    /// The file holds a public key.
    #[error(
        "{} is a public key, but signing needs the secret one\n  help: use the first of the two files that `nix-store --generate-binary-cache-key` wrote",
        path.display()
    )]
    Public {
        /// The key file.
        path: PathBuf,
    },
    /// The file holds no key.
    #[error("{} is not a signing key: {cause}\n  help: {}", path.display(), malformed_help(.cause))]
    Malformed {
        /// The key file.
        path: PathBuf,
        /// The syntax error.
        cause: KeyError,
    },
    /// Two different keys have the same name.
    #[error(
        "{} and another signing key are both named \"{name}\"\n  help: clients trust one key per name; give a new key a new name, such as \"{name}-2\"",
        path.display()
    )]
    SameName {
        /// The second file.
        path: PathBuf,
        /// Their name.
        name: KeyName,
    },
    /// A new key could not be generated or written.
    #[error("cannot create the signing key {}: {cause}", path.display())]
    Create {
        /// The file to be created.
        path: PathBuf,
        /// The error.
        cause: io::Error,
    },
}

/// Returns the help line for a key file that cannot be read.
fn unreadable_help(path: &Path, cause: &io::Error) -> String {
    let path = path.display();
    match cause.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "\n  help: let the user that harmonia runs as read it; for a systemd service, add a drop-in with \
             LoadCredential=sign-key-1:{path} and remove {path} from sign_key_paths and SIGN_KEY_PATHS"
        ),
        io::ErrorKind::NotFound if path.to_string().contains([':', ',']) => {
            "\n  help: separate several files by spaces in SIGN_KEY_PATHS, or use an array in the configuration file"
                .to_owned()
        }
        io::ErrorKind::NotFound => format!(
            "\n  help: `nix-store --generate-binary-cache-key NAME {path} PUBLIC-FILE` creates it, if the path is right"
        ),
        io::ErrorKind::IsADirectory => "\n  help: give the path of a key file in this directory".to_owned(),
        _ => String::new(),
    }
}

/// Returns the help line for a malformed key.
const fn malformed_help(cause: &KeyError) -> &'static str {
    match cause {
        KeyError::NameCharacter('\u{feff}') => "the file begins with a byte order mark: save it as UTF-8 without one",
        KeyError::NameCharacter(_) => "clients compare names byte by byte: make a key whose name is ASCII",
        _ => MAKE_ONE,
    }
}
