//! The queue of NARs to precompress: those whose narinfos were served, since clients request the NARs next.
//!
//! Decides which NAR is next, by client round-robin, and limits how much a client that downloads nothing can cause: a limited
//! number of bytes may be precompressed for it and not fetched. A crawl of narinfos thus costs little in each [`EXPIRY`],
//! whatever the number of paths. Leaves compression to fills.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::fairness::ClientId;
use crate::nar_cache::disk::key::EntryKey;
use crate::store::ValidPath;
use crate::sync::Mutex;

/// Limit on queued candidates, of about a kilobyte each: the closures of a few desktops.
const MAX_QUEUED: usize = 4096;
/// Limit on NARs that are precompressed for one client and not fetched, in bytes of NARs: a second or two of an encoder. Larger
/// NARs are not precompressed, since they can be sent as fast as they are encoded.
const MAX_PER_CLIENT: u64 = 256 << 20;
/// Least bytes that a NAR counts for, since each takes a thread and a file. Without it a crawl of 100,000 small paths had all
/// of them compressed.
const MIN_COST: u64 = 64 << 10;
/// Limit on NARs that are precompressed for all clients and not fetched, in bytes of NARs.
const MAX_TOTAL: u64 = 1 << 30;
/// Time after which queued candidates are dropped, and unfetched NARs no longer count.
const EXPIRY: Duration = Duration::from_secs(5 * 60);

/// NARs to precompress, and those that were precompressed and not fetched.
#[derive(Debug, Default)]
pub(crate) struct PrecompressQueue {
    state: Mutex<State>,
    changed: Notify,
}

/// A NAR to precompress.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) client: ClientId,
    pub(crate) key: EntryKey,
    pub(crate) valid: Arc<ValidPath>,
    since: Instant,
}

impl Candidate {
    /// Returns the bytes that it counts for.
    fn cost(&self) -> u64 {
        self.valid.info.nar_size.max(MIN_COST)
    }
}

#[derive(Debug, Default)]
struct State {
    /// Candidates by client, the oldest first; no queue is empty.
    queues: HashMap<ClientId, VecDeque<Candidate>>,
    /// Clients with candidates, in the order of their turns.
    turns: VecDeque<ClientId>,
    /// Keys of queued candidates. One that is not here any more was fetched or has expired.
    queued: HashSet<EntryKey>,
    /// NARs whose precompression started and that have not been fetched: client and cost.
    unfetched: HashMap<EntryKey, (ClientId, u64)>,
    /// Start times, the oldest first.
    started: VecDeque<(Instant, EntryKey)>,
    /// Cost of these by client, and in total.
    cost_by_client: HashMap<ClientId, u64>,
    total_cost: u64,
}

impl PrecompressQueue {
    /// Queues a NAR that `client` is expected to request.
    pub(crate) fn push(&self, client: ClientId, key: EntryKey, valid: &Arc<ValidPath>) {
        let candidate = Candidate { client, key, valid: Arc::clone(valid), since: Instant::now() };
        if self.state.lock().add(candidate) {
            self.changed.notify_one();
        }
    }

    /// Records that a NAR was requested.
    pub(crate) fn mark_fetched(&self, key: &EntryKey) {
        let mut state = self.state.lock();
        state.queued.remove(key);
        if state.remove_unfetched(key) {
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Returns whether a NAR is being or was precompressed and has not been requested.
    pub(crate) fn is_unfetched(&self, key: &EntryKey) -> bool {
        self.state.lock().unfetched.contains_key(key)
    }

    /// Waits for the next candidate whose precompression may start. Cancel safe.
    pub(crate) async fn next(&self) -> Candidate {
        loop {
            let changed = self.changed.notified();
            if let Some(candidate) = self.state.lock().next(Instant::now()) {
                return candidate;
            }
            // Unfetched NARs expire without a notification.
            let _ = tokio::time::timeout(EXPIRY / 10, changed).await;
        }
    }
}

impl State {
    /// Queues a candidate. Returns whether it is new and within the limits.
    fn add(&mut self, candidate: Candidate) -> bool {
        let is_known = self.queued.contains(&candidate.key) || self.unfetched.contains_key(&candidate.key);
        if is_known || candidate.cost() > MAX_PER_CLIENT || self.queued.len() >= MAX_QUEUED {
            return false;
        }
        self.queued.insert(candidate.key.clone());
        let client = candidate.client;
        let queue = self.queues.entry(client).or_default();
        if queue.is_empty() {
            self.turns.push_back(client);
        }
        queue.push_back(candidate);
        true
    }

    fn next(&mut self, now: Instant) -> Option<Candidate> {
        while self.started.front().is_some_and(|(since, _)| now.duration_since(*since) > EXPIRY) {
            let Some((_, key)) = self.started.pop_front() else { break };
            self.remove_unfetched(&key);
        }
        for _ in 0..self.turns.len() {
            let client = self.turns.pop_front()?;
            let Some(mut queue) = self.queues.remove(&client) else { continue };
            // Expired, or requested meanwhile.
            while queue.front().is_some_and(|candidate| self.is_done(candidate, now)) {
                queue.pop_front();
            }
            let candidate =
                if queue.front().is_some_and(|candidate| self.may_start(candidate)) { queue.pop_front() } else { None };
            if !queue.is_empty() {
                self.queues.insert(client, queue);
                self.turns.push_back(client);
            }
            if let Some(candidate) = candidate {
                self.start(&candidate, now);
                return Some(candidate);
            }
        }
        None
    }

    fn is_done(&mut self, candidate: &Candidate, now: Instant) -> bool {
        let is_old = now.duration_since(candidate.since) > EXPIRY && candidate.client != ClientId::Server;
        !self.queued.contains(&candidate.key) || (is_old && self.queued.remove(&candidate.key))
    }

    /// Returns whether the limits allow it. They do not apply to NARs that no client has to fetch.
    fn may_start(&self, candidate: &Candidate) -> bool {
        let cost = self.cost_by_client.get(&candidate.client).copied().unwrap_or_default();
        let fits = cost + candidate.cost() <= MAX_PER_CLIENT && self.total_cost + candidate.cost() <= MAX_TOTAL;
        fits || candidate.client == ClientId::Server
    }

    fn start(&mut self, candidate: &Candidate, now: Instant) {
        self.queued.remove(&candidate.key);
        if candidate.client != ClientId::Server {
            self.unfetched.insert(candidate.key.clone(), (candidate.client, candidate.cost()));
            self.started.push_back((now, candidate.key.clone()));
            *self.cost_by_client.entry(candidate.client).or_default() += candidate.cost();
            self.total_cost += candidate.cost();
        }
    }

    /// Stops counting an unfetched NAR. Returns whether it was counted.
    fn remove_unfetched(&mut self, key: &EntryKey) -> bool {
        let Some((client, bytes)) = self.unfetched.remove(key) else { return false };
        self.total_cost -= bytes;
        if let Some(cost) = self.cost_by_client.get_mut(&client) {
            *cost -= bytes;
            if *cost == 0 {
                self.cost_by_client.remove(&client);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use harmonia_protocol::StorePath;
    use harmonia_protocol::hash::NarHash;

    use super::*;

    const CRAWLER: [u8; 4] = [192, 0, 2, 1];
    const OTHER: [u8; 4] = [192, 0, 2, 2];

    fn candidate(client: [u8; 4], number: u32, bytes: u64, since: Instant) -> Candidate {
        let path = StorePath::from_base_name("0123456789abcdfghijklmnpqrsvwxyz-path").unwrap();
        let mut valid = crate::store::tests::valid(path);
        valid.info.nar_size = bytes;
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&number.to_le_bytes());
        let key = EntryKey { tag: Arc::new("zstd1".parse().unwrap()), nar_hash: NarHash::from_digest(hash) };
        Candidate { client: ClientId::from_addr(client.into()), key, valid: Arc::new(valid), since }
    }

    fn made(state: &mut State, now: Instant) -> Vec<Candidate> {
        std::iter::from_fn(|| state.next(now)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_crawl_that_fetches_nothing_causes_a_bounded_amount_and_others_have_their_turn() {
        let start = Instant::now();
        let crawl = |size| {
            let (mut state, mut count) = (State::default(), 0);
            for number in 0..100_000 {
                state.add(candidate(CRAWLER, number, size, start));
                count += made(&mut state, start).len() as u64;
            }
            (state, count)
        };
        assert_eq!(crawl(100).1, MAX_PER_CLIENT / MIN_COST);
        let (mut state, count) = crawl(1 << 20);
        assert_eq!(count, MAX_PER_CLIENT >> 20);
        assert!(state.queued.len() <= MAX_QUEUED);
        // Its candidates expire, which leaves space for those of others.
        let later = start + 2 * EXPIRY;
        assert!(made(&mut state, later).is_empty() && state.queued.is_empty() && state.queues.is_empty());
        assert!(state.add(candidate(OTHER, 0, 1 << 20, later)));
        assert_eq!(made(&mut state, later).len(), 1);
        assert_eq!((state.total_cost, state.unfetched.len(), state.cost_by_client.len()), (1 << 20, 1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_fetches_has_more_made_and_no_client_waits_for_all_of_another() {
        let (mut state, now) = (State::default(), Instant::now());
        for number in 0..10 {
            state.add(candidate(CRAWLER, number, MAX_PER_CLIENT / 2, now));
        }
        state.add(candidate(OTHER, 10, 1000, now));
        let first = made(&mut state, now);
        assert_eq!(
            first.iter().map(|candidate| candidate.cost() == MIN_COST).collect::<Vec<_>>(),
            [false, true, false]
        );
        assert!(state.remove_unfetched(&first[0].key) && !state.remove_unfetched(&first[0].key));
        assert_eq!(made(&mut state, now).len(), 1);
        // Not precompressed: one that was requested meanwhile, one that is too large, and the same one again.
        let next = candidate(OTHER, 11, 1000, now);
        state.add(candidate(OTHER, 11, 1000, now));
        assert!(
            !state.add(candidate(OTHER, 11, 1000, now)) && !state.add(candidate(OTHER, 12, MAX_PER_CLIENT + 1, now))
        );
        state.queued.remove(&next.key);
        assert!(made(&mut state, now).is_empty());
    }
}
