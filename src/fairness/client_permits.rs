//! Permits by client, for `harmonia status`.

use std::collections::HashMap;
use std::sync::Arc;

use super::client_id::ClientId;
use super::fair_semaphore::FairSemaphore;
use super::holder::Holder;

/// Permits and requests of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientPermits {
    /// The client.
    pub client: ClientId,
    /// Permits that it holds.
    pub held: usize,
    /// Permits among those with which a request is being served.
    pub in_use: usize,
    /// Requests for permits that wait.
    pub waiting: usize,
}

impl FairSemaphore {
    /// Returns the permits of each client that holds some or waits, in no order. Looks through all holders.
    #[must_use]
    pub(crate) fn clients(&self) -> Vec<ClientPermits> {
        let (mut clients, holders) = {
            let state = self.state();
            let mut clients = HashMap::with_capacity(state.clients.len());
            for (client, of_client) in &state.clients {
                let (held, waiting) = (of_client.held, of_client.waiting.len());
                clients.insert(*client, ClientPermits { client: *client, held, in_use: 0, waiting });
            }
            let holders: Vec<(ClientId, usize, Arc<dyn Holder>)> = state
                .reclaimable
                .values()
                .filter_map(|it| Some((it.client, it.amount, it.holder.upgrade()?)))
                .collect();
            (clients, holders)
        };
        // Not under the lock: this may drop a holder, which may hold permits itself.
        for (client, amount, holder) in holders {
            if let Some(permits) = clients.get_mut(&client).filter(|_| holder.is_in_use()) {
                permits.in_use += amount;
            }
        }
        clients.into_values().collect()
    }
}
