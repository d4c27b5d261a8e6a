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

/// Upper bound of roots in a generation: the closures of several desktops, and a file of a megabyte for the collector
/// to read. Paths that are being sent are rooted beyond it.
const MAX_ROOTS: usize = 16_384;
/// Roots per pipeline: some milliseconds of nix-daemon's time, for which a NAR may have to wait.
const BATCH: usize = 64;
/// Backoff after a failure.
pub(crate) const PAUSE: Duration = Duration::from_secs(5);
/// Stands for no deadline.
const FAR: Duration = Duration::from_secs(86_400);

pub(crate) struct Rooter {
    length: Duration,
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    path_infos: Arc<PathInfoCache>,
    metrics: Arc<Metrics>,
    /// Oldest first. The last one accepts roots if its number is the current one.
    generations: VecDeque<Generation>,
    /// End of the backoff.
    pause: Option<Instant>,
    /// Whether the current failure has been logged.
    has_complained: bool,
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
        Self { length, shared, pool, path_infos, metrics, generations, pause: None, has_complained: false }
    }

    /// Runs until the queues are closed.
    pub(crate) async fn run(
        mut self,
        requests: &mut mpsc::Receiver<RootRequest>,
        urgent: &mut mpsc::Receiver<RootRequest>,
    ) {
        let mut batch = Vec::new();
        loop {
            let turn = self.next_turn();
            tokio::select! {
                biased;
                () = sleep_until(turn) => self.turn().await,
                () = ended(&mut self.generations) => self.turn().await,
                count = queued(urgent, requests, &mut batch) => if count == 0 { return },
            }
            self.grant(std::mem::take(&mut batch)).await;
            self.shared.is_stuck.store(false, Ordering::Relaxed);
            let living = self.generations.iter().filter(|generation| generation.client.is_some());
            self.metrics.gc_roots.set_roots(living.map(|generation| generation.roots.len()).sum());
        }
    }

    /// Returns the time at which a generation stops accepting roots or ends, or the backoff ends.
    fn next_turn(&self) -> Instant {
        let current = self.current().map(|last| last.end);
        let oldest = self.generations.front().map(|oldest| oldest.end + self.length);
        let times = [current, oldest, self.pause];
        times.into_iter().flatten().min().unwrap_or_else(|| Instant::now() + FAR)
    }

    /// Sets lost roots again, and ends old generations after paths that are being sent have roots in another.
    async fn turn(&mut self) {
        let now = Instant::now();
        self.pause = self.pause.filter(|end| now < *end);
        if self.current().is_some_and(|last| last.end <= now) {
            self.end_intake();
        }
        self.mend().await;
        loop {
            self.renew().await;
            let mut sending = self.shared.sending();
            // A NAR that has begun meanwhile relies on an old generation; one whose root cannot be set goes without.
            if self.pause.is_some() || sending.paths.keys().all(|path| self.is_rooted(path)) {
                while self.generations.front().is_some_and(|oldest| oldest.end + self.length <= now) {
                    self.generations.pop_front();
                }
                sending.living = self.living();
                return;
            }
        }
    }

    /// Roots paths that are being sent in the current generation.
    async fn renew(&mut self) {
        let missing: Vec<_> = {
            let sending = self.shared.sending();
            sending.paths.keys().filter(|path| !self.is_rooted(path)).cloned().collect()
        };
        for paths in missing.chunks(BATCH) {
            self.root(paths).await;
        }
    }

    async fn grant(&mut self, mut requests: Vec<RootRequest>) {
        let mut wanted = Vec::new();
        let rooted = self.current().map_or(0, |last| last.roots.len());
        requests.retain(|RootRequest { valid, waiting }| {
            #[cfg(test)]
            assert!(!valid.path.base_name().ends_with("-panics"), "on purpose");
            if self.is_kept(&valid.path) {
                return true;
            }
            let has_room = waiting.is_some() || rooted + wanted.len() < MAX_ROOTS;
            if has_room {
                wanted.push(valid.path.clone());
            } else {
                // Its state stays, so that it is not requested again in this generation.
                self.metrics.gc_roots.record(RootOutcome::Full, 1);
            }
            has_room
        });
        self.root(&wanted).await;
        let number = self.current().map(|last| last.number);
        for RootRequest { valid, waiting } in requests {
            let is_kept = self.is_kept(&valid.path);
            match number.filter(|_| is_kept) {
                Some(number) => valid.mark.root(number),
                None => valid.mark.clear(),
            }
            if let Some(waiting) = waiting.filter(|_| self.is_rooted(&valid.path)) {
                // It may have timed out.
                let _ = waiting.send(is_kept);
            }
        }
    }

    /// Sets roots in the current generation, and removes paths from the cache that are not valid.
    async fn root(&mut self, paths: &[StorePath]) {
        if paths.is_empty() {
            return;
        }
        if self.pause.is_some() {
            self.metrics.gc_roots.record(RootOutcome::Failed, paths.len());
            return;
        }
        let mut result = self.try_root(paths).await;
        if matches!(&result, Err(error) if error.is_retryable()) {
            result = self.try_root(paths).await;
        }
        self.shared.sending().living = self.living();
        let failure = result.unwrap_or_else(Some);
        let event = if failure.is_some() { RootOutcome::Failed } else { RootOutcome::Rooted };
        self.metrics.gc_roots.record(event, paths.len());
        self.judge(failure.as_ref());
    }

    /// Returns nix-daemon's refusal of a root, if there is one. An error is one of the connection, which is closed
    /// then.
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
    async fn mend(&mut self) {
        self.generations.retain(|generation| generation.client.is_some() || !generation.roots.is_empty());
        self.shared.sending().living = self.living();
        while self.pause.is_none() {
            let lost = self.generations.iter().rposition(|generation| generation.client.is_none());
            let Some((at, mut generation)) = lost.and_then(|at| Some((at, self.generations.remove(at)?))) else {
                return;
            };
            let result = self.root_in(&mut generation, &[]).await;
            self.generations.insert(at, generation);
            self.shared.sending().living = self.living();
            self.judge(result.unwrap_or_else(Some).as_ref());
        }
    }

    /// Returns the generations whose roots hold.
    fn living(&self) -> Vec<u64> {
        let living = self.generations.iter().filter(|generation| generation.client.is_some());
        living.map(|generation| generation.number).collect()
    }

    fn current(&self) -> Option<&Generation> {
        self.generations.back().filter(|last| last.number == self.shared.current())
    }

    /// Returns whether a path has a root in the current generation.
    fn is_rooted(&self, path: &StorePath) -> bool {
        self.root_of(path).is_some()
    }

    /// Returns whether a path has a root and was valid afterwards. If not, it may be by now, and is rooted again.
    fn is_kept(&self, path: &StorePath) -> bool {
        self.root_of(path) == Some(true)
    }

    fn root_of(&self, path: &StorePath) -> Option<bool> {
        let living = self.current().filter(|last| last.client.is_some())?;
        living.roots.get(path).copied()
    }

    /// Starts the next generation, so that served paths request roots again.
    fn end_intake(&self) {
        self.shared.current.fetch_add(1, Ordering::Relaxed);
    }

    fn judge(&mut self, failure: Option<&StoreError>) {
        match failure {
            Some(error) => self.fail(error),
            None => self.has_complained = false,
        }
    }

    /// Starts the backoff. An unavailable nix-daemon is logged elsewhere.
    fn fail(&mut self, error: &StoreError) {
        self.pause = Some(Instant::now() + PAUSE);
        if !error.is_unavailable() && !std::mem::replace(&mut self.has_complained, true) {
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
