//! NARs that are compressed before anybody asks for them: those whose narinfos were given out, for their clients ask for
//! the NARs next.
//!
//! Owns whose wish is next, and how much a client that downloads nothing can cause: of what was made for it so much may be
//! there unfetched, and more is made only as it comes for that. So a crawl of narinfos costs a little in every
//! [`PATIENCE`], whatever the number of its paths. Leaves compressing to fills.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::fairness::ClientId;
use crate::nar_cache::disk::key::EntryKey;
use crate::store::ValidPath;
use crate::sync::Mutex;

/// Wishes that wait, a kilobyte or so each: the closures of a few desktops.
const MAX_WISHES: usize = 4096;
/// What is made for a client ahead of what it fetches, in bytes of NARs: a second or two of an encoder. Larger NARs are not
/// made ahead: they come as fast as they are encoded.
const PER_CLIENT: u64 = 256 << 20;
/// The least that a NAR counts for, in bytes: each takes a thread and a file, whatever its size. Without it a crawl of 100,000
/// small ones had all of them made.
const LEAST: u64 = 64 << 10;
/// The same for all clients.
const FOR_ALL: u64 = 1 << 30;
/// How long a client is waited for: its wishes are given up then, and what was made for it is not counted any more.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// What is to be made ahead.
#[derive(Debug, Default)]
pub(crate) struct PrecompressQueue {
    state: Mutex<State>,
    changed: Notify,
}

/// A NAR that is wanted ahead.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) client: ClientId,
    pub(crate) key: EntryKey,
    pub(crate) valid: Arc<ValidPath>,
    since: Instant,
}

impl Candidate {
    /// The part of what may be made ahead that it takes.
    fn bytes(&self) -> u64 {
        self.valid.info.nar_size.max(LEAST)
    }
}

#[derive(Debug, Default)]
struct State {
    /// By client, the oldest first; none is empty.
    wishes: HashMap<ClientId, VecDeque<Candidate>>,
    /// Clients with wishes, in the order of their turns.
    turns: VecDeque<ClientId>,
    /// All that is wished for.
    wished: HashSet<EntryKey>,
    /// What was begun and has not been fetched, and its age.
    unfetched: HashMap<EntryKey, (ClientId, u64)>,
    ages: VecDeque<(Instant, EntryKey)>,
    /// Bytes of that, by client and in all.
    of_client: HashMap<ClientId, u64>,
    of_all: u64,
}

impl PrecompressQueue {
    /// A client is expected to ask for this NAR.
    pub(crate) fn push(&self, client: ClientId, key: EntryKey, valid: &Arc<ValidPath>) {
        let wish = Candidate { client, key, valid: Arc::clone(valid), since: Instant::now() };
        if self.state.lock().add(wish) {
            self.changed.notify_one();
        }
    }

    /// Somebody has asked for this NAR.
    pub(crate) fn mark_fetched(&self, key: &EntryKey) {
        let mut plan = self.state.lock();
        plan.wished.remove(key);
        if plan.forget(key) {
            drop(plan);
            self.changed.notify_one();
        }
    }

    /// Whether this NAR was begun ahead and nobody has asked for it.
    pub(crate) fn is_unfetched(&self, key: &EntryKey) -> bool {
        self.state.lock().unfetched.contains_key(key)
    }

    /// Waits for the next wish that may be fulfilled. Safe to drop while pending.
    pub(crate) async fn next(&self) -> Candidate {
        loop {
            let changed = self.changed.notified();
            if let Some(wish) = self.state.lock().next(Instant::now()) {
                return wish;
            }
            // What is not fetched is forgotten some time.
            let _ = tokio::time::timeout(PATIENCE / 10, changed).await;
        }
    }
}

impl State {
    /// Whether it is new, and not too much.
    fn add(&mut self, wish: Candidate) -> bool {
        let is_known = self.wished.contains(&wish.key) || self.unfetched.contains_key(&wish.key);
        if is_known || wish.bytes() > PER_CLIENT || self.wished.len() >= MAX_WISHES {
            return false;
        }
        self.wished.insert(wish.key.clone());
        let client = wish.client;
        let wishes = self.wishes.entry(client).or_default();
        if wishes.is_empty() {
            self.turns.push_back(client);
        }
        wishes.push_back(wish);
        true
    }

    fn next(&mut self, now: Instant) -> Option<Candidate> {
        while self.ages.front().is_some_and(|(since, _)| now.duration_since(*since) > PATIENCE) {
            let Some((_, key)) = self.ages.pop_front() else { break };
            self.forget(&key);
        }
        for _ in 0..self.turns.len() {
            let client = self.turns.pop_front()?;
            let Some(mut wishes) = self.wishes.remove(&client) else { continue };
            // Given up, or asked for meanwhile.
            while wishes.front().is_some_and(|wish| self.is_over(wish, now)) {
                wishes.pop_front();
            }
            let wish = if wishes.front().is_some_and(|wish| self.may_begin(wish)) { wishes.pop_front() } else { None };
            if !wishes.is_empty() {
                self.wishes.insert(client, wishes);
                self.turns.push_back(client);
            }
            if let Some(wish) = wish {
                self.begin(&wish, now);
                return Some(wish);
            }
        }
        None
    }

    fn is_over(&mut self, wish: &Candidate, now: Instant) -> bool {
        let is_old = now.duration_since(wish.since) > PATIENCE && wish.client != ClientId::Server;
        !self.wished.contains(&wish.key) || (is_old && self.wished.remove(&wish.key))
    }

    /// What the server wishes for itself nobody has to fetch.
    fn may_begin(&self, wish: &Candidate) -> bool {
        let of_client = self.of_client.get(&wish.client).copied().unwrap_or_default();
        let fits = of_client + wish.bytes() <= PER_CLIENT && self.of_all + wish.bytes() <= FOR_ALL;
        fits || wish.client == ClientId::Server
    }

    fn begin(&mut self, wish: &Candidate, now: Instant) {
        self.wished.remove(&wish.key);
        if wish.client != ClientId::Server {
            self.unfetched.insert(wish.key.clone(), (wish.client, wish.bytes()));
            self.ages.push_back((now, wish.key.clone()));
            *self.of_client.entry(wish.client).or_default() += wish.bytes();
            self.of_all += wish.bytes();
        }
    }

    /// Does not count any more what was made of this; whether it did.
    fn forget(&mut self, key: &EntryKey) -> bool {
        let Some((client, bytes)) = self.unfetched.remove(key) else { return false };
        self.of_all -= bytes;
        if let Some(of_client) = self.of_client.get_mut(&client) {
            *of_client -= bytes;
            if *of_client == 0 {
                self.of_client.remove(&client);
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

    fn wish(client: [u8; 4], number: u32, bytes: u64, since: Instant) -> Candidate {
        let path = StorePath::from_base_name("0123456789abcdfghijklmnpqrsvwxyz-path").unwrap();
        let mut valid = crate::store::tests::valid(path);
        valid.info.nar_size = bytes;
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&number.to_le_bytes());
        let key = EntryKey { tag: Arc::new("zstd1".parse().unwrap()), nar_hash: NarHash::from_digest(hash) };
        Candidate { client: ClientId::from_addr(client.into()), key, valid: Arc::new(valid), since }
    }

    fn made(plan: &mut State, now: Instant) -> Vec<Candidate> {
        std::iter::from_fn(|| plan.next(now)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_crawl_that_fetches_nothing_causes_a_bounded_amount_and_others_have_their_turn() {
        let begun = Instant::now();
        let crawl = |size| {
            let (mut plan, mut count) = (State::default(), 0);
            for number in 0..100_000 {
                plan.add(wish(CRAWLER, number, size, begun));
                count += made(&mut plan, begun).len() as u64;
            }
            (plan, count)
        };
        assert_eq!(crawl(100).1, PER_CLIENT / LEAST);
        let (mut plan, count) = crawl(1 << 20);
        assert_eq!(count, PER_CLIENT >> 20);
        assert!(plan.wished.len() <= MAX_WISHES);
        // Its wishes are given up some time, so that there is room for others'.
        let later = begun + 2 * PATIENCE;
        assert!(made(&mut plan, later).is_empty() && plan.wished.is_empty() && plan.wishes.is_empty());
        assert!(plan.add(wish(OTHER, 0, 1 << 20, later)));
        assert_eq!(made(&mut plan, later).len(), 1);
        assert_eq!((plan.of_all, plan.unfetched.len(), plan.of_client.len()), (1 << 20, 1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_fetches_has_more_made_and_no_client_waits_for_all_of_another() {
        let (mut plan, now) = (State::default(), Instant::now());
        for number in 0..10 {
            plan.add(wish(CRAWLER, number, PER_CLIENT / 2, now));
        }
        plan.add(wish(OTHER, 10, 1000, now));
        let first = made(&mut plan, now);
        assert_eq!(first.iter().map(|wish| wish.bytes() == LEAST).collect::<Vec<_>>(), [false, true, false]);
        assert!(plan.forget(&first[0].key) && !plan.forget(&first[0].key));
        assert_eq!(made(&mut plan, now).len(), 1);
        // What was asked for meanwhile is not made ahead, nor is what is too large, nor the same again.
        let next = wish(OTHER, 11, 1000, now);
        plan.add(wish(OTHER, 11, 1000, now));
        assert!(!plan.add(wish(OTHER, 11, 1000, now)) && !plan.add(wish(OTHER, 12, PER_CLIENT + 1, now)));
        plan.wished.remove(&next.key);
        assert!(made(&mut plan, now).is_empty());
    }
}
