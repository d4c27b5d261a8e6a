//! Passwords that were right lately, as keyed hashes: bcrypt is for once in a few minutes, not for each request.
//!
//! Each user has one place. A tag is made of the hash in the users file and the password, with a key of this process, so it is
//! worth nothing in another process, for another user, or once the hash in the file has changed.

use std::time::Duration;

use ring::digest::SHA256_OUTPUT_LEN;
use ring::error::Unspecified;
use ring::hmac;
use ring::rand::SystemRandom;
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

use super::password_hash::PasswordHash;
use crate::sync::Mutex;

/// Time for which a password is taken for right without bcrypt.
pub(super) const FRESH: Duration = Duration::from_secs(5 * 60);

/// Keyed hash of a name, its hash in the users file, and a password.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Tag([u8; SHA256_OUTPUT_LEN]);

/// Makes tags, with a random key of this process.
pub(super) struct TagKey(hmac::Key);

/// Knowledge of a password before bcrypt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    /// It was right within [`FRESH`].
    Fresh,
    /// It was right before that.
    Stale,
    /// Nothing.
    None,
}

/// Place for the last right password of a user.
#[derive(Default)]
pub(super) struct Remembered(Mutex<Option<(Tag, Instant)>>);

impl TagKey {
    pub(super) fn new() -> Result<Self, Unspecified> {
        hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map(Self)
    }

    /// Returns the tag of a password for a user of this name and hash.
    pub(super) fn tag(&self, name: &str, hash: &PasswordHash, password: &[u8]) -> Tag {
        let mut context = hmac::Context::with_key(&self.0);
        hash.identity().for_each(|part| context.update(part));
        // Its length comes first, so that no other name and password are the same bytes.
        context.update(&(name.len() as u64).to_le_bytes());
        context.update(name.as_bytes());
        context.update(password);
        let mut tag = [0; SHA256_OUTPUT_LEN];
        tag.copy_from_slice(context.sign().as_ref());
        Tag(tag)
    }
}

impl Remembered {
    /// Returns what is known of the password that the tag is of.
    pub(super) fn recall(&self, tag: &Tag) -> Memory {
        let place = *self.0.lock();
        match place {
            Some((right, since)) if bool::from(right.0.ct_eq(&tag.0)) => {
                if since.elapsed() < FRESH {
                    Memory::Fresh
                } else {
                    Memory::Stale
                }
            }
            _ => Memory::None,
        }
    }

    /// Remembers a password that was right just now.
    pub(super) fn remember(&self, tag: Tag) {
        *self.0.lock() = Some((tag, Instant::now()));
    }
}
