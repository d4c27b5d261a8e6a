//! A proxy before an object store that fails requests as networks and servers do, and records all of them.
//!
//! One request a connection. Heads pass unchanged but for `Connection`, since signatures cover `Host`: the server sees the
//! proxy's address there, and presigned URLs lead to the proxy.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use super::s3::elements;
use super::s3_request::{Kind, S3Request, head_with_length};

/// Size of a forwarded piece, in bytes.
const PIECE: usize = 64 << 10;
/// Upper bound of the wait for an event: a failing test must end.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Upper bound of a request's head, in bytes.
const MAX_HEAD: u64 = 64 << 10;

/// Way in which a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection is closed before an answer.
    Refuse,
    /// 503 with the code `SlowDown`.
    SlowDown,
    /// 403 with the code `AccessDenied`.
    Forbid,
    /// The answer comes later.
    Delay(Duration),
    /// The connection is closed after this many bytes of the request's body, of which the server stores nothing.
    CutRequest(u64),
    /// The server stores this many bytes of the request's body, and says that all is well.
    StoreShort(u64),
    /// The server does what it was asked for, and its answer is lost.
    LoseAnswer,
    /// The connection is closed after this many bytes of the answer's body.
    CutAnswer(u64),
    /// The byte of the answer's body at this place is another one.
    Corrupt(u64),
}

/// Requests that fail.
#[derive(Debug)]
struct Rule {
    method: &'static str,
    kind: Option<Kind>,
    /// The object, or any.
    key: Option<String>,
    /// Whether only requests that hosts have signed for themselves fail, and not those of redirected clients.
    is_of_hosts: bool,
    fault: Fault,
    /// How many more; `None` for all.
    times: Option<usize>,
}

#[derive(Default)]
struct State {
    requests: Vec<S3Request>,
    rules: Vec<Rule>,
    /// Writes that may still pass; those after them wait, and are then dropped.
    writes_left: Option<usize>,
    held: usize,
    /// Keys that lists lack: those written since lists are stale.
    unlisted: Option<BTreeSet<String>>,
}

struct Shared {
    upstream: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

/// Proxy whose threads end with the test binary.
pub(crate) struct S3Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl S3Proxy {
    /// Starts a proxy that passes everything.
    pub(crate) fn new(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { upstream, state: Mutex::default(), changed: Condvar::new() });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&accepting);
                // What fails is the client's to notice.
                thread::spawn(move || shared.relay(client).ok());
            }
        });
        Self { address, shared }
    }

    /// Returns the TCP address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Fails further requests with this method, or any if it is empty, of this kind or any: all of them, or only so many.
    pub(crate) fn fail(
        &self,
        method: &'static str,
        kind: impl Into<Option<Kind>>,
        fault: Fault,
        times: impl Into<Option<usize>>,
    ) {
        let rule = Rule { method, kind: kind.into(), key: None, is_of_hosts: false, fault, times: times.into() };
        self.shared.state.lock().unwrap().rules.push(rule);
    }

    /// Fails further requests with this method for the object with this key.
    pub(crate) fn fail_key(&self, method: &'static str, key: String, fault: Fault) {
        let rule = Rule { method, kind: None, key: Some(key), is_of_hosts: false, fault, times: None };
        self.shared.state.lock().unwrap().rules.push(rule);
    }

    /// Corrupts a byte of all objects but for clients that were redirected, who check them themselves.
    pub(crate) fn corrupt_unless_presigned(&self, at: u64) {
        let rule =
            Rule { method: "GET", kind: None, key: None, is_of_hosts: true, fault: Fault::Corrupt(at), times: None };
        self.shared.state.lock().unwrap().rules.push(rule);
    }

    /// Passes everything again, and lists everything. Writes that were held are dropped.
    pub(crate) fn heal(&self) {
        let mut state = self.shared.state.lock().unwrap();
        let requests = std::mem::take(&mut state.requests);
        *state = State { requests, ..State::default() };
        self.shared.changed.notify_all();
    }

    /// Passes so many further writes; the others wait, and are dropped by [`Self::heal`].
    pub(crate) fn hold_after_writes(&self, writes: usize) {
        self.shared.state.lock().unwrap().writes_left = Some(writes);
    }

    /// Waits until a write is held; returns false if this holds first.
    pub(crate) fn wait_until_held_or(&self, is_over: impl Fn() -> bool) -> bool {
        let mut state = self.shared.state.lock().unwrap();
        while state.held == 0 && !is_over() {
            state = self.shared.changed.wait_timeout(state, Duration::from_millis(20)).unwrap().0;
        }
        state.held > 0
    }

    /// Leaves out of lists what is written through any of these proxies from now on.
    pub(crate) fn freeze_lists(&self) {
        self.shared.state.lock().unwrap().unlisted = Some(BTreeSet::new());
    }

    /// Leaves these keys out of lists, which begin with the bucket's prefix.
    pub(crate) fn hide_from_lists(&self, keys: impl IntoIterator<Item = String>) {
        self.shared.state.lock().unwrap().unlisted.get_or_insert_default().extend(keys);
    }

    /// Returns the requests so far, in the order of their answers.
    pub(crate) fn requests(&self) -> Vec<S3Request> {
        self.shared.state.lock().unwrap().requests.clone()
    }

    /// Forgets the requests so far.
    pub(crate) fn forget(&self) {
        self.shared.state.lock().unwrap().requests.clear();
    }

    /// Returns the number of requests so far with this method, or any if it is empty, of this kind or any.
    pub(crate) fn count(&self, method: &str, kind: impl Into<Option<Kind>>) -> usize {
        let kind = kind.into();
        self.requests().iter().filter(|request| request.is(method, kind)).count()
    }

    /// Returns the bytes of NARs that were sent to the server so far, in requests that succeeded or not.
    pub(crate) fn nar_bytes_sent(&self) -> u64 {
        self.requests().iter().filter(|request| request.kind == Kind::Nar).map(|request| request.sent).sum()
    }

    /// Waits for the request after which this holds of all of them; panics after a timeout.
    pub(crate) fn wait_until(&self, what: &str, holds: impl Fn(&[S3Request]) -> bool) {
        let state = self.shared.state.lock().unwrap();
        let waiting = |state: &mut State| !holds(&state.requests);
        let (state, timeout) = self.shared.changed.wait_timeout_while(state, TIMEOUT, waiting).unwrap();
        let requests = state.requests.len();
        drop(state);
        assert!(!timeout.timed_out(), "{what} never comes, in {requests} requests");
    }
}

impl Drop for S3Proxy {
    fn drop(&mut self) {
        // Frees the threads of writes that are held.
        self.heal();
    }
}

impl Shared {
    fn relay(&self, client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut reader = BufReader::new(client.try_clone()?);
        let head = read_head(&mut reader)?;
        let Some(mut request) = S3Request::parse(&head) else { return Ok(()) };
        if !self.may_pass(&request) {
            return client.shutdown(Shutdown::Both);
        }
        let fault = self.fault(&request);
        let result = self.exchange(&mut request, &head, reader, client, fault);
        self.record(&request);
        result
    }

    /// Records a request, again when more is known of it.
    fn record(&self, request: &S3Request) {
        let mut state = self.state.lock().unwrap();
        match state.requests.iter_mut().rev().find(|other| other.number == request.number) {
            Some(recorded) => *recorded = request.clone(),
            None => state.requests.push(request.clone()),
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits while writes are held; returns false for those that are dropped.
    fn may_pass(&self, request: &S3Request) -> bool {
        if !request.is_write() {
            return true;
        }
        let mut state = self.state.lock().unwrap();
        match &mut state.writes_left {
            Some(0) => {}
            left => {
                if let Some(left) = left {
                    *left -= 1;
                }
                if let Some(unlisted) = &mut state.unlisted {
                    unlisted.insert(request.key.clone());
                }
                return true;
            }
        }
        state.held += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| state.writes_left.is_some()).unwrap());
        false
    }

    fn fault(&self, request: &S3Request) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        let fails = |rule: &Rule| {
            request.is(rule.method, rule.kind)
                && rule.key.as_ref().is_none_or(|key| *key == request.key)
                && !(rule.is_of_hosts && request.is_presigned())
        };
        let at = state.rules.iter().position(fails)?;
        let rule = &mut state.rules[at];
        let fault = rule.fault;
        if let Some(times) = &mut rule.times {
            *times -= 1;
            if *times == 0 {
                state.rules.remove(at);
            }
        }
        Some(fault)
    }

    fn exchange(
        &self,
        request: &mut S3Request,
        head: &str,
        mut body: impl Read,
        mut client: TcpStream,
        fault: Option<Fault>,
    ) -> io::Result<()> {
        match fault {
            Some(Fault::Refuse) => return client.shutdown(Shutdown::Both),
            Some(fault @ (Fault::SlowDown | Fault::Forbid)) => {
                io::copy(&mut body.take(request.length), &mut io::sink())?;
                let (status, code) = if fault == Fault::Forbid { (403, "AccessDenied") } else { (503, "SlowDown") };
                request.status = status;
                self.record(request);
                return client.write_all(error(status, code).as_bytes());
            }
            Some(Fault::Delay(time)) => thread::sleep(time),
            _ => {}
        }
        let upstream = TcpStream::connect(self.upstream)?;
        upstream.set_nodelay(true)?;
        let stored = match fault {
            Some(Fault::StoreShort(bytes)) => bytes.min(request.length),
            _ => request.length,
        };
        let passed = match fault {
            Some(Fault::CutRequest(bytes)) => bytes.min(request.length),
            _ => stored,
        };
        (&upstream).write_all(head_with_length(head, stored).as_bytes())?;
        request.sent = io::copy(&mut body.by_ref().take(passed), &mut &upstream)?;
        if let Some(Fault::CutRequest(_)) = fault {
            return client.shutdown(Shutdown::Both);
        }
        io::copy(&mut body.take(request.length - passed), &mut io::sink())?;
        let mut answer = BufReader::with_capacity(PIECE, upstream);
        let head = read_head(&mut answer)?;
        request.status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_default();
        if let Some(Fault::LoseAnswer) = fault {
            return client.shutdown(Shutdown::Both);
        }
        // Before its answer: who has that may count.
        self.record(request);
        let unlisted = self.state.lock().unwrap().unlisted.clone();
        if let (Kind::List, Some(unlisted)) = (request.kind, unlisted) {
            return list_without(&unlisted, &mut answer, &mut client);
        }
        client.write_all(head.as_bytes())?;
        let limit = if let Some(Fault::CutAnswer(limit)) = fault { limit } else { u64::MAX };
        pass(&mut answer.take(limit), &mut client, &mut request.received, fault)?;
        client.shutdown(Shutdown::Both)
    }
}

/// Passes bytes piece by piece, and counts those that were passed.
fn pass(from: &mut impl io::BufRead, to: &mut TcpStream, passed: &mut u64, fault: Option<Fault>) -> io::Result<()> {
    loop {
        let mut piece = from.fill_buf()?.to_vec();
        if piece.is_empty() {
            return Ok(());
        }
        from.consume(piece.len());
        if let Some(Fault::Corrupt(at)) = fault {
            let place = at.checked_sub(*passed).and_then(|at| usize::try_from(at).ok());
            if let Some(byte) = place.and_then(|at| piece.get_mut(at)) {
                *byte ^= 1;
            }
        }
        to.write_all(&piece)?;
        *passed += piece.len() as u64;
    }
}

/// Answers with the list that the server gave, without these keys.
fn list_without(unlisted: &BTreeSet<String>, answer: &mut impl Read, client: &mut TcpStream) -> io::Result<()> {
    let mut body = String::new();
    answer.read_to_string(&mut body)?;
    // A body in chunks has their sizes before and after; those are no part of the elements.
    let mut kept = String::new();
    for (number, part) in body.split("<Contents>").enumerate() {
        let is_kept = elements(part, "Key").first().is_none_or(|key| !unlisted.contains(key));
        let (contents, rest) = part.split_once("</Contents>").map_or(("", part), |(contents, rest)| (contents, rest));
        if number > 0 && is_kept {
            kept.push_str(&["<Contents>", contents, "</Contents>"].concat());
        }
        kept.push_str(rest);
    }
    let begin = kept.find('<').unwrap_or_default();
    let end = kept.rfind('>').map_or(0, |end| end + 1);
    let body = &kept[begin..end];
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    client.write_all([&head, body].concat().as_bytes())
}

fn error(status: u16, code: &str) -> String {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>As the test asks.</Message></Error>");
    format!(
        "HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn read_head(reader: &mut impl io::BufRead) -> io::Result<String> {
    let mut head = String::new();
    let mut reader = reader.take(MAX_HEAD);
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}
