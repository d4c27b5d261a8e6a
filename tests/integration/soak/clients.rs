//! HTTP/1.1 clients of all kinds that check every response against the real state of the store.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::World;
use super::truth::{Then, TruePath};
use crate::support::dice::Dice;
use crate::support::http::{Connection, Response};
use crate::support::nar_cache::decoded;
use crate::support::narinfo::value;

/// Pause between attempts to connect.
pub(super) const PAUSE: Duration = Duration::from_millis(20);
/// Pause between the reads of a slow client.
const SLOWNESS: Duration = Duration::from_millis(3);

/// Counts of requests by outcome.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Correct complete bodies: narinfos, NARs, compressed NARs, ranges of either.
    pub(super) right: AtomicU64,
    pub(super) bytes: AtomicU64,
    /// 404 for paths that were or may have been invalid.
    pub(super) not_found: AtomicU64,
    pub(super) unavailable: AtomicU64,
    /// Truncated bodies and aborted connections.
    pub(super) cut: AtomicU64,
    pub(super) unreachable: AtomicU64,
    /// Downloads that the client aborted.
    pub(super) left: AtomicU64,
    pub(super) copies: AtomicU64,
    pub(super) failed_copies: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Client that keeps its connection.
pub(super) struct Visitor<'w> {
    world: &'w World,
    dice: Dice,
    connection: Option<Connection>,
}

impl<'w> Visitor<'w> {
    pub(super) fn new(world: &'w World, dice: Dice) -> Self {
        Self { world, dice, connection: None }
    }

    /// Sends a random request.
    pub(super) fn visit(&mut self) {
        let path = self.dice.pick(&self.world.paths);
        match self.dice.below(10) {
            0 | 1 => drop(self.narinfo(path)),
            2 | 3 => self.nar(path),
            4 | 5 => self.compressed_nar(path),
            6 => self.part(path),
            7 => self.part_of_compressed(path),
            8 => self.slowly(path),
            _ => self.leave(path),
        }
        if self.dice.one_in(20) {
            self.connection = None;
        }
    }

    /// Requests a narinfo; `None` without a usable response.
    pub(super) fn narinfo(&mut self, path: &TruePath) -> Option<String> {
        let then = path.now();
        let response = self.ask(&path.narinfo_url(), &[])?;
        if !self.is_had(path, then, &response, &path.narinfo_url()) {
            return None;
        }
        let text = response.text();
        assert!(path.is_told_by(text), "{} is described as:\n{text}", path.path);
        self.right(&response);
        if path.invalid_since(then) {
            // The daemon may have said so before the path went, to somebody who asked then; but not to who asks now.
            let again = self.ask(&path.narinfo_url(), &[]);
            let is_a_lie = again.is_some_and(|response| response.status == 200) && path.invalid_since(then);
            assert!(!is_a_lie, "{} is not valid, and has a narinfo", path.path);
        }
        Some(text.to_owned())
    }

    pub(super) fn nar(&mut self, path: &TruePath) {
        let then = path.now();
        let url = path.nar_url();
        let Some(response) = self.ask(&url, &[]) else { return };
        if self.is_had(path, then, &response, &url) {
            assert!(response.status == 200 && response.body == path.nar, "a wrong body of {url}");
            self.right(&response);
        }
    }

    pub(super) fn compressed_nar(&mut self, path: &TruePath) {
        let Some(url) = self.compressed_url(path) else { return };
        let then = path.now();
        let Some(response) = self.ask(&url, &[]) else { return };
        if self.is_had(path, then, &response, &url) {
            assert!(decoded(&response.body) == path.nar, "a wrong body of {url}");
            assert!(self.world.compressed.is_the_same(&url, &response.body), "other bytes of {url}");
            self.right(&response);
        }
    }

    fn part(&mut self, path: &TruePath) {
        let (then, url) = (path.now(), path.nar_url());
        let first = self.dice.below(path.nar.len());
        let end = first + 1 + self.dice.below(path.nar.len() - first);
        let Some(response) = self.ask(&url, &[("Range", &format!("bytes={first}-{}", end - 1))]) else { return };
        if self.is_had(path, then, &response, &url) {
            assert!(response.status == 206 && response.body == path.nar[first..end], "a wrong part of {url}");
            self.right(&response);
        }
    }

    fn part_of_compressed(&mut self, path: &TruePath) {
        let Some(url) = self.compressed_url(path) else { return };
        let Some(length) = self.world.compressed.length(&url) else { return };
        let then = path.now();
        let first = self.dice.below(length);
        let Some(response) = self.ask(&url, &[("Range", &format!("bytes={first}-"))]) else { return };
        if self.is_had(path, then, &response, &url) {
            let expected = self.world.compressed.part(&url, first..length);
            assert!(response.status == 206 && Some(&response.body) == expected.as_ref(), "a wrong part of {url}");
            self.right(&response);
        }
    }

    fn compressed_url(&mut self, path: &TruePath) -> Option<String> {
        let narinfo = self.narinfo(path)?;
        (value(&narinfo, "Compression") == "zstd").then(|| format!("/{}", value(&narinfo, "URL")))
    }

    /// Reads a NAR slowly, perhaps to its end.
    fn slowly(&mut self, path: &TruePath) {
        let pieces = self.dice.below(300);
        let url = path.nar_url();
        let Ok(mut stream) = self.open(&url) else { return self.unreachable() };
        let mut answer = Vec::new();
        for _ in 0..pieces {
            let mut piece = [0; 8192];
            match stream.read(&mut piece) {
                Ok(0) | Err(_) => break,
                Ok(read) => answer.extend_from_slice(&piece[..read]),
            }
            thread::sleep(SLOWNESS);
        }
        let head =
            answer.windows(4).position(|end| end == b"\r\n\r\n").filter(|_| answer.starts_with(b"HTTP/1.1 200 "));
        let Some(head) = head else { return };
        let body = &answer[head + 4..];
        assert!(path.nar.starts_with(body), "a wrong body of {url}");
        count(if body.len() == path.nar.len() { &self.world.tally.right } else { &self.world.tally.left });
    }

    /// Requests a NAR and disconnects, before the response or in the middle of it.
    fn leave(&mut self, path: &TruePath) {
        let Ok(mut stream) = self.open(&path.nar_url()) else { return self.unreachable() };
        if self.dice.one_in(2) {
            let mut some = vec![0; 1 + self.dice.below(200_000)];
            let _ = stream.read_exact(&mut some);
        }
        count(&self.world.tally.left);
    }

    fn open(&self, url: &str) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.world.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.write_all(format!("GET {url} HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n").as_bytes())?;
        Ok(stream)
    }

    /// Sends a request and returns a complete response. A timeout of a minute is a failure; a broken connection is not.
    fn ask(&mut self, url: &str, headers: &[(&str, &str)]) -> Option<Response> {
        let Ok(mut connection) = self.connection.take().map_or_else(|| Connection::open(self.world.address), Ok) else {
            self.unreachable();
            return None;
        };
        let headers = headers.iter().map(|(name, value)| [name, ": ", value, "\r\n"].concat()).collect::<String>();
        let request = format!("GET {url} HTTP/1.1\r\nHost: c\r\n{headers}\r\n");
        let response = connection.send(request.as_bytes()).and_then(|()| connection.receive(false));
        match response {
            Ok(response) if response.complete => {
                if response.header("connection") != Some("close") {
                    self.connection = Some(connection);
                }
                return Some(response);
            }
            Ok(_) => {}
            Err(error) => {
                let is_hung = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
                assert!(!is_hung && error.kind() != io::ErrorKind::InvalidData, "{url}: {error}");
            }
        }
        count(&self.world.tally.cut);
        None
    }

    /// Returns whether there is a body to check; panics if an error status is not justified.
    fn is_had(&self, path: &TruePath, then: Then, response: &Response, url: &str) -> bool {
        match response.status {
            200 | 206 => return true,
            404 => {
                assert!(!path.valid_since(then), "{url} is 404, but {} is valid", path.path);
                count(&self.world.tally.not_found);
            }
            502 | 503 => count(&self.world.tally.unavailable),
            other => panic!("{url}: {other}"),
        }
        false
    }

    fn unreachable(&self) {
        count(&self.world.tally.unreachable);
        thread::sleep(PAUSE);
    }

    fn right(&self, response: &Response) {
        count(&self.world.tally.right);
        self.world.tally.bytes.fetch_add(response.body.len() as u64, Ordering::Relaxed);
    }
}
