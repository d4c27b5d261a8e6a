//! Shares of a semaphore's clients, for people who ask.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Account, FairSemaphore};
use crate::fairness::ClientId;
use crate::fairness::Holder;

/// One client's share of the permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientShare {
    /// The client.
    pub client: ClientId,
    /// Permits that it holds.
    pub held: usize,
    /// Permits among those for which something is under way.
    pub in_use: usize,
    /// Requests of it that wait.
    pub waiting: usize,
}

impl FairSemaphore {
    /// What each client has that has something or waits, in no order. Nothing is kept for this between two calls: it looks
    /// through all holders.
    #[must_use]
    pub fn shares(&self) -> Vec<ClientShare> {
        let (mut shares, holders) = {
            let state = self.state();
            let share = |(client, account): (&ClientId, &Account)| {
                let (held, waiting) = (account.held, account.waiting.len());
                (*client, ClientShare { client: *client, held, in_use: 0, waiting })
            };
            let shares: HashMap<_, _> = state.clients.iter().map(share).collect();
            let holders: Vec<(ClientId, usize, Arc<dyn Holder>)> = state
                .holdings
                .values()
                .filter_map(|holding| Some((holding.client, holding.amount, holding.holder.upgrade()?)))
                .collect();
            (shares, holders)
        };
        // Without the lock: the last of a holder may be dropped here, which has permits.
        for (client, amount, holder) in holders {
            if let Some(share) = shares.get_mut(&client).filter(|_| holder.is_in_use()) {
                share.in_use += amount;
            }
        }
        shares.into_values().collect()
    }
}
