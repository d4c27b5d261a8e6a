//! Paths whose NARs an operator has handed over to be compressed, without waiting for that: from a post-build hook, say.
//!
//! Owns the queue, which is bounded: who finds it full waits for a while, and is told then how many were taken. None that was
//! taken is lost without a line of the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harmonia_protocol::HashPart;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::time::{Instant, sleep, timeout_at};

use super::NarCache;
use super::by_hand::{ByHandError, resolve};

/// Paths that wait: those of a large build, some MiB of memory.
const MAX_WAITING: usize = 1 << 16;
/// For room in the queue, so that a hook does not hold up builds for longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Tries for a path while the daemon is away, and the pause between them: longer than a restart takes.
const TRIES: u32 = 15;
const PAUSE: Duration = Duration::from_secs(2);

/// A path to make, and with `recursive` all that it refers to.
#[derive(Debug, Clone, Copy)]
struct Order {
    hash: HashPart,
    recursive: bool,
}

/// The queue.
#[derive(Debug)]
pub(super) struct HandedOver {
    sender: mpsc::Sender<Order>,
    orders: Mutex<mpsc::Receiver<Order>>,
    /// Orders that were taken and are not done.
    left: Arc<AtomicUsize>,
    /// NARs that are made at one time.
    making: Arc<Semaphore>,
}

impl HandedOver {
    /// A queue whose NARs are made so many at a time.
    pub(super) fn new(at_once: usize) -> Self {
        Self::with_room_for(MAX_WAITING, at_once)
    }

    fn with_room_for(orders: usize, at_once: usize) -> Self {
        let (sender, orders) = mpsc::channel(orders);
        Self { sender, orders: Mutex::new(orders), left: Arc::default(), making: Arc::new(Semaphore::new(at_once)) }
    }

    /// Takes orders while there is room, and waits until `deadline` for that; how many it has taken.
    async fn take(&self, hashes: &[HashPart], recursive: bool, deadline: Instant) -> usize {
        for (taken, hash) in hashes.iter().enumerate() {
            let Ok(Ok(room)) = timeout_at(deadline, self.sender.reserve()).await else { return taken };
            self.left.fetch_add(1, Ordering::Relaxed);
            room.send(Order { hash: *hash, recursive });
        }
        hashes.len()
    }
}

/// An order under way, which is done when the last one is dropped.
struct Done(Arc<AtomicUsize>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl NarCache {
    /// Takes over the compressing of these paths; how many were taken, from the first on: not all if the queue stays full.
    pub async fn hand_over(&self, hashes: &[HashPart], recursive: bool) -> usize {
        self.handed_over.take(hashes, recursive, Instant::now() + PATIENCE).await
    }

    /// Paths that were handed over and are not done.
    #[must_use]
    pub fn handed_over(&self) -> usize {
        self.handed_over.left.load(Ordering::Relaxed)
    }

    /// Makes what was handed over, without an end.
    pub async fn make_handed_over(self: &Arc<Self>) {
        let mut orders = self.handed_over.orders.lock().await;
        while let Some(order) = orders.recv().await {
            let done = Arc::new(Done(Arc::clone(&self.handed_over.left)));
            match patiently(|| resolve(&self.store, std::slice::from_ref(&order.hash), order.recursive)).await {
                Ok(members) => {
                    for member in members {
                        let (cache, done) = (Arc::clone(self), Arc::clone(&done));
                        // It is never closed.
                        let permit = Arc::clone(&self.handed_over.making).acquire_owned().await;
                        tokio::spawn(async move {
                            let _held = (permit, done);
                            let hash = member.path.hash_part();
                            if let Err(error) = patiently(|| cache.make(hash)).await {
                                tracing::warn!("{} was handed over to be compressed, and is not: {error}", member.path);
                            }
                        });
                    }
                }
                Err(error) => tracing::warn!("{} was handed over to be compressed, and is not: {error}", order.hash),
            }
        }
    }
}

/// Tries again while the daemon is away.
async fn patiently<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, ByHandError>
where
    F: Future<Output = Result<T, ByHandError>>,
{
    let mut tries = 1;
    loop {
        match attempt().await {
            Err(error) if error.is_silence() && tries < TRIES => {}
            last => return last,
        }
        tries += 1;
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_makes_wait_and_then_says_how_many_were_taken() {
        let queue = HandedOver::with_room_for(2, 1);
        let hashes: Vec<HashPart> = (0..5).map(|number| format!("{number:032}").parse().unwrap()).collect();
        let soon = || Instant::now() + PATIENCE;
        assert_eq!(queue.take(&hashes, false, soon()).await, 2);
        assert_eq!(queue.left.load(Ordering::Relaxed), 2);
        // While it waits room comes.
        let mut orders = queue.orders.lock().await;
        let (taken, first) = tokio::join!(queue.take(&hashes[2..], true, soon()), orders.recv());
        assert_eq!((taken, first.unwrap().hash), (1, hashes[0]));
        let rest = [orders.recv().await.unwrap(), orders.recv().await.unwrap()];
        assert_eq!(rest.map(|order| (order.hash, order.recursive)), [(hashes[1], false), (hashes[2], true)]);
    }
}
