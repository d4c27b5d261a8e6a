//! Chooses the holders that have to give up permits for waiting clients.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::claim::Claim;
use super::client_id::ClientId;
use super::fair_semaphore::FairSemaphore;
use super::holder::{Holder, Usage};
use super::state::{Reclaimable, State};

/// Minimum time between two attempts, which serve all waiters at once.
const INTERVAL: Duration = Duration::from_millis(50);

/// Time after which a holder that has not given up its permits may be asked again, since they may be in use again.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// A request that waits.
struct Want {
    client: ClientId,
    amount: usize,
    waited: Duration,
}

/// Permits that may be reclaimed.
struct Candidate {
    seq: u64,
    client: ClientId,
    amount: usize,
    holder: Arc<dyn Holder>,
    usage: Usage,
}

impl FairSemaphore {
    /// Reclaims for all waiting clients what their claims allow.
    pub(super) fn reclaim(&self) {
        let now = Instant::now();
        let Some(mut candidates) = self.state().candidates(now) else { return };
        for candidate in &mut candidates {
            candidate.usage = candidate.holder.usage(now);
        }
        candidates.retain(|candidate| candidate.usage != Usage::Busy);
        // The longest idle first, then the slowest.
        candidates.sort_by_key(|candidate| match candidate.usage {
            Usage::Idle(since) => (0, Reverse(now.saturating_duration_since(since)), 0),
            Usage::Reading(rate) => (1, Reverse(Duration::ZERO), rate),
            Usage::SourceStalled => (1, Reverse(Duration::ZERO), 0),
            Usage::Busy => (2, Reverse(Duration::ZERO), 0),
        });
        // Candidates are dropped without the lock: one may be the last reference to its holder, which may hold permits.
        let chosen = self.state().choose(&candidates, now);
        for candidate in chosen.into_iter().filter_map(|index| candidates.get(index)) {
            if candidate.holder.reclaim() {
                self.report(candidate, now);
            } else if let Some(reclaimable) = self.state().reclaimable.get_mut(&candidate.seq) {
                reclaimable.asked = None;
            }
        }
    }

    fn report(&self, candidate: &Candidate, now: Instant) {
        if !candidate.holder.is_disruptive() {
            return;
        }
        self.0.reclaimed.increment();
        let Some(more) = self.0.log.admit(()) else { return };
        let (resource, client, total) = (self.0.resource, candidate.client, self.state().total);
        let usage = match candidate.usage {
            Usage::Idle(since) => format!("was idle for {} s", now.saturating_duration_since(since).as_secs()),
            Usage::Reading(rate) => format!("read {rate} bytes/s"),
            Usage::SourceStalled => "had no data to read for seconds".to_owned(),
            Usage::Busy => return,
        };
        tracing::warn!("reclaimed one of {total} ({resource}) from {client} for waiting clients{more}: it {usage}");
    }
}

impl Reclaimable {
    /// Returns whether the holder was asked to give up the permits a short time ago.
    fn is_expected(&self, now: Instant) -> bool {
        self.asked.is_some_and(|asked| now.saturating_duration_since(asked) < ASK_AGAIN)
    }
}

impl<S> State<S> {
    /// Returns all permits that might be reclaimed, or `None` if nobody waits or the last attempt was just now.
    fn candidates(&mut self, now: Instant) -> Option<Vec<Candidate>> {
        let is_recent = self.last_reclaim.is_some_and(|last| now.saturating_duration_since(last) < INTERVAL);
        if self.round_robin.is_empty() || is_recent {
            return None;
        }
        self.last_reclaim = Some(now);
        let reclaimable = self.reclaimable.iter().filter(|(_, it)| !it.is_expected(now));
        let candidates = reclaimable.filter_map(|(seq, it)| {
            let holder = it.holder.upgrade()?;
            Some(Candidate { seq: *seq, client: it.client, amount: it.amount, holder, usage: Usage::Busy })
        });
        Some(candidates.collect())
    }

    /// Returns the indexes of the candidates that have to give up their permits, and marks them as asked.
    fn choose(&mut self, candidates: &[Candidate], now: Instant) -> Vec<usize> {
        let mut wants: Vec<_> = self
            .clients
            .iter()
            .flat_map(|(client, state)| state.waiting.values().map(|waiter| (*client, waiter)))
            .map(|(client, waiter)| Want {
                client,
                amount: waiter.amount,
                waited: now.saturating_duration_since(waiter.since),
            })
            .collect();
        wants.sort_by_key(|want| Reverse(want.waited));
        let mut expected_from: HashMap<ClientId, usize> = HashMap::new();
        for it in self.reclaimable.values().filter(|it| it.is_expected(now)) {
            *expected_from.entry(it.client).or_default() += it.amount;
        }
        let mut expected = self.available() + expected_from.values().sum::<usize>();
        // Permits that each client is about to get, which count as held.
        let mut promised: HashMap<ClientId, usize> = HashMap::new();
        let mut chosen = Vec::new();
        let mut remaining: Vec<_> = candidates.iter().enumerate().collect();
        for want in wants {
            // A client at its limit can only reuse its own permits.
            let is_at_quota = !self.is_within_quota(want.client, want.amount);
            let own = expected_from.get(&want.client).copied().unwrap_or_default();
            let mut found = if is_at_quota { own.min(expected) } else { expected };
            remaining.retain(|(index, candidate)| {
                let (mine, theirs) = (want.client, candidate.client);
                if found >= want.amount || (is_at_quota && mine != theirs) {
                    return true;
                }
                let keeps =
                    self.held_by(theirs).saturating_sub(expected_from.get(&theirs).copied().unwrap_or_default());
                let has = self.counted(mine) + promised.get(&mine).copied().unwrap_or_default();
                let (is_same_client, holds_fewer) = (mine == theirs, mine != theirs && has < keeps);
                if !(Claim { waited: want.waited, is_same_client, holds_fewer }).may_reclaim(candidate.usage) {
                    return true;
                }
                found += candidate.amount;
                expected += candidate.amount;
                *expected_from.entry(theirs).or_default() += candidate.amount;
                if let Some(reclaimable) = self.reclaimable.get_mut(&candidate.seq) {
                    reclaimable.asked = Some(now);
                }
                chosen.push(*index);
                false
            });
            if found >= want.amount {
                expected = expected.saturating_sub(want.amount);
                if want.client.has_quota() {
                    *promised.entry(want.client).or_default() += want.amount;
                }
                if let Some(own) = expected_from.get_mut(&want.client).filter(|_| is_at_quota) {
                    *own = own.saturating_sub(want.amount);
                }
            }
        }
        chosen
    }
}
