//! A proxy that breaks downloads of NARs as networks do, and remembers what was asked.
//!
//! One request a connection; all but the faults passes unchanged.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What happens to a download instead of its success.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    /// After this many bytes of the response the connection is cut.
    Cut(u64),
    /// A 503 with `Accept-Ranges`, as harmonia gives it.
    Unavailable,
}

/// The proxy; its threads end with the test binary.
pub(crate) struct Proxy {
    address: SocketAddr,
    plan: Arc<Plan>,
}

struct Plan {
    upstream: SocketAddr,
    faults: Mutex<VecDeque<Fault>>,
    /// The `Range` of each request for a NAR, in order.
    ranges: Mutex<Vec<Option<String>>>,
}

impl Proxy {
    /// A proxy whose first downloads meet these faults, in turn.
    pub(crate) fn new(upstream: SocketAddr, faults: &[Fault]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let plan =
            Arc::new(Plan { upstream, faults: Mutex::new(faults.iter().copied().collect()), ranges: Mutex::default() });
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

    /// The `Range` of each request for a NAR so far, in order.
    pub(crate) fn ranges(&self) -> Vec<Option<String>> {
        self.plan.ranges.lock().unwrap().clone()
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
        let fault = if head.starts_with("GET /nar/") { self.fault(&head) } else { None };
        if let Some(Fault::Unavailable) = fault {
            let answer = "HTTP/1.1 503 Service Unavailable\r\nAccept-Ranges: bytes\r\nContent-Length: 0\r\n\
                          Connection: close\r\n\r\n";
            return client.write_all(answer.as_bytes());
        }
        let upstream = TcpStream::connect(self.upstream)?;
        let (request_line, fields) = head.split_once("\r\n").unwrap_or((&head, ""));
        (&upstream).write_all(format!("{request_line}\r\nConnection: close\r\n{fields}").as_bytes())?;
        let limit = if let Some(Fault::Cut(limit)) = fault { limit } else { u64::MAX };
        io::copy(&mut upstream.take(limit), &mut client)?;
        Ok(())
    }

    fn fault(&self, head: &str) -> Option<Fault> {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        let range = lines.find(|(name, _)| name.eq_ignore_ascii_case("range")).map(|(_, range)| range.to_owned());
        self.ranges.lock().unwrap().push(range);
        self.faults.lock().unwrap().pop_front()
    }
}
