use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use super::*;
use crate::fairness::Usage;

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

/// Takes one after the other until it has to wait.
fn take_all(semaphore: &FairSemaphore, client: ClientId) -> Vec<Permit> {
    std::iter::from_fn(|| semaphore.try_acquire(client, 1)).collect()
}

#[tokio::test]
async fn clients_that_wait_are_served_by_turns() {
    let shared = semaphore(1);
    let held = shared.try_acquire(client(1), 1).unwrap();
    let mut of_one = [(); 3].map(|()| Box::pin(shared.acquire(client(1), 1)));
    assert!(of_one.iter_mut().all(|future| poll(future.as_mut()).is_none()));
    let mut of_two = pin!(shared.acquire(client(2), 1));
    assert!(poll(of_two.as_mut()).is_none());
    assert_eq!(shared.waiting(), 4);
    drop(held);
    // The first one came first, then the other client has its turn.
    let first = poll(of_one[0].as_mut()).unwrap();
    assert!(poll(of_one[1].as_mut()).is_none());
    drop(first);
    let other = poll(of_two.as_mut()).unwrap();
    assert!(poll(of_one[1].as_mut()).is_none());
    drop(other);
    assert!(poll(of_one[1].as_mut()).is_some() && poll(of_one[2].as_mut()).is_some());
}

#[tokio::test]
async fn a_client_alone_has_everything_and_what_is_free_goes_to_whoever_holds_least() {
    let shared = semaphore(4);
    let mut held = take_all(&shared, client(1));
    assert_eq!(held.len(), 4);
    let mut more = pin!(shared.acquire(client(1), 1));
    let mut others = [2, 3].map(|number| Box::pin(shared.acquire(client(number), 1)));
    assert!(poll(more.as_mut()).is_none() && others.iter_mut().all(|other| poll(other.as_mut()).is_none()));
    // The first one came first, and holds most.
    held.truncate(2);
    let others = others.map(|mut other| poll(other.as_mut()).unwrap());
    assert!(poll(more.as_mut()).is_none());
    held.pop();
    assert!(poll(more.as_mut()).is_some());
    drop(others);
    // There may be any number of clients behind a proxy: it has its turn.
    let held: Vec<_> = (0..4).map_while(|_| shared.try_acquire(ClientId::Proxy, 1)).collect();
    let mut proxied = pin!(shared.acquire(ClientId::Proxy, 1));
    let mut other = pin!(shared.acquire(client(2), 1));
    assert!(poll(proxied.as_mut()).is_none() && poll(other.as_mut()).is_none());
    drop(held.into_iter().next());
    assert!(poll(proxied.as_mut()).is_some());
}

#[tokio::test]
async fn a_client_has_no_more_than_its_own_bound_and_is_not_in_the_way_of_others() {
    let shared = semaphore(4);
    shared.resize(4, 2);
    let held = take_all(&shared, client(1));
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

/// A holder that a test controls; it drops its permit when it is told to give up.
struct Body {
    permit: Mutex<Option<Permit>>,
    usage: Usage,
}

impl Holder for Body {
    fn usage(&self, _: Instant) -> Usage {
        self.usage
    }

    fn give_up(&self) -> bool {
        drop(self.permit.lock().take());
        true
    }
}

/// Takes a permit for something that is used like this.
fn held(semaphore: &FairSemaphore, client: ClientId, usage: Usage) -> Arc<Body> {
    let body = Arc::new(Body { permit: Mutex::new(semaphore.try_acquire(client, 1)), usage });
    let holder: Arc<dyn Holder> = Arc::clone(&body) as _;
    body.permit.lock().as_ref().unwrap().held_by(Arc::downgrade(&holder));
    body
}

fn gave_up(body: &Body) -> bool {
    body.permit.lock().is_none()
}

#[tokio::test(start_paused = true)]
async fn the_longest_unused_goes_first_and_then_the_slowest() {
    let shared = semaphore(5);
    let now = Instant::now();
    let usages = [
        Usage::Taking(20),
        Usage::Unused(now),
        Usage::Working,
        Usage::Unused(now.checked_sub(Duration::from_secs(1)).unwrap()),
        Usage::Taking(10),
    ];
    let bodies: Vec<_> = (1..).zip(usages).map(|(number, usage)| held(&shared, client(number), usage)).collect();
    let mut got = Vec::new();
    for last in [3, 1, 4, 0] {
        got.push(shared.acquire(client(9), 1).await);
        let gone: Vec<_> = (0..5).filter(|index| gave_up(&bodies[*index])).collect();
        assert!(gone.len() == got.len() && gone.contains(&last), "{gone:?}");
    }
    // What the server is at work on is kept.
    let none = timeout(Duration::from_secs(600), shared.acquire(client(9), 1)).await;
    assert!(none.is_err() && !gave_up(&bodies[2]));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_back_while_nobody_waits_and_no_more_than_is_waited_for() {
    let shared = semaphore(3);
    let bodies = [1, 2, 3].map(|number| held(&shared, client(number), Usage::Unused(Instant::now())));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(!bodies.iter().any(|body| gave_up(body)));
    let wait = |number| shared.acquire(client(number), 1);
    let _got = tokio::join!(wait(4), wait(5));
    assert_eq!(bodies.iter().filter(|body| gave_up(body)).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_fast_reader_is_cut_for_a_newcomer_after_a_minute_and_not_for_its_own_client() {
    const FAST: Usage = Usage::Taking(100 << 20);
    let shared = semaphore(1);
    for (newcomer, least, most) in [(2, 40, 70), (1, 170, 190)] {
        let body = held(&shared, client(1), FAST);
        let began = Instant::now();
        let got = shared.acquire(client(newcomer), 1).await;
        let waited = began.elapsed().as_secs();
        assert!(gave_up(&body) && (least..most).contains(&waited), "{waited}");
        drop(got);
    }
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_takes_back_its_share_and_no_more() {
    let shared = semaphore(8);
    let bodies: Vec<_> = (0..8).map(|_| held(&shared, client(1), Usage::Taking(10 << 10))).collect();
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
    // Each has half by the time that a newcomer has nothing to say any more but that it is slow.
    assert!(timeout(Duration::from_secs(25), all).await.is_err());
    assert_eq!(bodies.iter().filter(|body| gave_up(body)).count(), 4);
}

#[tokio::test(start_paused = true)]
async fn one_that_has_its_bound_gets_only_its_own_back() {
    let shared = semaphore(2);
    shared.resize(2, 1);
    let unused = Usage::Unused(Instant::now());
    let [own, other] = [1, 2].map(|number| held(&shared, client(number), unused));
    let _got = shared.acquire(client(1), 1).await;
    assert!(gave_up(&own) && !gave_up(&other));
}

#[tokio::test]
async fn whoever_needs_much_is_not_overtaken_by_those_who_need_little() {
    let shared = semaphore(4);
    let held = shared.try_acquire(client(1), 3).unwrap();
    let mut large = pin!(shared.acquire(client(2), 9));
    assert!(poll(large.as_mut()).is_none());
    assert!(shared.try_acquire(client(3), 1).is_none());
    drop(held);
    // All that there is.
    let all = poll(large.as_mut()).unwrap();
    assert!(shared.try_acquire(client(3), 1).is_none());
    drop(all);
    assert!(shared.try_acquire(client(3), 1).is_some());
}

#[tokio::test]
async fn what_is_for_several_clients_has_the_turn_of_the_first() {
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
async fn whoever_stops_waiting_makes_way_and_is_forgotten() {
    let shared = semaphore(4);
    let held = shared.try_acquire(client(1), 3).unwrap();
    let mut large = Box::pin(shared.acquire(client(2), 4));
    assert!(poll(large.as_mut()).is_none());
    let mut small = pin!(shared.acquire(client(3), 1));
    assert!(poll(small.as_mut()).is_none());
    drop(large);
    assert!(poll(small.as_mut()).is_some());
    drop(held);
    assert_eq!((shared.waiting(), shared.free()), (0, 4));
    assert!(shared.state().clients.is_empty());
}

proptest! {
    /// Whatever happens in whatever order, nothing is given twice, nothing is lost, and nobody waits for what is free.
    #[test]
    fn nothing_is_lost(steps in prop::collection::vec((0_u8..4, 1_usize..6, any::<bool>()), 1..200)) {
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
            prop_assert_eq!(shared.free() + taken, 8);
            prop_assert!(!held.is_empty() || takes.is_empty());
        }
        takes.clear();
        held.clear();
        let state = shared.state();
        prop_assert!(state.held == 0 && state.holdings.is_empty() && state.clients.is_empty() && state.turns.is_empty());
    }
}
