//! Taking back: which holders have to give up for those who wait.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{FairSemaphore, Holding, State};
use crate::fairness::ClientId;
use crate::fairness::{Demand, Holder, Usage};

/// All who wait look at once: those who come within this time are content with the last look.
const PAUSE: Duration = Duration::from_millis(50);

/// Whoever has not given up after this time, since it came to be used again, can be told once more.
const LEAVING: Duration = Duration::from_secs(2);

/// One who waits.
struct Want {
    client: ClientId,
    amount: usize,
    waited: Duration,
}

/// One who can give up.
struct Candidate {
    ticket: u64,
    client: ClientId,
    amount: usize,
    holder: Arc<dyn Holder>,
    usage: Usage,
}

impl FairSemaphore {
    /// Takes back for all who wait what their demand allows.
    pub(super) fn reclaim(&self) {
        let now = Instant::now();
        let Some(mut candidates) = self.state().candidates(now) else { return };
        for candidate in &mut candidates {
            candidate.usage = candidate.holder.usage(now);
        }
        candidates.retain(|candidate| candidate.usage != Usage::Working);
        // The longest unused first, then the slowest.
        candidates.sort_by_key(|candidate| match candidate.usage {
            Usage::Unused(since) => (0, Reverse(now.saturating_duration_since(since)), 0),
            Usage::Taking(rate) => (1, Reverse(Duration::ZERO), rate),
            Usage::Starved => (1, Reverse(Duration::ZERO), 0),
            Usage::Working => (2, Reverse(Duration::ZERO), 0),
        });
        // They are dropped without the lock: one may be the last of its holder, which has permits.
        let leaving = self.state().choose(&candidates, now);
        for candidate in leaving.into_iter().filter_map(|index| candidates.get(index)) {
            if candidate.holder.give_up() {
                self.report(candidate, now);
            } else if let Some(holding) = self.state().holdings.get_mut(&candidate.ticket) {
                holding.told = None;
            }
        }
    }

    fn report(&self, candidate: &Candidate, now: Instant) {
        if !candidate.holder.is_loss() {
            return;
        }
        self.0.reclaimed.one();
        let Some(more) = self.0.log.admit(()) else { return };
        let (what, client, total) = (self.0.what, candidate.client, self.state().total);
        let use_made = match candidate.usage {
            Usage::Unused(since) => format!("did not use it for {} s", now.saturating_duration_since(since).as_secs()),
            Usage::Taking(rate) => format!("read {rate} bytes/s"),
            Usage::Starved => "had nothing to read for seconds".to_owned(),
            Usage::Working => return,
        };
        tracing::warn!("others wait for one of {total} ({what}): took one back from {client}, which {use_made}{more}");
    }
}

impl Holding {
    /// Whether it is expected to be given back.
    fn is_leaving(&self, now: Instant) -> bool {
        self.told.is_some_and(|told| now.saturating_duration_since(told) < LEAVING)
    }
}

impl State {
    /// Everything that might be taken back; nothing if nobody waits, or somebody has just looked.
    fn candidates(&mut self, now: Instant) -> Option<Vec<Candidate>> {
        if self.turns.is_empty() || self.looked.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            return None;
        }
        self.looked = Some(now);
        let holdings = self.holdings.iter().filter(|(_, holding)| !holding.is_leaving(now));
        let candidates = holdings.filter_map(|(ticket, holding)| {
            let holder = holding.holder.upgrade()?;
            let (client, amount) = (holding.client, holding.amount);
            Some(Candidate { ticket: *ticket, client, amount, holder, usage: Usage::Working })
        });
        Some(candidates.collect())
    }

    /// The indexes of those candidates that have to give up, each of which is entered as leaving.
    fn choose(&mut self, candidates: &[Candidate], now: Instant) -> Vec<usize> {
        let mut wants: Vec<_> = self
            .clients
            .iter()
            .flat_map(|(client, account)| account.waiting.values().map(|waiter| (*client, waiter)))
            .map(|(client, waiter)| Want {
                client,
                amount: waiter.amount,
                waited: now.saturating_duration_since(waiter.since),
            })
            .collect();
        wants.sort_by_key(|want| Reverse(want.waited));
        let mut leaving_of: HashMap<ClientId, usize> = HashMap::new();
        for holding in self.holdings.values().filter(|holding| holding.is_leaving(now)) {
            *leaving_of.entry(holding.client).or_default() += holding.amount;
        }
        let mut coming = self.free() + leaving_of.values().sum::<usize>();
        // What each client gets by this, which counts as held.
        let mut getting: HashMap<ClientId, usize> = HashMap::new();
        let mut chosen = Vec::new();
        let mut left: Vec<_> = candidates.iter().enumerate().collect();
        for want in wants {
            // One that has all that it may have gets only what is its own.
            let is_bounded = !self.may_have(want.client, want.amount);
            let own = leaving_of.get(&want.client).copied().unwrap_or_default();
            let mut found = if is_bounded { own.min(coming) } else { coming };
            left.retain(|(index, candidate)| {
                let (mine, theirs) = (want.client, candidate.client);
                if found >= want.amount || (is_bounded && mine != theirs) {
                    return true;
                }
                let kept = self.held(theirs).saturating_sub(leaving_of.get(&theirs).copied().unwrap_or_default());
                let has = self.weight(mine) + getting.get(&mine).copied().unwrap_or_default();
                let (is_own, is_owed) = (mine == theirs, mine != theirs && has < kept);
                if !(Demand { waited: want.waited, is_own, is_owed }).takes(candidate.usage) {
                    return true;
                }
                found += candidate.amount;
                coming += candidate.amount;
                *leaving_of.entry(theirs).or_default() += candidate.amount;
                if let Some(holding) = self.holdings.get_mut(&candidate.ticket) {
                    holding.told = Some(now);
                }
                chosen.push(*index);
                false
            });
            if found >= want.amount {
                coming = coming.saturating_sub(want.amount);
                if want.client.has_quota() {
                    *getting.entry(want.client).or_default() += want.amount;
                }
                if let Some(own) = leaving_of.get_mut(&want.client).filter(|_| is_bounded) {
                    *own = own.saturating_sub(want.amount);
                }
            }
        }
        chosen
    }
}
