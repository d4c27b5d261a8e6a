use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::{ClientId, FairSemaphore, Holder, Permit, Usage};
use crate::metrics::Metrics;
use crate::sync::Mutex;

fn client(number: u8) -> ClientId {
    ClientId::from_addr([192, 0, 2, number].into())
}

fn poll<T>(future: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn semaphore(total: usize) -> FairSemaphore {
    FairSemaphore::new("thing", total, &Metrics::default())
}

/// Acquires permits until the next request would wait.
fn acquire_all(semaphore: &FairSemaphore, client: ClientId) -> Vec<Permit> {
    std::iter::from_fn(|| semaphore.try_acquire(client, 1)).collect()
}

#[tokio::test]
async fn waiting_clients_are_served_round_robin() {
    let shared = semaphore(1);
    let held = shared.try_acquire(client(1), 1).unwrap();
    let mut of_one = [(); 3].map(|()| Box::pin(shared.acquire(client(1), 1)));
    assert!(of_one.iter_mut().all(|future| poll(future.as_mut()).is_none()));
    let mut of_two = pin!(shared.acquire(client(2), 1));
    assert!(poll(of_two.as_mut()).is_none());
    assert_eq!(shared.waiting(), 4);
    drop(held);
    // The first request came first, then it is the other client's turn.
    let first = poll(of_one[0].as_mut()).unwrap();
    assert!(poll(of_one[1].as_mut()).is_none());
    drop(first);
    let other = poll(of_two.as_mut()).unwrap();
    assert!(poll(of_one[1].as_mut()).is_none());
    drop(other);
    assert!(poll(of_one[1].as_mut()).is_some() && poll(of_one[2].as_mut()).is_some());
}

#[tokio::test]
async fn a_client_alone_may_hold_all_permits_and_free_ones_go_to_the_client_that_holds_fewest() {
    let shared = semaphore(4);
    let mut held = acquire_all(&shared, client(1));
    assert_eq!(held.len(), 4);
    let mut more = pin!(shared.acquire(client(1), 1));
    let mut others = [2, 3].map(|number| Box::pin(shared.acquire(client(number), 1)));
    assert!(poll(more.as_mut()).is_none() && others.iter_mut().all(|other| poll(other.as_mut()).is_none()));
    // The first client came first, and holds most.
    held.truncate(2);
    let others = others.map(|mut other| poll(other.as_mut()).unwrap());
    assert!(poll(more.as_mut()).is_none());
    held.pop();
    assert!(poll(more.as_mut()).is_some());
    drop(others);
    // There may be any number of clients behind a proxy, so its permits do not count.
    let held: Vec<_> = (0..4).map_while(|_| shared.try_acquire(ClientId::Proxy, 1)).collect();
    let mut proxied = pin!(shared.acquire(ClientId::Proxy, 1));
    let mut other = pin!(shared.acquire(client(2), 1));
    assert!(poll(proxied.as_mut()).is_none() && poll(other.as_mut()).is_none());
    drop(held.into_iter().next());
    assert!(poll(proxied.as_mut()).is_some());
}

#[tokio::test]
async fn a_client_at_its_limit_waits_and_does_not_block_others() {
    let shared = semaphore(4);
    shared.resize(4, 2);
    let held = acquire_all(&shared, client(1));
    assert_eq!(held.len(), 2);
    let mut greedy = pin!(shared.acquire(client(1), 1));
    assert!(poll(greedy.as_mut()).is_none());
    let mut other = pin!(shared.acquire(client(2), 1));
    let other = poll(other.as_mut());
    assert!(other.is_some());
    shared.resize(1, 9);
    assert!(poll(greedy.as_mut()).is_none());
    drop((held, other));
    assert!(poll(greedy.as_mut()).is_some());
}

/// A holder with a fixed usage, which drops its permit when it is reclaimed.
struct Body {
    permit: Mutex<Option<Permit>>,
    usage: Usage,
}

impl Holder for Body {
    fn usage(&self, _: Instant) -> Usage {
        self.usage
    }

    fn reclaim(&self) -> bool {
        drop(self.permit.lock().take());
        true
    }
}

/// Acquires a permit for a holder with this usage.
fn held(semaphore: &FairSemaphore, client: ClientId, usage: Usage) -> Arc<Body> {
    let body = Arc::new(Body { permit: Mutex::new(semaphore.try_acquire(client, 1)), usage });
    let holder: Arc<dyn Holder> = Arc::clone(&body) as _;
    body.permit.lock().as_ref().unwrap().set_holder(Arc::downgrade(&holder));
    body
}

fn is_reclaimed(body: &Body) -> bool {
    body.permit.lock().is_none()
}

#[tokio::test(start_paused = true)]
async fn the_longest_idle_is_reclaimed_first_and_then_the_slowest() {
    let shared = semaphore(5);
    let now = Instant::now();
    let usages = [
        Usage::Reading(20),
        Usage::Idle(now),
        Usage::Busy,
        Usage::Idle(now.checked_sub(Duration::from_secs(1)).unwrap()),
        Usage::Reading(10),
    ];
    let bodies: Vec<_> = (1..).zip(usages).map(|(number, usage)| held(&shared, client(number), usage)).collect();
    let mut got = Vec::new();
    for last in [3, 1, 4, 0] {
        got.push(shared.acquire(client(9), 1).await);
        let gone: Vec<_> = (0..5).filter(|index| is_reclaimed(&bodies[*index])).collect();
        assert!(gone.len() == got.len() && gone.contains(&last), "{gone:?}");
    }
    // Busy permits are kept.
    let none = timeout(Duration::from_secs(600), shared.acquire(client(9), 1)).await;
    assert!(none.is_err() && !is_reclaimed(&bodies[2]));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_reclaimed_while_nobody_waits_and_no_more_than_is_waited_for() {
    let shared = semaphore(3);
    let bodies = [1, 2, 3].map(|number| held(&shared, client(number), Usage::Idle(Instant::now())));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(!bodies.iter().any(|body| is_reclaimed(body)));
    let wait = |number| shared.acquire(client(number), 1);
    let _got = tokio::join!(wait(4), wait(5));
    assert_eq!(bodies.iter().filter(|body| is_reclaimed(body)).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn permits_of_a_fast_reader_are_reclaimed_for_another_client_after_a_minute() {
    const FAST: Usage = Usage::Reading(100 << 20);
    let shared = semaphore(1);
    for (newcomer, least, most) in [(2, 40, 70), (1, 170, 190)] {
        let body = held(&shared, client(1), FAST);
        let began = Instant::now();
        let got = shared.acquire(client(newcomer), 1).await;
        let waited = began.elapsed().as_secs();
        assert!(is_reclaimed(&body) && (least..most).contains(&waited), "{waited}");
        drop(got);
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_client_reclaims_its_share_and_no_more() {
    let shared = semaphore(8);
    let bodies: Vec<_> = (0..8).map(|_| held(&shared, client(1), Usage::Reading(10 << 10))).collect();
    let mut waiting: Vec<_> = (0..8).map(|_| Box::pin(shared.acquire(client(2), 1))).collect();
    let mut got = Vec::new();
    let all = poll_fn(|context| {
        waiting.retain_mut(|it| match it.as_mut().poll(context) {
            Poll::Ready(permit) => {
                got.push(permit);
                false
            }
            Poll::Pending => true,
        });
        if waiting.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    });
    // Once each client holds half, slowness alone is no reason to reclaim more.
    assert!(timeout(Duration::from_secs(25), all).await.is_err());
    assert_eq!(bodies.iter().filter(|body| is_reclaimed(body)).count(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_client_at_its_limit_reclaims_only_its_own_permits() {
    let shared = semaphore(2);
    shared.resize(2, 1);
    let unused = Usage::Idle(Instant::now());
    let [own, other] = [1, 2].map(|number| held(&shared, client(number), unused));
    let _got = shared.acquire(client(1), 1).await;
    assert!(is_reclaimed(&own) && !is_reclaimed(&other));
}

#[tokio::test]
async fn a_large_request_is_not_overtaken_by_small_ones() {
    let shared = semaphore(4);
    let held = shared.try_acquire(client(1), 3).unwrap();
    let mut large = pin!(shared.acquire(client(2), 9));
    assert!(poll(large.as_mut()).is_none());
    assert!(shared.try_acquire(client(3), 1).is_none());
    drop(held);
    // More than there are counts as all.
    let all = poll(large.as_mut()).unwrap();
    assert!(shared.try_acquire(client(3), 1).is_none());
    drop(all);
    assert!(shared.try_acquire(client(3), 1).is_some());
}

#[tokio::test]
async fn a_request_for_several_clients_is_served_with_the_first_of_them() {
    let shared = semaphore(1);
    let held = shared.try_acquire(client(1), 1).unwrap();
    let mut others = [(); 3].map(|()| Box::pin(shared.acquire(client(1), 1)));
    assert!(others.iter_mut().all(|future| poll(future.as_mut()).is_none()));
    let (join, joining) = mpsc::unbounded_channel();
    let mut together = pin!(shared.acquire_for_any(joining, 1));
    join.send(client(1)).unwrap();
    assert!(poll(together.as_mut()).is_none());
    join.send(client(2)).unwrap();
    join.send(client(2)).unwrap();
    assert!(poll(together.as_mut()).is_none());
    assert_eq!(shared.waiting(), 5);
    drop(held);
    drop(poll(others[0].as_mut()).unwrap());
    assert!(poll(together.as_mut()).is_some());
}

#[tokio::test]
async fn a_dropped_request_blocks_nobody_and_its_client_is_forgotten() {
    let shared = semaphore(4);
    let held = shared.try_acquire(client(1), 3).unwrap();
    let mut large = Box::pin(shared.acquire(client(2), 4));
    assert!(poll(large.as_mut()).is_none());
    let mut small = pin!(shared.acquire(client(3), 1));
    assert!(poll(small.as_mut()).is_none());
    drop(large);
    assert!(poll(small.as_mut()).is_some());
    drop(held);
    assert_eq!((shared.waiting(), shared.available()), (0, 4));
    assert!(shared.state().clients.is_empty());
}

proptest! {
    /// In any order of events no permit is granted twice or lost, and nobody waits for permits that are available.
    #[test]
    fn no_permit_is_lost(steps in prop::collection::vec((0_u8..4, 1_usize..6, any::<bool>()), 1..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _entered = runtime.enter();
        let shared = semaphore(8);
        let mut takes: Vec<Pin<Box<dyn Future<Output = Permit> + '_>>> = Vec::new();
        let mut held = Vec::new();
        for (number, amount, is_take) in steps {
            if is_take {
                takes.push(Box::pin(shared.acquire(client(number), amount)));
            } else if amount % 2 == 0 && !held.is_empty() {
                held.remove(amount % held.len());
            } else if !takes.is_empty() {
                drop(takes.remove(amount % takes.len()));
            }
            takes.retain_mut(|take| match poll(take.as_mut()) {
                Some(share) => {
                    held.push(share);
                    false
                }
                None => true,
            });
            let taken: usize = held.iter().map(|share: &Permit| share.amount).sum();
            prop_assert_eq!(shared.available() + taken, 8);
            prop_assert!(!held.is_empty() || takes.is_empty());
        }
        takes.clear();
        held.clear();
        let state = shared.state();
        prop_assert!(state.held == 0 && state.reclaimable.is_empty() && state.clients.is_empty() && state.round_robin.is_empty());
    }
}
