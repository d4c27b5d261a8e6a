//! The memory of encoders: how much of it there is, whose turn it is, and what lies ready in it.
//!
//! A context of libzstd takes some tens of megabytes, each page of which the system has to find and clear when it is
//! written to first: a tenth of the time of a NAR. So a context whose NAR has ended stays for the next one of its size, as
//! long as nobody waits for the memory, and not for long: a cache that has nothing to compress is to be small.
//!
//! - What is in use and what lies ready is together no more than there is.
//! - A NAR gets a context that takes no more than it has room for: sizes are rounded up, so that there are few.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use zstd::zstd_safe::CCtx;

use super::encoding::Encoding;
use crate::client::Client;
use crate::shares::{Share, Shares};

/// What a share of memory is counted in, in bytes.
const GRAIN: usize = 1 << 20;
/// The most that the encoder of a small NAR takes, in grains.
const SMALL: usize = 8;
/// How long a context lies ready, and how often that is looked at.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// How much memory there is, in bytes. Small NARs have memory apart from that of large ones, so that they need not wait
/// for the end of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    /// For NARs that take little.
    pub(super) small: usize,
    /// For all others.
    pub(super) large: usize,
}

/// The memory of some encoders.
#[derive(Debug)]
pub(super) struct Rooms {
    small: Arc<House>,
    large: Arc<House>,
}

impl Rooms {
    /// So much, which is shared like this. Must be called in a runtime.
    pub(super) fn new(memory: Memory, shares: fn(usize) -> Shares) -> Self {
        let house = |bytes| House::new(bytes / GRAIN, shares);
        Self { small: house(memory.small), large: house(memory.large) }
    }

    /// Waits for the memory that an encoder of a NAR of `size` bytes takes.
    pub(super) async fn reserve(&self, encoding: &Encoding, size: u64, client: Client) -> Room {
        let (house, grains) = self.house(encoding, size);
        let share = house.shares.take(client, grains).await;
        Room::new(house, grains, share)
    }

    /// The same for all clients that come, by the turn of whichever is first.
    pub(super) async fn reserve_for_any(
        &self,
        encoding: &Encoding,
        size: u64,
        clients: mpsc::UnboundedReceiver<Client>,
    ) -> Room {
        let (house, grains) = self.house(encoding, size);
        let share = house.shares.take_for_any(clients, grains).await;
        Room::new(house, grains, share)
    }

    fn house(&self, encoding: &Encoding, size: u64) -> (&Arc<House>, usize) {
        let grains = encoding.memory(size).div_ceil(GRAIN);
        // One that takes more than there is has it all.
        if grains <= SMALL { (&self.small, grains) } else { (&self.large, grains.min(self.large.grains)) }
    }
}

/// Memory for encoders of one kind.
#[derive(Debug)]
struct House {
    grains: usize,
    shares: Shares,
    resting: Mutex<Vec<Resting>>,
}

/// A context that lies ready.
struct Resting {
    grains: usize,
    since: Instant,
    context: CCtx<'static>,
}

impl House {
    fn new(grains: usize, shares: fn(usize) -> Shares) -> Arc<Self> {
        let house = Arc::new(Self { grains, shares: shares(grains), resting: Mutex::default() });
        tokio::spawn(clear_away(Arc::downgrade(&house)));
        house
    }

    /// A context of this size, if one lies ready. Others go where their memory is in use now.
    fn wake(&self, grains: usize) -> Option<CCtx<'static>> {
        let mut resting = self.resting();
        let found = resting.iter().rposition(|it| it.grains == grains).map(|at| resting.remove(at).context);
        make_room(&mut resting, self.shares.free());
        found
    }

    /// Keeps a context whose room is about to be free.
    fn lay_down(&self, grains: usize, context: CCtx<'static>) {
        let mut resting = self.resting();
        resting.push(Resting { grains, since: Instant::now(), context });
        make_room(&mut resting, self.shares.free() + grains);
    }

    fn resting(&self) -> MutexGuard<'_, Vec<Resting>> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets go of contexts until the rest takes no more than `free` grains.
fn make_room(resting: &mut Vec<Resting>, free: usize) {
    let mut taken: usize = resting.iter().map(|it| it.grains).sum();
    // The first has been there longest.
    let too_many = resting.iter().take_while(|it| {
        let is_too_much = taken > free;
        taken -= it.grains;
        is_too_much
    });
    let too_many = too_many.count();
    resting.drain(..too_many);
}

/// Lets go of what nobody has used for a while, for as long as there is a house.
async fn clear_away(house: Weak<House>) {
    loop {
        tokio::time::sleep(LONGEST_REST).await;
        let Some(house) = house.upgrade() else { return };
        house.resting().retain(|it| it.since.elapsed() < LONGEST_REST);
    }
}

/// The memory of one encoder, until it is dropped.
pub(super) struct Room {
    house: Arc<House>,
    grains: usize,
    context: Option<CCtx<'static>>,
    _share: Share,
}

impl Room {
    fn new(house: &Arc<House>, grains: usize, share: Share) -> Self {
        let context = house.wake(grains);
        Self { house: Arc::clone(house), grains, context, _share: share }
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
            self.house.lay_down(self.grains, context);
        }
    }
}

impl std::fmt::Debug for Resting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resting({} MiB)", self.grains)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Zstd;

    const MIB: u64 = 1 << 20;

    fn rooms(large: usize) -> Rooms {
        Rooms::new(Memory { small: 16 << 20, large: large << 20 }, Shares::by_turns)
    }

    async fn reserve(rooms: &Rooms, size: u64) -> Room {
        rooms.reserve(&Encoding::new(Zstd::default()), size, Client::Server).await
    }

    /// Leaves a context behind.
    async fn use_and_leave(rooms: &Rooms, size: u64) {
        let mut room = reserve(rooms, size).await;
        let context = room.context();
        room.give_back(context);
    }

    fn resting(house: &House) -> Vec<usize> {
        house.resting().iter().map(|it| it.grains).collect()
    }

    #[tokio::test]
    async fn a_context_is_used_again_for_a_nar_of_its_size() {
        let rooms = rooms(80);
        use_and_leave(&rooms, 20 * MIB).await;
        let [rested] = resting(&rooms.large)[..] else { panic!("nothing rests") };
        let room = reserve(&rooms, 10 * MIB).await;
        assert!(room.context.is_none() && room.grains < rested, "it would take more than there is room for");
        let room = reserve(&rooms, 32 * MIB).await;
        assert!(room.context.is_some() && resting(&rooms.large).is_empty());
    }

    #[tokio::test]
    async fn small_nars_have_contexts_of_one_size_apart_from_those_of_large_ones() {
        let rooms = rooms(80);
        use_and_leave(&rooms, 1).await;
        assert_eq!(resting(&rooms.small), [SMALL]);
        assert!(reserve(&rooms, 4 * MIB).await.context.is_some());
        assert!(reserve(&rooms, 4 * MIB + 1).await.grains > SMALL);
    }

    #[tokio::test]
    async fn what_rests_makes_room_for_what_is_used() {
        let rooms = rooms(80);
        for _ in 0..2 {
            let (one, other) = (reserve(&rooms, 99 * MIB).await, reserve(&rooms, 99 * MIB).await);
            for mut room in [one, other] {
                let context = room.context();
                room.give_back(context);
            }
            assert_eq!(resting(&rooms.large), [40, 40]);
        }
        let small = reserve(&rooms, 10 * MIB).await;
        assert_eq!(resting(&rooms.large), [40]);
        drop(small);
    }

    #[tokio::test]
    async fn who_waits_for_a_room_finds_the_context_that_was_in_it() {
        let rooms = rooms(40);
        let mut room = reserve(&rooms, 99 * MIB).await;
        let context = room.context();
        room.give_back(context);
        let next = reserve(&rooms, 99 * MIB);
        let leave = async { drop(room) };
        assert!(tokio::join!(next, leave).0.context.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_rests_for_long() {
        let rooms = rooms(80);
        use_and_leave(&rooms, 99 * MIB).await;
        let begun = Instant::now();
        while !resting(&rooms.large).is_empty() {
            assert!(begun.elapsed() < 10 * LONGEST_REST);
            tokio::time::sleep(LONGEST_REST).await;
        }
    }
}
