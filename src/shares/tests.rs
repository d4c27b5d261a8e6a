use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use super::*;

fn client(number: u8) -> Client {
    Client::at([192, 0, 2, number].into())
}

fn poll<T>(future: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Takes one after the other until it has to wait.
fn take_all(shares: &Shares, client: Client) -> Vec<Share> {
    std::iter::from_fn(|| shares.try_take(client, 1)).collect()
}

#[test]
fn clients_that_wait_are_served_by_turns() {
    let shares = Shares::by_turns(1);
    let held = shares.try_take(client(1), 1).unwrap();
    let mut of_one = [(); 3].map(|()| Box::pin(shares.take(client(1), 1)));
    assert!(of_one.iter_mut().all(|future| poll(future.as_mut()).is_none()));
    let mut of_two = pin!(shares.take(client(2), 1));
    assert!(poll(of_two.as_mut()).is_none());
    assert_eq!(shares.waiting(), 4);
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

#[test]
fn a_client_alone_has_half_of_what_is_kept_and_all_of_what_is_not() {
    assert_eq!(take_all(&Shares::by_turns(16), client(1)).len(), 16);
    let shares = Shares::kept(16);
    let held = [1, 2, 3, 4, 5].map(|number| take_all(&shares, client(number)));
    assert_eq!(held.each_ref().map(Vec::len), [8, 4, 2, 1, 1]);
    drop(held);
    assert_eq!(take_all(&shares, Client::Proxy).len(), 16);
    for total in 1..4 {
        assert!(!take_all(&Shares::kept(total), client(1)).is_empty(), "{total}");
    }
}

#[test]
fn a_client_that_has_its_share_is_not_in_the_way_of_others() {
    let shares = Shares::kept(4);
    let held = take_all(&shares, client(1));
    let mut greedy = pin!(shares.take(client(1), 1));
    assert!(poll(greedy.as_mut()).is_none());
    assert!(shares.try_take(client(2), 1).is_some());
    drop(held);
    assert!(poll(greedy.as_mut()).is_some());
}

#[test]
fn whoever_needs_much_is_not_overtaken_by_those_who_need_little() {
    let shares = Shares::by_turns(4);
    let held = shares.try_take(client(1), 3).unwrap();
    let mut large = pin!(shares.take(client(2), 9));
    assert!(poll(large.as_mut()).is_none());
    assert!(shares.try_take(client(3), 1).is_none());
    drop(held);
    // All that there is.
    let all = poll(large.as_mut()).unwrap();
    assert!(shares.try_take(client(3), 1).is_none());
    drop(all);
    assert!(shares.try_take(client(3), 1).is_some());
}

#[test]
fn what_is_for_several_clients_has_the_turn_of_the_first() {
    let shares = Shares::by_turns(1);
    let held = shares.try_take(client(1), 1).unwrap();
    let mut others = [(); 3].map(|()| Box::pin(shares.take(client(1), 1)));
    assert!(others.iter_mut().all(|future| poll(future.as_mut()).is_none()));
    let (join, joining) = mpsc::unbounded_channel();
    let mut together = pin!(shares.take_for_any(joining, 1));
    join.send(client(1)).unwrap();
    assert!(poll(together.as_mut()).is_none());
    join.send(client(2)).unwrap();
    join.send(client(2)).unwrap();
    assert!(poll(together.as_mut()).is_none());
    assert_eq!(shares.waiting(), 5);
    drop(held);
    drop(poll(others[0].as_mut()).unwrap());
    assert!(poll(together.as_mut()).is_some());
}

#[test]
fn whoever_stops_waiting_makes_way_and_is_forgotten() {
    let shares = Shares::by_turns(4);
    let held = shares.try_take(client(1), 3).unwrap();
    let mut large = Box::pin(shares.take(client(2), 4));
    assert!(poll(large.as_mut()).is_none());
    let mut small = pin!(shares.take(client(3), 1));
    assert!(poll(small.as_mut()).is_none());
    drop(large);
    assert!(poll(small.as_mut()).is_some());
    drop(held);
    assert_eq!((shares.waiting(), shares.free()), (0, 4));
    assert!(shares.state().clients.is_empty());
}

proptest! {
    /// Whatever happens in whatever order, nothing is given twice, nothing is lost, and nobody waits for what is free.
    #[test]
    fn nothing_is_lost(steps in prop::collection::vec((0_u8..4, 1_usize..6, any::<bool>()), 1..200), kept: bool) {
        let shares = Shares::new(8, kept);
        let mut takes: Vec<Pin<Box<dyn Future<Output = Share> + '_>>> = Vec::new();
        let mut held = Vec::new();
        for (number, amount, is_take) in steps {
            if is_take {
                takes.push(Box::pin(shares.take(client(number), amount)));
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
            let taken: usize = held.iter().map(|share: &Share| share.amount).sum();
            prop_assert_eq!(shares.free() + taken, 8);
            prop_assert!(!held.is_empty() || takes.is_empty());
        }
        takes.clear();
        held.clear();
        let state = shares.state();
        prop_assert!(state.free == 8 && state.clients.is_empty() && state.turns.is_empty());
    }
}
