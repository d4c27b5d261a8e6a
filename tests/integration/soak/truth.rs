//! Real state of the store: which paths are valid and since when, and their NARs, as Nix dumps them.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use harmonia_protocol::nix32;
use ring::digest::{SHA256, digest};

use crate::nix::daemon::Daemon;
use crate::support::store_item::hash_part;

/// Modulus of a path's state: the remainder is one of the states below, the quotient counts the changes.
const KINDS: u64 = 3;
const VALID: u64 = 0;
const CHANGING: u64 = 1;
const INVALID: u64 = 2;

/// Path that is or was valid.
pub(super) struct TruePath {
    pub(super) path: String,
    pub(super) nar: Vec<u8>,
    nar_hash: String,
    state: AtomicU64,
}

/// State of a path at the beginning of a request.
#[derive(Clone, Copy)]
pub(super) struct Then(u64);

impl TruePath {
    /// Reads the NAR of a valid path from the store.
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

    /// Returns whether a narinfo is correct.
    pub(super) fn is_told_by(&self, narinfo: &str) -> bool {
        let size = self.nar.len().to_string();
        [("StorePath", &self.path), ("NarHash", &format!("sha256:{}", self.nar_hash)), ("NarSize", &size)]
            .iter()
            .all(|(name, value)| narinfo.lines().any(|line| line == format!("{name}: {value}")))
    }

    /// Returns the current state.
    pub(super) fn now(&self) -> Then {
        Then(self.state.load(Ordering::SeqCst))
    }

    /// Returns whether it has been valid all the time since then, so that a 404 is wrong.
    pub(super) fn valid_since(&self, then: Then) -> bool {
        then.0 % KINDS == VALID && self.now().0 == then.0
    }

    /// Returns whether it has been invalid all the time since then, so that a narinfo is wrong.
    pub(super) fn invalid_since(&self, then: Then) -> bool {
        then.0 % KINDS == INVALID && self.now().0 == then.0
    }

    /// Marks the path as changing: it may be valid or not.
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

/// Bytes at the URLs of compressed NARs, which must never change.
#[derive(Default)]
pub(super) struct Compressed(Mutex<HashMap<String, Vec<u8>>>);

impl Compressed {
    /// Stores the first complete body of a URL; returns whether this one equals it.
    pub(super) fn is_the_same(&self, url: &str, body: &[u8]) -> bool {
        let mut known = self.0.lock().unwrap();
        if let Some(before) = known.get(url) {
            return before == body;
        }
        known.insert(url.to_owned(), body.to_vec());
        true
    }

    /// Returns this many bytes from this offset, if the complete body is known.
    pub(super) fn part(&self, url: &str, range: std::ops::Range<usize>) -> Option<Vec<u8>> {
        self.0.lock().unwrap().get(url).map(|body| body[range].to_vec())
    }

    pub(super) fn length(&self, url: &str) -> Option<usize> {
        self.0.lock().unwrap().get(url).map(Vec::len)
    }
}
