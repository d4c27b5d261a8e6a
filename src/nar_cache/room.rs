//! Rooms for encoders: how many there are, whose turn it is, and what lies ready in them.
//!
//! A context of libzstd takes up to some tens of megabytes, each page of which the system has to find and clear when it is
//! written to first: a tenth of the time of a NAR. So a context whose NAR has ended stays for the next one, until its room
//! is used with another, and not for long: a cache that has nothing to compress is to be small. Small NARs have rooms
//! apart from those of large ones, so that they need not wait for the end of one.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use zstd::zstd_safe::CCtx;

use super::encoding::Encoding;
use super::locked;
use crate::client::Client;
use crate::fairness::{FairSemaphore, Permit};
use crate::metrics::Metrics;
use crate::supervisor::supervise;

/// NARs of up to this size, in bytes, take a small room, of 8 MiB with the units before and after the encoder.
const SMALL: u64 = 4 << 20;
/// How long a context lies ready, and how often that is looked at.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// How many rooms there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// For NARs of up to [`SMALL`] bytes.
    pub(super) small: usize,
    /// For all others: the memory of all of them, in bytes. There is at least one.
    pub(super) large: usize,
}

/// The rooms of some encoders.
#[derive(Debug)]
pub(super) struct Rooms {
    small: Arc<House>,
    large: Arc<House>,
}

impl Rooms {
    /// So many. Must be called in a runtime.
    pub(super) fn new(plan: Plan, encoding: &Encoding, metrics: &Metrics) -> Self {
        let shares = |number| FairSemaphore::new("encoder", number, metrics);
        let large = (plan.large / encoding.memory()).max(1);
        Self { small: House::new(shares(plan.small)), large: House::new(shares(large)) }
    }

    /// Waits for a room for a NAR of `size` bytes.
    pub(super) async fn reserve(&self, size: u64, client: Client) -> Room {
        let house = self.house(size);
        Room::new(house, house.shares.acquire(client, 1).await)
    }

    /// The same for all clients that come, by the turn of whichever is first.
    pub(super) async fn reserve_for_any(&self, size: u64, clients: mpsc::UnboundedReceiver<Client>) -> Room {
        let house = self.house(size);
        Room::new(house, house.shares.acquire_for_any(clients, 1).await)
    }

    const fn house(&self, size: u64) -> &Arc<House> {
        if size <= SMALL { &self.small } else { &self.large }
    }
}

/// Rooms of one size.
#[derive(Debug)]
struct House {
    shares: FairSemaphore,
    resting: Mutex<Vec<Resting>>,
}

/// A context that lies ready.
struct Resting {
    since: Instant,
    context: CCtx<'static>,
}

impl House {
    fn new(shares: FairSemaphore) -> Arc<Self> {
        let house = Arc::new(Self { shares, resting: Mutex::default() });
        let rested = Arc::downgrade(&house);
        supervise("encoder contexts", move || clear_away(Weak::clone(&rested)));
        house
    }

    /// A context, if one lies ready.
    fn wake(&self) -> Option<CCtx<'static>> {
        self.resting().pop().map(|it| it.context)
    }

    /// Keeps a context whose room is about to be free, unless one lies in each of the rooms that are free then.
    fn lay_down(&self, context: CCtx<'static>) {
        let mut resting = self.resting();
        if resting.len() <= self.shares.free() {
            resting.push(Resting { since: Instant::now(), context });
        }
    }

    fn resting(&self) -> MutexGuard<'_, Vec<Resting>> {
        locked(&self.resting)
    }
}

/// Lets go of what nobody has used for a while, for as long as there is a house.
async fn clear_away(house: Weak<House>) {
    loop {
        tokio::time::sleep(LONGEST_REST).await;
        let Some(house) = house.upgrade() else { return };
        house.resting().retain(|it| it.since.elapsed() < LONGEST_REST);
    }
}

/// The room of one encoder, until it is dropped.
pub(super) struct Room {
    house: Arc<House>,
    context: Option<CCtx<'static>>,
    _share: Permit,
}

impl Room {
    fn new(house: &Arc<House>, share: Permit) -> Self {
        Self { house: Arc::clone(house), context: house.wake(), _share: share }
    }

    /// The context, one that was used before or a new one.
    pub(super) fn context(&mut self) -> CCtx<'static> {
        self.context.take().unwrap_or_else(CCtx::create)
    }

    /// Takes the context back, whatever it was doing.
    pub(super) fn give_back(&mut self, context: CCtx<'static>) {
        self.context = Some(context);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // First: whoever gets the share looks for the context.
        if let Some(context) = self.context.take() {
            self.house.lay_down(context);
        }
    }
}

impl fmt::Debug for Resting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resting(for {:?})", self.since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Zstd;

    const LARGE: u64 = SMALL + 1;

    /// Two small rooms, and so much memory for large ones.
    fn rooms(large: usize) -> Rooms {
        Rooms::new(Plan { small: 2, large: large << 20 }, &Encoding::new(Zstd::default()), &Metrics::default())
    }

    fn reserve(rooms: &Rooms, size: u64) -> impl Future<Output = Room> {
        rooms.reserve(size, Client::Server)
    }

    /// Leaves contexts behind, of NARs that were there at once.
    async fn use_and_leave(rooms: &Rooms, sizes: &[u64]) {
        let mut used = Vec::new();
        for size in sizes {
            used.push(reserve(rooms, *size).await);
        }
        for mut room in used {
            let context = room.context();
            room.give_back(context);
        }
    }

    #[tokio::test]
    async fn a_context_is_used_again_for_a_nar_of_its_kind() {
        let rooms = rooms(80);
        use_and_leave(&rooms, &[1, LARGE]).await;
        for size in [SMALL, u64::MAX] {
            let (first, second) = (reserve(&rooms, size).await, reserve(&rooms, size).await);
            assert!(first.context.is_some() && second.context.is_none());
        }
    }

    #[tokio::test]
    async fn there_are_as_many_rooms_as_fit() {
        for (megabytes, count) in [(0, 1), (78, 1), (80, 2), (120, 3)] {
            assert_eq!(rooms(megabytes).large.shares.free(), count, "{megabytes}");
        }
    }

    #[tokio::test]
    async fn there_are_no_more_contexts_than_rooms() {
        let rooms = rooms(80);
        use_and_leave(&rooms, &[LARGE; 2]).await;
        assert_eq!(rooms.large.resting().len(), 2);
        let mut rest = reserve(&rooms, LARGE).await;
        use_and_leave(&rooms, &[LARGE]).await;
        // One that was not in a room before.
        rest.give_back(CCtx::create());
        drop(rest);
        assert_eq!(rooms.large.resting().len(), 2);
    }

    #[tokio::test]
    async fn who_waits_for_a_room_finds_the_context_that_was_in_it() {
        let rooms = rooms(40);
        let mut room = reserve(&rooms, LARGE).await;
        let context = room.context();
        room.give_back(context);
        let leave = async { drop(room) };
        assert!(tokio::join!(reserve(&rooms, LARGE), leave).0.context.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_rests_for_long() {
        let rooms = rooms(80);
        use_and_leave(&rooms, &[LARGE]).await;
        let begun = Instant::now();
        while !rooms.large.resting().is_empty() {
            assert!(begun.elapsed() < 10 * LONGEST_REST);
            tokio::time::sleep(LONGEST_REST).await;
        }
    }
}
