//! Signing keys in the format of Nix, one set per test run.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::LazyLock;

use harmonia_protocol::signature::SecretKey;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use super::scratch;

/// Key that harmonia signs with.
pub(crate) static OURS: LazyLock<Key> = LazyLock::new(|| Key::generate("harmonia.test-1"));
/// Key that signed nothing.
pub(crate) static THIRD: LazyLock<Key> = LazyLock::new(|| Key::generate("nowhere.test-1"));
/// Key that signed some paths of the store, as if they came from another cache.
pub(crate) static FOREIGN: LazyLock<Key> = LazyLock::new(|| Key::generate("elsewhere.test-1"));

/// A key pair in the format of Nix.
pub(crate) struct Key {
    /// Name of the key, with which its signatures begin.
    pub(crate) name: &'static str,
    /// File of the secret key.
    pub(crate) secret: PathBuf,
    /// Public key as text: `name:base64`.
    pub(crate) public: String,
}

impl Key {
    /// Generates a key of this name.
    pub(crate) fn generate(name: &'static str) -> Self {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).unwrap();
        let public = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap().public_key().as_ref().to_owned();
        let base64 = |bytes: &[u8]| data_encoding::BASE64.encode(bytes);
        let secret = scratch::fresh_dir().join("secret");
        fs::write(&secret, format!("{name}:{}", base64(&[&seed, &*public].concat()))).unwrap();
        fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
        Self { name, secret, public: format!("{name}:{}", base64(&public)) }
    }

    /// Signs these bytes; returns `name:base64`.
    pub(crate) fn sign(&self, message: &[u8]) -> String {
        SecretKey::parse(fs::read_to_string(&self.secret).unwrap().trim_end()).unwrap().sign(message).to_string()
    }

    /// Returns whether this is a signature, `name:base64`, of these bytes by this key.
    pub(crate) fn verifies(&self, signature: &str, message: &[u8]) -> bool {
        let base64 = |text: &str| data_encoding::BASE64.decode(text.as_bytes()).unwrap();
        let (name, public) = self.public.split_once(':').unwrap();
        let (signer, signature) = signature.split_once(':').unwrap();
        signer == name && UnparsedPublicKey::new(&ED25519, base64(public)).verify(message, &base64(signature)).is_ok()
    }
}
