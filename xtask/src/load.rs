//! Load generator for `tests/bench`: sends requests over persistent connections and measures them.
//!
//! ```text
//! cargo xtask load [--requests N] [--field 'Name: value']... ADDRESS CONNECTIONS < targets
//! ```
//!
//! Each line of standard input is a request target. Targets are requested in order, once each, or repeatedly until N
//! responses have come. The result is one line of JSON. A response other than 200 and 206, or one that ends early, is an
//! error: nothing is measured that a client could not use.
//!
//! Bodies are read and dropped. A single thread makes as few system calls as possible, so that the server is what is
//! measured.

use std::cell::RefCell;
use std::error::Error;
use std::io::{self, BufRead as _};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Buf as _, BytesMut};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// Bytes per read.
const READ: usize = 256 << 10;
/// Longest head of a response, in bytes.
const MAX_HEAD: usize = 64 << 10;

type Failure = Box<dyn Error>;

/// Reads the targets from standard input, requests them and prints the measurements.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> Result<(), Failure> {
    let options = Options::parse(arguments)?;
    let targets = io::stdin().lock().lines().collect::<io::Result<Vec<_>>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let result = LocalSet::new().block_on(&runtime, measure(options, targets))?;
    println(&result.to_string());
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the result goes to standard output")]
fn println(text: &str) {
    println!("{text}");
}

struct Options {
    address: String,
    connections: usize,
    requests: Option<usize>,
    fields: String,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let usage = "usage: cargo xtask load [--requests N] [--field 'Name: value']... ADDRESS CONNECTIONS < targets";
        let (mut requests, mut fields) = (None, String::new());
        let mut rest = Vec::new();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--requests" => requests = Some(arguments.next().ok_or(usage)?.parse()?),
                "--field" => fields += &(arguments.next().ok_or(usage)? + "\r\n"),
                _ => rest.push(argument),
            }
        }
        let [address, connections] = &rest[..] else { return Err(usage.into()) };
        Ok(Self { address: address.clone(), connections: connections.parse()?, requests, fields })
    }
}

/// Requests that remain, and measurements so far.
struct Work {
    requests: Vec<Vec<u8>>,
    next: usize,
    end: usize,
    body_bytes: u64,
    wire_bytes: u64,
    latencies: Vec<Duration>,
}

async fn measure(options: Options, targets: Vec<String>) -> Result<serde_json::Value, Failure> {
    let Options { address, connections, requests, fields } = options;
    let request = |target: &String| format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n").into_bytes();
    let requests_made: Vec<_> = targets.iter().map(request).collect();
    let end = requests.unwrap_or(requests_made.len());
    if requests_made.is_empty() {
        return Err("there are no targets".into());
    }
    let latencies = Vec::with_capacity(end);
    let work = Work { requests: requests_made, next: 0, end, body_bytes: 0, wire_bytes: 0, latencies };
    let work = Rc::new(RefCell::new(work));
    let mut sockets = Vec::new();
    for _ in 0..connections {
        let socket = TcpStream::connect(&address).await?;
        socket.set_nodelay(true)?;
        sockets.push(socket);
    }
    let began = Instant::now();
    let clients: Vec<_> =
        sockets.into_iter().map(|socket| tokio::task::spawn_local(client(socket, Rc::clone(&work)))).collect();
    for client in clients {
        client.await?.map_err(|error| error.to_string())?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let mut work = work.borrow_mut();
    work.latencies.sort_unstable();
    let quantile = |part: usize| {
        let index = (work.latencies.len() * part / 100).min(work.latencies.len().saturating_sub(1));
        work.latencies.get(index).map_or(0.0, |latency| latency.as_secs_f64() * 1e6)
    };
    Ok(json!({
        "requests": work.latencies.len(),
        "seconds": seconds,
        "body_bytes": work.body_bytes,
        "wire_bytes": work.wire_bytes,
        "median_us": quantile(50),
        "p99_us": quantile(99),
    }))
}

/// Sends one request after another on a connection until none remains.
async fn client(socket: TcpStream, work: Rc<RefCell<Work>>) -> Result<(), Failure> {
    let mut connection = Connection { socket, incoming: BytesMut::with_capacity(READ), received: 0 };
    loop {
        let request = {
            let mut work = work.borrow_mut();
            if work.next == work.end {
                return Ok(());
            }
            let index = work.next % work.requests.len();
            work.next += 1;
            work.requests[index].clone()
        };
        let began = Instant::now();
        connection.socket.write_all(&request).await?;
        let length = connection.response().await;
        let length = length.map_err(|error| {
            format!("{}: {error}", String::from_utf8_lossy(&request).lines().next().unwrap_or_default())
        })?;
        let mut work = work.borrow_mut();
        work.latencies.push(began.elapsed());
        work.body_bytes += length;
        work.wire_bytes += std::mem::take(&mut connection.received);
    }
}

struct Connection {
    socket: TcpStream,
    incoming: BytesMut,
    /// Bytes received since the last request was counted.
    received: u64,
}

impl Connection {
    async fn fill(&mut self) -> Result<(), Failure> {
        self.incoming.reserve(READ);
        match self.socket.read_buf(&mut self.incoming).await? {
            0 => Err("the connection was closed".into()),
            read => {
                self.received += read as u64;
                Ok(())
            }
        }
    }

    /// Reads one response to its end; returns the length of its body in bytes.
    async fn response(&mut self) -> Result<u64, Failure> {
        let head = self.until(b"\r\n\r\n").await?;
        let head = String::from_utf8(head)?.to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap_or_default();
        if status != "200" && status != "206" {
            return Err(format!("status {status}").into());
        }
        let field = |name: &str| head.lines().find_map(|line| Some(line.strip_prefix(name)?.trim()));
        if let Some(length) = field("content-length:") {
            let length = length.parse()?;
            self.skip(length).await?;
            return Ok(length);
        }
        if field("transfer-encoding:") != Some("chunked") {
            return Err("a body without a length".into());
        }
        let mut total = 0;
        loop {
            let size = self.until(b"\r\n").await?;
            let size = std::str::from_utf8(&size)?.trim();
            let size = u64::from_str_radix(size.split(';').next().unwrap_or_default(), 16)?;
            // The line ending after the chunk; harmonia and nginx send no trailers.
            self.skip(size + 2).await?;
            if size == 0 {
                return Ok(total);
            }
            total += size;
        }
    }

    /// Reads up to and including `mark`.
    async fn until(&mut self, mark: &[u8]) -> Result<Vec<u8>, Failure> {
        loop {
            if let Some(at) = self.incoming.windows(mark.len()).position(|bytes| bytes == mark) {
                return Ok(self.incoming.split_to(at + mark.len()).to_vec());
            }
            if self.incoming.len() > MAX_HEAD {
                return Err("a head without an end".into());
            }
            self.fill().await?;
        }
    }

    async fn skip(&mut self, mut length: u64) -> Result<(), Failure> {
        loop {
            let now = usize::try_from(length).unwrap_or(usize::MAX).min(self.incoming.len());
            self.incoming.advance(now);
            length -= now as u64;
            if length == 0 {
                return Ok(());
            }
            self.fill().await?;
        }
    }
}
