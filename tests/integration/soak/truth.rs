//! What is so, whatever the server says: which paths are valid and since when, and their NARs, as Nix dumps them.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use harmonia_protocol::nix32;
use ring::digest::{SHA256, digest};

use crate::nix::daemon::Daemon;
use crate::support::store_item::hash_part;

/// Of the state of a path: the rest counts its changes.
const KINDS: u64 = 3;
const VALID: u64 = 0;
const CHANGING: u64 = 1;
const INVALID: u64 = 2;

/// A path that is valid now or was.
pub(super) struct TruePath {
    pub(super) path: String,
    pub(super) nar: Vec<u8>,
    nar_hash: String,
    state: AtomicU64,
}

/// What a path was when a request began.
#[derive(Clone, Copy)]
pub(super) struct Then(u64);

impl TruePath {
    /// Of a path that is valid.
    pub(super) fn of(daemon: &Daemon, path: &str) -> Self {
        let nar = daemon.run(&["nix-store", "--dump", path]).stdout();
        let nar_hash = nix32::encode(digest(&SHA256, &nar).as_ref());
        Self { path: path.to_owned(), nar, nar_hash, state: AtomicU64::new(VALID) }
    }

    pub(super) fn narinfo_url(&self) -> String {
        format!("/{}.narinfo", hash_part(&self.path))
    }

    pub(super) fn nar_url(&self) -> String {
        format!("/nar/{}-{}.nar", hash_part(&self.path), self.nar_hash)
    }

    /// Whether a narinfo says what is so.
    pub(super) fn is_told_by(&self, narinfo: &str) -> bool {
        let size = self.nar.len().to_string();
        [("StorePath", &self.path), ("NarHash", &format!("sha256:{}", self.nar_hash)), ("NarSize", &size)]
            .iter()
            .all(|(name, value)| narinfo.lines().any(|line| line == format!("{name}: {value}")))
    }

    /// The path as it is now.
    pub(super) fn now(&self) -> Then {
        Then(self.state.load(Ordering::SeqCst))
    }

    /// Whether it has been valid all the time since then: "not found" is a lie.
    pub(super) fn valid_since(&self, then: Then) -> bool {
        then.0 % KINDS == VALID && self.now().0 == then.0
    }

    /// Whether it has not been valid at any time since then: a narinfo is a lie.
    pub(super) fn invalid_since(&self, then: Then) -> bool {
        then.0 % KINDS == INVALID && self.now().0 == then.0
    }

    /// From now on it may be valid or not.
    pub(super) fn changes(&self) {
        self.becomes(CHANGING);
    }

    pub(super) fn is_now(&self, valid: bool) {
        self.becomes(if valid { VALID } else { INVALID });
    }

    fn becomes(&self, kind: u64) {
        let count = self.state.load(Ordering::SeqCst) / KINDS + 1;
        self.state.store(count * KINDS + kind, Ordering::SeqCst);
    }
}

/// The bytes under the URLs of compressed NARs, which never change.
#[derive(Default)]
pub(super) struct Compressed(Mutex<HashMap<String, Vec<u8>>>);

impl Compressed {
    /// Remembers a whole body, whether it is right or not, and compares it with those before.
    pub(super) fn is_the_same(&self, url: &str, body: &[u8]) -> bool {
        let mut known = self.0.lock().unwrap();
        if let Some(before) = known.get(url) {
            return before == body;
        }
        known.insert(url.to_owned(), body.to_vec());
        true
    }

    /// So many bytes from there, if the whole is known.
    pub(super) fn part(&self, url: &str, range: std::ops::Range<usize>) -> Option<Vec<u8>> {
        self.0.lock().unwrap().get(url).map(|body| body[range].to_vec())
    }

    pub(super) fn length(&self, url: &str) -> Option<usize> {
        self.0.lock().unwrap().get(url).map(Vec::len)
    }
}
