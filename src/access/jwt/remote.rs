//! Key sets by URL: fetched in the background, kept in memory and in the state directory.
//!
//! A request never waits for a fetch. A token whose key is not known asks for one, and its client is told to try again: a 503,
//! which Nix repeats by itself, where it gives up at a 401 and CI would fail because of a key that was new. Once a fetch has
//! just shown that the issuer has no such key, it is a 401.
//!
//! A fetch that fails changes nothing. The task ends when the last [`RemoteKeys`] of its URL is dropped.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::fetch::fetch;
use super::kept_file::KeptFile;
use super::key_set::KeySet;
use super::token_error::TokenError;
use super::url::JwksUrl;
use crate::metrics::{FetchCounter, TokenKeyMetrics};
use crate::process::supervisor::supervise;
use crate::sync::Mutex;

/// Time between two fetches without any reason.
const REFRESH: Duration = Duration::from_secs(60 * 60);

/// Minimum time between two fetches, whatever tokens and failures ask for.
const MIN_PAUSE: Duration = Duration::from_secs(60);

/// Time that a fetch usually takes, in seconds; clients whose token needs it are told to wait for that.
const USUAL_FETCH: u64 = 2;

/// The keys of a URL, and its task.
#[derive(Debug)]
pub(super) struct RemoteKeys {
    shared: Arc<Shared>,
    /// Asks for a fetch. One that waits is enough.
    fetches: mpsc::Sender<()>,
    is_started: AtomicBool,
}

#[derive(Debug)]
struct Shared {
    url: JwksUrl,
    kept: Option<Arc<KeptFile>>,
    state: Mutex<State>,
    fetches: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

#[derive(Debug, Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    attempted: Option<Instant>,
    succeeded: Option<Instant>,
    /// Whether the last fetch failed, which was logged.
    is_failing: bool,
}

impl RemoteKeys {
    /// Creates the keys of a URL, with those that an earlier process has kept in the state directory.
    pub(super) fn new(url: JwksUrl, state_dir: Option<&Path>) -> Self {
        let kept = state_dir.map(|directory| Arc::new(KeptFile::new(directory, &url.to_string())));
        let keys = kept.as_deref().and_then(read_kept).map(Arc::new);
        let (sender, receiver) = mpsc::channel(1);
        let state = Mutex::new(State { keys, ..State::default() });
        let shared = Shared { url, kept, state, fetches: tokio::sync::Mutex::new(receiver) };
        Self { shared: Arc::new(shared), fetches: sender, is_started: AtomicBool::new(false) }
    }

    pub(super) fn url(&self) -> &JwksUrl {
        &self.shared.url
    }

    /// Starts the task that fetches, unless it was started. Must be called in a runtime.
    pub(super) fn start(&self, metrics: &TokenKeyMetrics) {
        if !self.is_started.swap(true, Ordering::Relaxed) {
            let shared = Arc::clone(&self.shared);
            let fetches = Arc::new(metrics.of(&shared.url.to_string()));
            supervise("token keys", move || Arc::clone(&shared).run(Arc::clone(&fetches)));
        }
    }

    /// Returns the keys that were fetched last.
    pub(super) fn current(&self) -> Option<Arc<KeySet>> {
        self.shared.state.lock().keys.clone()
    }

    /// Asks for a fetch, and returns the error for a token whose key is not among the current ones.
    pub(super) fn unknown_key(&self) -> TokenError {
        // If it is full, one is asked for already.
        let _ = self.fetches.try_send(());
        let state = self.shared.state.lock();
        if state.succeeded.is_some_and(|at| at.elapsed() < MIN_PAUSE) {
            return TokenError::UnknownKey;
        }
        let pause = state.attempted.map_or(Duration::ZERO, |at| MIN_PAUSE.saturating_sub(at.elapsed()));
        let seconds = pause.as_secs() + USUAL_FETCH;
        TokenError::KeysPending { retry_after: seconds.try_into().unwrap_or(u32::MAX) }
    }
}

impl Shared {
    async fn run(self: Arc<Self>, counter: Arc<FetchCounter>) {
        let mut fetches = self.fetches.lock().await;
        // A closed channel has no sender: nothing refers to these keys any longer.
        while !fetches.is_closed() {
            let is_ok = self.refresh().await;
            counter.record(is_ok);
            let pause = if is_ok { REFRESH } else { MIN_PAUSE };
            // Whoever asked before has the answer.
            let _ = fetches.try_recv();
            let asked = async {
                sleep(MIN_PAUSE).await;
                fetches.recv().await
            };
            tokio::select! {
                _ = asked => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Fetches the keys. Returns whether that succeeded.
    async fn refresh(&self) -> bool {
        self.state.lock().attempted = Some(Instant::now());
        let fetched = match fetch(&self.url).await {
            Ok(document) => KeySet::parse(&document).map(|keys| (document, keys)).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match fetched {
            Ok((document, keys)) => {
                let count = keys.count();
                if self.replace(keys) {
                    tracing::info!("fetched {count} token keys from {}", self.url);
                    self.keep(document).await;
                }
                true
            }
            Err(cause) => {
                self.log_failure(&cause);
                false
            }
        }
    }

    /// Replaces the keys. Returns whether they differ, or had not been fetched for a while.
    fn replace(&self, new: KeySet) -> bool {
        let mut state = self.state.lock();
        state.succeeded = Some(Instant::now());
        let was_failing = std::mem::take(&mut state.is_failing);
        // Equal keys stay, and with them the tokens that they have verified.
        if state.keys.as_ref().is_some_and(|keys| keys.has_keys_of(&new)) {
            return was_failing;
        }
        state.keys = Some(Arc::new(new));
        true
    }

    async fn keep(&self, document: Vec<u8>) {
        let Some(kept) = self.kept.clone() else { return };
        let written = tokio::task::spawn_blocking(move || {
            if let Err(cause) = kept.write(&document) {
                tracing::warn!("cannot keep token keys in {}: {cause}", kept.path().display());
            }
        });
        // It has logged its error.
        let _ = written.await;
    }

    fn log_failure(&self, cause: &str) {
        let keys = {
            let mut state = self.state.lock();
            if std::mem::replace(&mut state.is_failing, true) {
                return;
            }
            state.keys.as_ref().map(|keys| keys.count())
        };
        let consequence = match keys {
            Some(keys) => format!("keeping the {keys} fetched before"),
            None => "answering tokens of this issuer with 503 until then".to_owned(),
        };
        tracing::warn!(
            "cannot fetch token keys from {}, trying again every minute, {consequence}: {cause}\n  help: check that this machine \
             can reach it and the unit has a network (PrivateNetwork=no), or save the document and set jwks_path",
            self.url
        );
    }
}

fn read_kept(kept: &KeptFile) -> Option<KeySet> {
    let document = match kept.read() {
        Ok(document) => document?,
        Err(cause) => {
            tracing::warn!("cannot read kept token keys in {}: {cause}", kept.path().display());
            return None;
        }
    };
    match KeySet::parse(&document) {
        Ok(keys) => Some(keys),
        Err(cause) => {
            tracing::warn!("cannot use kept token keys in {}: {cause}", kept.path().display());
            None
        }
    }
}
