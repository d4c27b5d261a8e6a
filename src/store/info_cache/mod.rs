//! What the daemon said about paths, kept in memory for as long as it is known to hold.
//!
//! Owns when an answer may be used again, and that one question is asked for all who wait for it. `ahead` asks
//! about references before clients do, `batch` about many paths at once. Leaves how a path looks to `sighting`, how many wait for one question to `flights`,
//! the connections to `pool`, and what is made of an answer to others.
//!
//! - An answer is used while the path looks as it did *before* the daemon was asked, and is younger than `ttl`. The
//!   second is all there is where the store is not visible here; where it is, it is for what no file shows: signatures.
//! - That a path is not valid is never kept, and wins over whatever is.
//! - While the daemon does not answer, what it said about a path that is visible and still there is used whatever its
//!   age. A path is valid until it is deleted, which shows.
//! - Errors are shared by those who waited for the question, and not kept.

mod ahead;
mod batch;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use harmonia_protocol::hash::NarHash;
use harmonia_protocol::operation::{QueryPathFromHashPart, QueryPathInfo};
use harmonia_protocol::path_info::PathInfo;
use harmonia_protocol::{HashPart, StorePath};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::flights::Flights;
use super::pool::{Pool, Questions};
use super::sighting::Sighting;
use super::{Signed, StoreError, ValidPath};
use crate::clock_cache::ClockCache;
use crate::fairness::ClientId;
use crate::metrics::{Lookup, Metrics};
use crate::sync::Mutex;
use ahead::Ahead;
pub(super) use batch::BATCH;

/// How long a client waits for a new answer where an old one would do.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long old answers are used without asking once the daemon has not answered: it is not asked by every request then,
/// each of which would wait.
const PAUSE: Duration = Duration::from_secs(10);
/// A question that others asked ahead may end without an answer; it is then asked here.
const ATTEMPTS: usize = 3;
/// Known paths that are looked at before others have their turn: a tenth of a millisecond.
const LOOKED_AT_ONCE: usize = 1024;
/// Paths of one NAR that are of use: very many have that of an empty directory, and one is enough.
const MAX_WITH_NAR: usize = 64;

/// The valid path, or that there is none, or why the daemon cannot say.
pub(super) type Answer = Result<Option<Arc<ValidPath>>, StoreError>;

/// What is known of the paths of one daemon.
#[derive(Debug)]
pub(super) struct InfoCache {
    pool: Arc<Pool>,
    real_directory: Arc<Path>,
    /// In milliseconds.
    ttl: AtomicU64,
    known: Mutex<ClockCache<HashPart, Known>>,
    flights: Arc<Flights<HashPart, Answer>>,
    ahead: Ahead,
    /// Until when nothing is asked where an old answer would do; something since the daemon last did not answer.
    pause: Mutex<Option<Instant>>,
    /// Held by whoever looks through all that is known.
    looking: Mutex<()>,
    metrics: Arc<Metrics>,
}

/// An answer of the daemon.
#[derive(Debug, Clone)]
struct Known {
    valid: Arc<ValidPath>,
    /// As the path looked before the daemon was asked; nothing where the store is not visible here.
    sighting: Option<Sighting>,
    /// When it was asked; nothing if what it said has turned out to be doubtful.
    asked: Option<Instant>,
    /// Whether its references have been looked through.
    is_walked: bool,
}

/// What an answer is good for now.
enum Standing {
    /// To be used.
    Fresh,
    /// To be used if the daemon does not answer.
    Aged,
    /// For nothing but the path's name.
    Changed,
}

/// When, and with what in sight, the daemon was asked about a path.
#[derive(Debug, Clone, Copy)]
struct Circumstances {
    asked: Instant,
    sighting: Option<Sighting>,
}

impl InfoCache {
    /// Knows nothing yet. What it keeps is no more than `max_bytes` and used for `ttl`.
    pub(super) fn new(
        pool: Arc<Pool>,
        real_directory: &Path,
        max_bytes: usize,
        ttl: Duration,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            pool,
            real_directory: real_directory.into(),
            ttl: AtomicU64::new(milliseconds(ttl)),
            known: Mutex::new(ClockCache::new(max_bytes)),
            flights: Flights::new(),
            ahead: Ahead::new(max_bytes),
            pause: Mutex::default(),
            looking: Mutex::default(),
            metrics,
        })
    }

    /// The valid path that has this hash part; `None` if the daemon says that there is none. Dropping the future takes
    /// nothing from others who wait for the same.
    pub(super) async fn valid_path(self: &Arc<Self>, hash: HashPart, client: ClientId) -> Answer {
        let known = self.known().find(&hash).cloned();
        let standing = known.map(|known| (self.standing(&known), known.valid));
        match standing {
            Some((Standing::Fresh, valid)) => {
                self.metrics.looked_up(Lookup::Hit);
                Ok(Some(valid))
            }
            Some((Standing::Aged, valid)) => self.refreshed(hash, valid, client).await,
            Some((Standing::Changed, valid)) => self.ask(hash, Some(valid), client).await,
            None => self.ask(hash, None, client).await,
        }
    }

    /// Takes note of why a NAR failed. If that may be because it is not what its info says, or not valid any more, the
    /// daemon is to be asked again; not if there is no daemon.
    pub(super) fn doubt(&self, hash: HashPart, why: &StoreError) {
        if why.is_silence() {
            return;
        }
        if let Some(known) = self.known().find(&hash) {
            known.asked = None;
        }
    }

    /// The daemon has said that a path is not valid.
    pub(super) fn forget(&self, path: &StorePath) {
        self.known().remove(&path.hash_part());
    }

    /// The base name of the path with this hash part, if that is known; no use of what is known.
    pub(super) fn known_name(&self, hash: HashPart) -> Option<String> {
        self.known().peek(&hash).map(|known| known.valid.path.base_name().to_string())
    }

    /// Keeps what has been made of a path with it, which then takes more of the memory.
    pub(super) fn keep_signed(&self, valid: &ValidPath, by: &Arc<()>, signed: Signed) {
        let hash = valid.path.hash_part();
        let mut known = self.known();
        valid.set_signed(by, signed);
        self.metrics.signed();
        if known.peek(&hash).is_some_and(|known| std::ptr::eq(&raw const *known.valid, valid)) {
            known.reweigh(&hash, valid.weight());
        }
    }

    /// Known paths that are `wanted` and whose NAR has this hash, [`MAX_WITH_NAR`] or a few more at the most. Looks at all that
    /// are known, a few at a time, since others wait meanwhile.
    pub(super) fn with_nar(&self, nar_hash: &NarHash, wanted: impl Fn(&ValidPath) -> bool) -> Vec<HashPart> {
        let (mut found, mut end) = (Vec::new(), usize::MAX);
        // One at a time, however many ask.
        let _looking = self.looking.lock();
        while end > 0 && found.len() < MAX_WITH_NAR {
            let with_it: Vec<_> = {
                let known = self.known();
                let (values, first) = known.before(end, LOOKED_AT_ONCE);
                end = first;
                let valid = values.map(|known| &known.valid);
                valid.filter(|valid| valid.info.nar_hash == *nar_hash).map(Arc::clone).collect()
            };
            found.extend(with_it.iter().filter(|valid| wanted(valid)).map(|valid| valid.path.hash_part()));
            std::thread::yield_now();
        }
        found
    }

    /// How many paths are known, and the lengths of their NARs together in bytes. Looks at a few at a time, as
    /// [`Self::with_nar`] does.
    pub(super) async fn sizes(&self) -> (usize, u64) {
        let (mut paths, mut bytes, mut end) = (0, 0_u64, usize::MAX);
        while end > 0 {
            {
                let known = self.known();
                let (values, first) = known.before(end, LOOKED_AT_ONCE);
                end = first;
                for known in values {
                    paths += 1;
                    bytes = bytes.saturating_add(known.valid.info.nar_size);
                }
            }
            tokio::task::yield_now().await;
        }
        (paths, bytes)
    }

    /// The path that has this hash part, by what the daemon said last, if that is kept.
    pub(super) fn known_path(&self, hash: HashPart) -> Option<Arc<ValidPath>> {
        self.known().peek(&hash).map(|known| Arc::clone(&known.valid))
    }

    /// Enters how much is known.
    pub(super) fn record(&self) {
        let known = self.known();
        self.metrics.cache(known.len(), known.bytes());
    }

    /// One system call, on the thread of the request: a path that is served has its inode in memory, so that it takes a
    /// microsecond, less than handing it to another thread would.
    fn standing(&self, known: &Known) -> Standing {
        let sighting = Sighting::of(&self.real_directory, &known.valid.path);
        if sighting != known.sighting {
            Standing::Changed
        } else if self.is_young(known) {
            Standing::Fresh
        } else if sighting.is_some() {
            Standing::Aged
        } else {
            Standing::Changed
        }
    }

    /// Uses answers for so long from now on, also those that are known.
    pub(super) fn use_for(&self, ttl: Duration) {
        self.ttl.store(milliseconds(ttl), Ordering::Relaxed);
    }

    fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl.load(Ordering::Relaxed))
    }

    fn is_young(&self, known: &Known) -> bool {
        known.asked.is_some_and(|asked| asked.elapsed() < self.ttl())
    }

    /// A new answer in place of an old one, or that if there is no new one.
    async fn refreshed(self: &Arc<Self>, hash: HashPart, old: Arc<ValidPath>, client: ClientId) -> Answer {
        if !self.is_paused() {
            match timeout(PATIENCE, self.ask(hash, Some(Arc::clone(&old)), client)).await {
                Ok(Ok(answer)) => {
                    *self.pause.lock() = None;
                    return Ok(answer);
                }
                Ok(Err(error)) if error.is_silence() => self.pause(&error),
                // Of this path only; others are still worth asking about. The metrics count it.
                Ok(Err(error)) => tracing::debug!(path = %old.path, "the path info in use stays: {error}"),
                Err(_) => self.pause(&format_args!("the nix daemon does not answer within {PATIENCE:?}")),
            }
        }
        self.metrics.looked_up(Lookup::Stale);
        Ok(Some(old))
    }

    fn is_paused(&self) -> bool {
        self.pause.lock().is_some_and(|end| Instant::now() < end)
    }

    fn pause(&self, why: &dyn std::fmt::Display) {
        let before = self.pause.lock().replace(Instant::now() + PAUSE);
        if before.is_none() {
            tracing::warn!("what is known of paths that are still there is used until the nix daemon answers: {why}");
        }
    }

    /// Asks the daemon, or waits for an answer that somebody has asked for already. `hint` spares a question.
    pub(super) async fn ask(
        self: &Arc<Self>,
        hash: HashPart,
        hint: Option<Arc<ValidPath>>,
        client: ClientId,
    ) -> Answer {
        self.metrics.looked_up(Lookup::Miss);
        for _ in 0..ATTEMPTS {
            let (ticket, flight) = self.flights.board(hash, client);
            if let Some(mut flight) = flight {
                let (this, hint, clients) = (Arc::clone(self), hint.clone(), flight.clients());
                tokio::spawn(async move { flight.fly(this.question(hash, hint, clients)).await });
            }
            if let Some(answer) = ticket.arrival().await {
                return answer;
            }
        }
        Err(StoreError::GivenUp(hash))
    }

    /// Asks by the turn of whichever of these clients is first.
    async fn question(
        &self,
        hash: HashPart,
        hint: Option<Arc<ValidPath>>,
        clients: mpsc::UnboundedReceiver<ClientId>,
    ) -> Answer {
        let mut questions = self.pool.questions_for_any(clients).await?;
        if let Some(hint) = hint {
            // Most often it is as it was.
            if let Some(valid) = self.info(hint.path.clone(), &mut questions).await? {
                return Ok(Some(valid));
            }
        }
        let Some(path) = questions.call(&QueryPathFromHashPart(hash)).await? else {
            self.known().remove(&hash);
            return Ok(None);
        };
        if path.hash_part() != hash {
            return Err(StoreError::AnotherPath { asked: hash, answered: path });
        }
        self.info(path, &mut questions).await
    }

    async fn info(&self, path: StorePath, questions: &mut Questions<'_>) -> Answer {
        let circumstances = self.circumstances(vec![path.clone()]).await.pop();
        let info = questions.call(&QueryPathInfo(&path)).await?;
        self.learn(path, info, circumstances)
    }

    /// Looks at paths before the daemon is asked about them; in their order. Nobody has looked at them yet, perhaps, so
    /// that it may take a disk's time.
    async fn circumstances(&self, paths: Vec<StorePath>) -> Vec<Circumstances> {
        let directory = Arc::clone(&self.real_directory);
        let look = move || {
            let asked = Instant::now();
            paths.iter().map(|path| Circumstances { asked, sighting: Sighting::of(&directory, path) }).collect()
        };
        // It is cancelled only at the end of the program.
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }

    /// Takes up an answer of the daemon. The same info as before is the same value as before, so that what was made of it
    /// holds.
    fn learn(&self, path: StorePath, info: Option<PathInfo>, circumstances: Option<Circumstances>) -> Answer {
        let hash = path.hash_part();
        let Some(info) = info else {
            self.known().remove(&hash);
            return Ok(None);
        };
        if info.nar_size == 0 {
            self.known().remove(&hash);
            return Err(StoreError::UnknownSize(path));
        }
        // It came while the daemon was asked; if it went before the next look, nothing would show.
        let came =
            |seen: &Circumstances| seen.sighting.is_none() && Sighting::of(&self.real_directory, &path).is_some();
        let circumstances = circumstances.filter(|seen| !came(seen));
        let mut known = self.known();
        let before = known.peek(&hash).map(|known| &known.valid);
        let now = ValidPath::new(path, &info);
        let valid = match before.filter(|before| before.path == now.path && before.info == now.info) {
            Some(before) => Arc::clone(before),
            None => Arc::new(now),
        };
        if let Some(Circumstances { asked, sighting }) = circumstances {
            let entry = Known { valid: Arc::clone(&valid), sighting, asked: Some(asked), is_walked: false };
            known.insert(hash, entry, valid.weight());
        }
        Ok(Some(valid))
    }

    fn known(&self) -> MutexGuard<'_, ClockCache<HashPart, Known>> {
        self.known.lock()
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
