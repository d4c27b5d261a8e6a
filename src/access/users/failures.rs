//! Slows down addresses from which wrong passwords come.
//!
//! After a few failures each check of an address has to wait, longer with each further one, up to a maximum. Checks of other
//! addresses do not. An IPv6 network of 64 bits is one address. Clients of which no address is known are not slowed: any number
//! of them may be behind one proxy.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock_cache::ClockCache;
use crate::fairness::ClientId;
use crate::sync::Mutex;

/// Memory for addresses with failures, in bytes: some thousands of them. One that is evicted begins anew.
const MAX_BYTES: usize = 512 * 1024;

/// Failures after which no check waits: slips of somebody who types.
const FREE: u32 = 3;
/// Delay after the first failure that is not free; it doubles with each further one.
const FIRST_DELAY: Duration = Duration::from_millis(250);
/// Maximum delay.
const MAX_DELAY: Duration = Duration::from_secs(8);
/// Time after the last failure in which all of an address are forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(15 * 60);

/// Failures by address.
pub(super) struct Failures(Mutex<ClockCache<ClientId, Failed>>);

#[derive(Debug, Clone, Copy)]
struct Failed {
    times: u32,
    last: Instant,
}

impl Failed {
    /// Returns when the next check may begin.
    fn pause_ends(self) -> Instant {
        self.last + delay(self.times)
    }
}

fn delay(failures: u32) -> Duration {
    match failures.checked_sub(FREE + 1) {
        None => Duration::ZERO,
        Some(doublings) => FIRST_DELAY.saturating_mul(1 << doublings.min(16)).min(MAX_DELAY),
    }
}

impl Failures {
    pub(super) fn new() -> Self {
        Self(Mutex::new(ClockCache::new(MAX_BYTES)))
    }

    /// Returns when a check for this client may begin, if that is not now.
    pub(super) fn pause_ends(&self, client: ClientId) -> Option<Instant> {
        let now = Instant::now();
        let mut clients = self.0.lock();
        let failed = *clients.find(&client)?;
        if now.duration_since(failed.last) >= FORGOTTEN_AFTER {
            clients.remove(&client);
            return None;
        }
        drop(clients);
        Some(failed.pause_ends()).filter(|end| *end > now)
    }

    /// Counts a wrong password.
    pub(super) fn record(&self, client: ClientId) {
        if !client.has_quota() {
            return;
        }
        let last = Instant::now();
        let mut clients = self.0.lock();
        match clients.find(&client) {
            Some(failed) if last.duration_since(failed.last) < FORGOTTEN_AFTER => {
                *failed = Failed { times: failed.times.saturating_add(1), last };
            }
            Some(failed) => *failed = Failed { times: 1, last },
            None => clients.insert(client, Failed { times: 1, last }, 0),
        }
    }

    /// Returns the memory in use, in bytes.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.0.lock().bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use tokio::time::advance;

    use super::*;

    fn client(address: &str) -> ClientId {
        ClientId::from_addr(address.parse().unwrap())
    }

    /// Returns how long the client has to wait.
    fn pause(failures: &Failures, client: ClientId) -> Duration {
        failures.pause_ends(client).map_or(Duration::ZERO, |end| end - Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn each_failure_doubles_the_pause_up_to_a_maximum_and_for_one_address_alone() {
        let failures = Failures::new();
        let (slow, other) = (client("192.0.2.1"), client("192.0.2.2"));
        let mut pauses = Vec::new();
        for _ in 0..12 {
            failures.record(slow);
            pauses.push(pause(&failures, slow).as_millis());
        }
        assert_eq!(pauses, [0, 0, 0, 250, 500, 1000, 2000, 4000, 8000, 8000, 8000, 8000]);
        assert_eq!(pause(&failures, other), Duration::ZERO);
        advance(MAX_DELAY).await;
        assert_eq!(pause(&failures, slow), Duration::ZERO);
        failures.record(slow);
        assert_eq!(pause(&failures, slow), MAX_DELAY, "a pause that is over is not forgotten");
        advance(FORGOTTEN_AFTER).await;
        assert_eq!(pause(&failures, slow), Duration::ZERO);
        failures.record(slow);
        assert_eq!(pause(&failures, slow), Duration::ZERO, "failures of long ago do not count");
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_of_ipv6_is_one_address_and_clients_without_one_are_not_slowed() {
        let failures = Failures::new();
        for host in 0..5_u128 {
            failures.record(ClientId::from_addr(Ipv6Addr::from_bits(0x2001_0db8 << 96 | host).into()));
            failures.record(ClientId::Proxy);
        }
        assert!(pause(&failures, client("2001:db8::ffff")) > Duration::ZERO);
        assert_eq!(pause(&failures, client("2001:db8:0:1::1")), Duration::ZERO);
        assert_eq!(pause(&failures, ClientId::Proxy), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn any_number_of_addresses_takes_bounded_memory() {
        let failures = Failures::new();
        for address in 0..20_000 {
            failures.record(ClientId::from_addr(Ipv4Addr::from_bits(address).into()));
        }
        assert!(failures.bytes() <= MAX_BYTES, "{}", failures.bytes());
    }
}
