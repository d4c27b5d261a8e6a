//! The task that sets GC roots, in generations, and removes them.
//!
//! nix-daemon keeps a temporary root for as long as the connection that set it, and a single root cannot be removed. So
//! each generation is a connection: it accepts roots for half the protection time and is closed a whole one later,
//! which makes four connections at most, at a megabyte each. A generation whose connection ends, for example because an
//! operation timed out, gets another one, on which its roots are set again.
//!
//! Nix up to 2.3 sets no root while it collects garbage. The operation then waits, and no generation ends before paths
//! that are being sent have roots in another. Later releases accept roots during a collection.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use harmonia_protocol::client::Client;
use harmonia_protocol::error::Phase;
use harmonia_protocol::operation::{AddTempRoot, Opcode, QueryValidPaths};
use harmonia_protocol::{ClientError, StorePath};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::metrics::{Metrics, RootOutcome};
use crate::store::daemon::pool::Pool;
use crate::store::daemon::transport::Transport;
use crate::store::error::StoreError;
use crate::store::gc_roots::shared::{RootRequest, Shared};
use crate::store::path_info::cache::PathInfoCache;

/// Maximal number of roots in a generation: the closures of several desktop systems, for which the collector reads a
/// file of a megabyte. Paths being sent are rooted beyond it.
const MAX_ROOTS: usize = 16_384;
/// Roots per pipeline: a NAR may wait for one to finish, some milliseconds.
const BATCH: usize = 64;
/// Backoff after a failure.
pub(crate) const BACKOFF: Duration = Duration::from_secs(5);
/// Sleep while there is no deadline.
const IDLE: Duration = Duration::from_secs(86_400);

pub(crate) struct Rooter {
    length: Duration,
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    path_infos: Arc<PathInfoCache>,
    metrics: Arc<Metrics>,
    /// Oldest first. The last one accepts roots if its number is the current one.
    generations: VecDeque<Generation>,
    /// End of the backoff.
    backoff_end: Option<Instant>,
    /// Set once the current failure has been logged.
    has_warned: bool,
}

struct Generation {
    number: u64,
    /// `None` before the first root, and after the connection has ended.
    client: Option<Client<Transport>>,
    /// Roots, and whether their paths were valid afterwards. Set again if the connection ends.
    roots: HashMap<StorePath, bool>,
    /// Time at which it stops accepting roots.
    end: Instant,
}

impl Rooter {
    pub(crate) fn new(
        length: Duration,
        shared: Arc<Shared>,
        pool: Arc<Pool>,
        path_infos: Arc<PathInfoCache>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let generations = VecDeque::new();
        Self { length, shared, pool, path_infos, metrics, generations, backoff_end: None, has_warned: false }
    }

    /// Sets requested roots and renews them, until the queues are closed.
    pub(crate) async fn run(
        mut self,
        requests: &mut mpsc::Receiver<RootRequest>,
        urgent: &mut mpsc::Receiver<RootRequest>,
    ) {
        let mut batch = Vec::new();
        loop {
            let deadline = self.next_deadline();
            tokio::select! {
                biased;
                () = sleep_until(deadline) => self.advance_generations().await,
                () = ended(&mut self.generations) => self.advance_generations().await,
                count = queued(urgent, requests, &mut batch) => if count == 0 { return },
            }
            self.handle_requests(std::mem::take(&mut batch)).await;
            self.shared.is_stuck.store(false, Ordering::Relaxed);
            let connected = self.generations.iter().filter(|generation| generation.client.is_some());
            self.metrics.gc_roots.set_roots(connected.map(|generation| generation.roots.len()).sum());
        }
    }

    /// Returns the earliest time at which a generation stops accepting roots, one ends, or the backoff ends.
    fn next_deadline(&self) -> Instant {
        let current = self.current().map(|last| last.end);
        let oldest = self.generations.front().map(|oldest| oldest.end + self.length);
        let times = [current, oldest, self.backoff_end];
        times.into_iter().flatten().min().unwrap_or_else(|| Instant::now() + IDLE)
    }

    /// Sets lost roots again, and ends old generations after paths that are being sent have roots in another.
    async fn advance_generations(&mut self) {
        let now = Instant::now();
        self.backoff_end = self.backoff_end.filter(|end| now < *end);
        if self.current().is_some_and(|last| last.end <= now) {
            self.begin_next_generation();
        }
        self.restore_lost_roots().await;
        loop {
            self.root_paths_being_sent().await;
            let mut sending = self.shared.sending();
            // A NAR that has begun meanwhile relies on an old generation; one whose root cannot be set goes without.
            if self.backoff_end.is_some() || sending.paths.keys().all(|path| self.is_rooted(path)) {
                while self.generations.front().is_some_and(|oldest| oldest.end + self.length <= now) {
                    self.generations.pop_front();
                }
                sending.connected = self.connected();
                return;
            }
        }
    }

    /// Sets roots in the current generation for paths that are being sent.
    async fn root_paths_being_sent(&mut self) {
        let missing: Vec<_> = {
            let sending = self.shared.sending();
            sending.paths.keys().filter(|path| !self.is_rooted(path)).cloned().collect()
        };
        for paths in missing.chunks(BATCH) {
            self.root(paths).await;
        }
    }

    /// Sets the requested roots and replies to those who wait.
    async fn handle_requests(&mut self, mut requests: Vec<RootRequest>) {
        let mut wanted = Vec::new();
        let rooted = self.current().map_or(0, |last| last.roots.len());
        requests.retain(|RootRequest { valid, reply_to }| {
            #[cfg(test)]
            assert!(!valid.path.base_name().ends_with("-panics"), "on purpose");
            if self.is_protected(&valid.path) {
                return true;
            }
            let fits = reply_to.is_some() || rooted + wanted.len() < MAX_ROOTS;
            if fits {
                wanted.push(valid.path.clone());
            } else {
                // Its state stays, so that it is not requested again in this generation.
                self.metrics.gc_roots.record(RootOutcome::Full, 1);
            }
            fits
        });
        self.root(&wanted).await;
        let number = self.current().map(|last| last.number);
        for RootRequest { valid, reply_to } in requests {
            let is_protected = self.is_protected(&valid.path);
            match number.filter(|_| is_protected) {
                Some(number) => valid.root_state.set_rooted(number),
                None => valid.root_state.clear(),
            }
            if let Some(reply_to) = reply_to.filter(|_| self.is_rooted(&valid.path)) {
                // The receiver may have timed out.
                let _ = reply_to.send(is_protected);
            }
        }
    }

    /// Sets roots in the current generation, and removes paths from the cache that are not valid.
    async fn root(&mut self, paths: &[StorePath]) {
        if paths.is_empty() {
            return;
        }
        if self.backoff_end.is_some() {
            self.metrics.gc_roots.record(RootOutcome::Failed, paths.len());
            return;
        }
        let mut result = self.try_root(paths).await;
        if matches!(&result, Err(error) if error.is_retryable()) {
            result = self.try_root(paths).await;
        }
        self.shared.sending().connected = self.connected();
        let failure = result.unwrap_or_else(Some);
        let event = if failure.is_some() { RootOutcome::Failed } else { RootOutcome::Rooted };
        self.metrics.gc_roots.record(event, paths.len());
        self.record_outcome(failure.as_ref());
    }

    /// Sets roots in the current generation, and returns the error of nix-daemon if it refused one. Fails with an error
    /// of the connection, which is closed then.
    async fn try_root(&mut self, paths: &[StorePath]) -> Result<Option<StoreError>, StoreError> {
        let number = self.shared.current();
        let mut generation = match self.generations.pop_back() {
            Some(last) if last.number == number => last,
            last => {
                self.generations.extend(last);
                Generation { number, client: None, roots: HashMap::new(), end: Instant::now() + self.length / 2 }
            }
        };
        let result = self.root_in(&mut generation, paths).await;
        self.generations.push_back(generation);
        result
    }

    async fn root_in(
        &self,
        generation: &mut Generation,
        paths: &[StorePath],
    ) -> Result<Option<StoreError>, StoreError> {
        let (mut client, lost) = match generation.client.take() {
            Some(client) => (client, Vec::new()),
            None => (self.pool.dial().await?, generation.roots.keys().cloned().collect()),
        };
        let mut refusal = None;
        for paths in lost.chunks(BATCH).chain([paths]) {
            let roots: Vec<_> = paths.iter().map(AddTempRoot).collect();
            let replies = self.pool.call_all(&mut client, &roots).await?;
            let valid = self.pool.call_on(&mut client, &QueryValidPaths(paths)).await?;
            let valid: HashSet<_> = valid.into_iter().collect();
            for (path, reply) in paths.iter().zip(replies) {
                let is_valid = valid.contains(path);
                if !is_valid {
                    self.path_infos.forget(path);
                }
                match reply {
                    Ok(()) => _ = generation.roots.insert(path.clone(), is_valid),
                    Err(error) => {
                        generation.roots.remove(path);
                        let during = Phase::Operation(Opcode::AddTempRoot);
                        refusal = Some(ClientError::Daemon { during, error }.into());
                    }
                }
            }
        }
        generation.client = Some(client);
        Ok(refusal)
    }

    /// Sets the roots of generations whose connection has ended again, latest first.
    async fn restore_lost_roots(&mut self) {
        self.generations.retain(|generation| generation.client.is_some() || !generation.roots.is_empty());
        self.shared.sending().connected = self.connected();
        while self.backoff_end.is_none() {
            let lost = self.generations.iter().rposition(|generation| generation.client.is_none());
            let Some((at, mut generation)) = lost.and_then(|at| Some((at, self.generations.remove(at)?))) else {
                return;
            };
            let result = self.root_in(&mut generation, &[]).await;
            self.generations.insert(at, generation);
            self.shared.sending().connected = self.connected();
            self.record_outcome(result.unwrap_or_else(Some).as_ref());
        }
    }

    /// Returns the generations that have a connection, and so roots.
    fn connected(&self) -> Vec<u64> {
        let connected = self.generations.iter().filter(|generation| generation.client.is_some());
        connected.map(|generation| generation.number).collect()
    }

    fn current(&self) -> Option<&Generation> {
        self.generations.back().filter(|last| last.number == self.shared.current())
    }

    /// Returns whether a path has a root in the current generation.
    fn is_rooted(&self, path: &StorePath) -> bool {
        self.root_of(path).is_some()
    }

    /// Returns whether a path has a root in the current generation, and was valid after that was set.
    fn is_protected(&self, path: &StorePath) -> bool {
        self.root_of(path) == Some(true)
    }

    fn root_of(&self, path: &StorePath) -> Option<bool> {
        let connected = self.current().filter(|last| last.client.is_some())?;
        connected.roots.get(path).copied()
    }

    /// Starts the next generation, so that served paths request roots again.
    fn begin_next_generation(&self) {
        self.shared.current.fetch_add(1, Ordering::Relaxed);
    }

    /// Starts the backoff after a failure, and ends the current one in the log after a success.
    fn record_outcome(&mut self, failure: Option<&StoreError>) {
        match failure {
            Some(error) => self.fail(error),
            None => self.has_warned = false,
        }
    }

    /// Starts the backoff. An unavailable nix-daemon is logged elsewhere.
    fn fail(&mut self, error: &StoreError) {
        self.backoff_end = Some(Instant::now() + BACKOFF);
        if !error.is_unavailable() && !std::mem::replace(&mut self.has_warned, true) {
            tracing::warn!("cannot protect served paths from the garbage collector: {error}");
        }
    }
}

/// Receives the next requests, those of NARs first; none when the queues are closed.
async fn queued(
    urgent: &mut mpsc::Receiver<RootRequest>,
    requests: &mut mpsc::Receiver<RootRequest>,
    batch: &mut Vec<RootRequest>,
) -> usize {
    poll_fn(|context| match urgent.poll_recv_many(context, batch, BATCH) {
        Poll::Pending => requests.poll_recv_many(context, batch, BATCH),
        ready @ Poll::Ready(_) => ready,
    })
    .await
}

/// Waits until connections have ended, and drops them.
async fn ended(generations: &mut VecDeque<Generation>) {
    poll_fn(|context| {
        let mut ended = |client: &mut Client<Transport>| client.poll_disconnected(context).is_ready();
        let lost = generations.iter_mut().filter_map(|generation| generation.client.take_if(&mut ended)).count();
        if lost > 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
