//! Reads and refusals that are alike within a minute are one line.
//!
//! The table is bounded: if it is full, the oldest line is written early. A client without valid credentials cannot make more than
//! a line per minute and reason from one network, whatever it requests.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::event::{Event, Kind, Object, Response};
use super::line::Repeats;
use crate::fairness::ClientId;

/// Time in which events that are alike are one line, from the first of them.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// Lines that are collected at a time, of some 500 bytes each.
const MAX_LINES: usize = 4096;
/// Status of a response to a client whose credentials are valid, but do not suffice.
const FORBIDDEN: u16 = 403;

/// Lines that are being collected.
#[derive(Debug, Default)]
pub(super) struct Coalescer {
    lines: HashMap<Arc<Key>, Collected>,
    /// Keys by the age of their lines, the oldest first.
    order: VecDeque<Arc<Key>>,
}

/// Fields that are equal in events that share a line.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    kind: Kind,
    principal: Box<str>,
    /// A network where the address is that of a stranger, who may have many.
    client: Client,
    /// `None` where the object is chosen by a stranger.
    object: Option<Object>,
    refusal: Option<(u16, Option<Box<str>>)>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Client {
    Address(Option<std::net::IpAddr>),
    Network(Option<ClientId>),
}

/// A line that is being collected.
#[derive(Debug)]
pub(super) struct Collected {
    began: Instant,
    /// The first event, with the bytes of all.
    pub(super) event: Event,
    pub(super) repeats: Repeats,
}

impl Coalescer {
    /// Returns whether events of this kind are collected.
    pub(super) const fn collects(kind: Kind) -> bool {
        matches!(kind, Kind::Read | Kind::Refused)
    }

    /// Adds an event. Returns the oldest line if there are too many.
    pub(super) fn add(&mut self, event: Event, now: Instant) -> Option<Collected> {
        let response = event.response.as_ref()?;
        let key = key(event.kind, response);
        if let Some(line) = self.lines.get_mut(&key) {
            line.repeats = Repeats { count: line.repeats.count + 1, last: event.at };
            let bytes = response.bytes;
            if let Some(sum) = &mut line.event.response {
                sum.bytes = sum.bytes.saturating_add(bytes);
            }
            return None;
        }
        let oldest = if self.order.len() >= MAX_LINES { self.take_oldest() } else { None };
        let key = Arc::new(key);
        self.order.push_back(Arc::clone(&key));
        let repeats = Repeats { count: 1, last: event.at };
        self.lines.insert(key, Collected { began: now, event, repeats });
        oldest
    }

    /// Returns a line whose time is over, if there is one.
    pub(super) fn take_expired(&mut self, now: Instant) -> Option<Collected> {
        let oldest = self.lines.get(self.order.front()?)?;
        if now.saturating_duration_since(oldest.began) < WINDOW {
            return None;
        }
        self.take_oldest()
    }

    /// Returns the oldest line.
    pub(super) fn take_oldest(&mut self) -> Option<Collected> {
        let key = self.order.pop_front()?;
        self.lines.remove(&key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

fn key(kind: Kind, response: &Response) -> Key {
    let request = &response.request;
    let is_stranger = kind == Kind::Refused && response.status != FORBIDDEN;
    Key {
        kind,
        principal: request.principal.clone(),
        client: if is_stranger {
            Client::Network(request.address.map(ClientId::from_addr))
        } else {
            Client::Address(request.address)
        },
        object: (!is_stranger).then(|| request.object.clone()),
        refusal: (kind == Kind::Refused).then(|| (response.status, response.reason.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::AuditedRequest;
    use super::*;

    fn event(kind: Kind, principal: &str, address: &str, url: &str, status: u16) -> Event {
        let request = AuditedRequest::new(principal, Some(address.parse().unwrap()), Object::url(url), "id");
        Event::of_request(kind, request, status, 10, (kind == Kind::Refused).then_some("wrong user or password"))
    }

    fn read(principal: &str, address: &str, url: &str) -> Event {
        event(Kind::Read, principal, address, url, 200)
    }

    fn counts(coalescer: &mut Coalescer) -> Vec<(u64, u64)> {
        std::iter::from_fn(|| coalescer.take_oldest())
            .map(|line| (line.repeats.count, line.event.response.unwrap().bytes))
            .collect()
    }

    #[test]
    fn reads_of_one_path_by_one_principal_from_one_address_are_one_line_for_a_minute() {
        let (mut table, start) = (Coalescer::default(), Instant::now());
        for event in [
            read("user:alice", "192.0.2.1", "/a"),
            read("user:alice", "192.0.2.1", "/b"),
            read("user:alice", "192.0.2.1", "/a"),
            read("user:alice", "192.0.2.2", "/a"),
            read("user:bob", "192.0.2.1", "/a"),
            event(Kind::Read, "user:alice", "192.0.2.1", "/a", 206),
        ] {
            assert!(table.add(event, start).is_none());
        }
        assert!(table.take_expired(start + WINDOW / 2).is_none());
        let first = table.take_expired(start + WINDOW).unwrap();
        assert_eq!((first.repeats.count, first.event.response.unwrap().bytes), (3, 30));
        assert_eq!(counts(&mut table), [(1, 10); 3]);
        assert!(table.is_empty() && table.lines.is_empty());
    }

    #[test]
    fn a_stranger_makes_one_line_per_network_and_others_one_per_object() {
        let (mut table, now) = (Coalescer::default(), Instant::now());
        for number in 0..50 {
            let url = format!("/{number}");
            table.add(event(Kind::Refused, "anonymous", &format!("2001:db8::{number}"), &url, 401), now);
            table.add(event(Kind::Refused, "anonymous", "192.0.2.1", &url, 401), now);
        }
        assert_eq!(counts(&mut table), [(50, 500); 2]);
        for status in [400, 429, 503] {
            for number in 0..50 {
                table.add(event(Kind::Refused, "anonymous", "192.0.2.1", &format!("/{number}"), status), now);
            }
        }
        assert_eq!(counts(&mut table), [(50, 500); 3]);
        for url in ["/a", "/b", "/a"] {
            table.add(event(Kind::Refused, "user:alice", "192.0.2.1", url, 403), now);
        }
        assert_eq!(counts(&mut table), [(2, 20), (1, 10)]);
    }

    #[test]
    fn a_full_table_writes_its_oldest_line_early() {
        let (mut table, now) = (Coalescer::default(), Instant::now());
        for number in 0..MAX_LINES {
            assert!(table.add(read("user:alice", "192.0.2.1", &format!("/{number}")), now).is_none());
        }
        for number in 0..10 {
            let early = table.add(read("user:alice", "192.0.2.1", &format!("/new/{number}")), now).unwrap();
            assert_eq!(early.event.response.unwrap().request.object, Object::url(&format!("/{number}")));
            assert_eq!((table.lines.len(), table.order.len()), (MAX_LINES, MAX_LINES));
        }
    }
}
