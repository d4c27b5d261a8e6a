//! A proxy that breaks downloads of NARs as networks do, and remembers what was asked.
//!
//! One request a connection; all but the faults passes unchanged.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// Size of a forwarded piece, in bytes.
const PIECE: usize = 64 << 10;

/// Way in which a download fails.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    /// After this many bytes of the response the connection is cut.
    Cut(u64),
    /// A 502 with `Accept-Ranges`, as harmonia gives it.
    Unavailable,
}

/// Proxy whose threads end with the test binary.
pub(crate) struct Proxy {
    address: SocketAddr,
    plan: Arc<Plan>,
}

struct Plan {
    upstream: Mutex<SocketAddr>,
    faults: Mutex<VecDeque<Fault>>,
    /// `Range` of each request for a NAR, in order.
    ranges: Mutex<Vec<Option<String>>>,
    /// Signalled at each such request.
    queries: Condvar,
    /// Bytes of the responses to them that were passed on, heads included.
    sent: AtomicU64,
}

impl Proxy {
    /// Starts a proxy whose first downloads fail in these ways, in order.
    pub(crate) fn new(upstream: SocketAddr, faults: &[Fault]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let plan = Arc::new(Plan {
            upstream: Mutex::new(upstream),
            faults: Mutex::new(faults.iter().copied().collect()),
            ranges: Mutex::default(),
            queries: Condvar::new(),
            sent: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&plan);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let plan = Arc::clone(&accepting);
                // What fails is the client's to notice.
                thread::spawn(move || plan.relay(client).ok());
            }
        });
        Self { address, plan }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the `Range` of each request for a NAR so far, in order.
    pub(crate) fn ranges(&self) -> Vec<Option<String>> {
        self.plan.ranges.lock().unwrap().clone()
    }

    /// Waits for the request for a NAR that follows this many others.
    pub(crate) fn wait_for_request(&self, nth: usize) {
        let ranges = self.plan.ranges.lock().unwrap();
        drop(self.plan.queries.wait_while(ranges, |ranges| ranges.len() <= nth).unwrap());
    }

    /// Forwards further requests to another server.
    pub(crate) fn redirect(&self, upstream: SocketAddr) {
        *self.plan.upstream.lock().unwrap() = upstream;
    }

    /// Returns how many bytes of NARs were forwarded to clients, heads of responses included.
    pub(crate) fn sent(&self) -> u64 {
        self.plan.sent.load(Ordering::Relaxed)
    }
}

impl Plan {
    fn relay(&self, client: TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(client.try_clone()?);
        let mut client = client;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let is_nar = head.starts_with("GET /nar/");
        let fault = if is_nar { self.fault(&head) } else { None };
        if let Some(Fault::Unavailable) = fault {
            let answer = "HTTP/1.1 502 Bad Gateway\r\nAccept-Ranges: bytes\r\nContent-Length: 0\r\n\
                          Connection: close\r\n\r\n";
            return client.write_all(answer.as_bytes());
        }
        let upstream = TcpStream::connect(*self.upstream.lock().unwrap())?;
        let (request_line, fields) = head.split_once("\r\n").unwrap_or((&head, ""));
        (&upstream).write_all(format!("{request_line}\r\nConnection: close\r\n{fields}").as_bytes())?;
        let limit = if let Some(Fault::Cut(limit)) = fault { limit } else { u64::MAX };
        let mut response = BufReader::with_capacity(PIECE, upstream.take(limit));
        loop {
            let piece = response.fill_buf()?;
            let length = piece.len();
            if length == 0 {
                return Ok(());
            }
            client.write_all(piece)?;
            response.consume(length);
            // Piece by piece: a server that is killed ends this with an error.
            if is_nar {
                self.sent.fetch_add(length as u64, Ordering::Relaxed);
            }
        }
    }

    fn fault(&self, head: &str) -> Option<Fault> {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        let range = lines.find(|(name, _)| name.eq_ignore_ascii_case("range")).map(|(_, range)| range.to_owned());
        self.ranges.lock().unwrap().push(range);
        self.queries.notify_all();
        self.faults.lock().unwrap().pop_front()
    }
}
