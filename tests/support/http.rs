//! HTTP/1.1 client that sends exactly the bytes it is given and returns the response with only its framing decoded.
//!
//! Real clients hide what the tests check: they follow redirects, retry, decode and normalize.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// Upper bound of the wait for a response: a failing test must end.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Size of a small receive buffer, in bytes. The kernel doubles it.
const NARROW: usize = 16 << 10;

/// Client of one server that opens a connection for each request.
#[derive(Clone, Copy)]
pub(crate) struct Http {
    address: SocketAddr,
    /// Source address, if a test needs a certain one.
    source: Option<IpAddr>,
}

impl Http {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, source: None }
    }

    /// Returns a client of the same server with this source address.
    pub(crate) fn from(self, source: [u8; 4]) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// Opens a connection.
    pub(crate) fn connect(self) -> io::Result<Connection> {
        Connection::open_from(self.source, self.address)
    }

    /// Opens a connection with a small receive buffer, so that little is sent before it is read.
    pub(crate) fn connect_narrow(self) -> io::Result<Connection> {
        Connection::open_with(self.source, self.address, |socket| socket.set_recv_buffer_size(NARROW))
    }

    /// Sends a GET; panics unless it receives a complete response.
    pub(crate) fn get(self, path: &str) -> Response {
        self.get_with(path, &[])
    }

    /// Sends a GET with `Host`, `Connection` and these headers; panics unless it receives a complete response.
    pub(crate) fn get_with(self, path: &str, headers: &[(&str, &str)]) -> Response {
        self.ask("GET", path, headers)
    }

    /// Sends a HEAD; panics unless it receives a response.
    pub(crate) fn head(self, path: &str) -> Response {
        self.ask("HEAD", path, &[])
    }

    /// Sends a GET that must fail, with 502, 503 or a truncated response, and returns the received part of the body. Even the
    /// head may be missing, if the server aborts before it writes it.
    pub(crate) fn get_failing(self, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
        match self.request(self.head_of("GET", path, headers).as_bytes()) {
            Ok(response) if matches!(response.status, 502 | 503) => response.body,
            Ok(response) if response.complete => panic!("{path}: {} with a complete body", response.status),
            Ok(response) => {
                assert!(matches!(response.status, 200 | 206), "{path}: {}", response.status);
                response.body
            }
            Err(error) if is_cut(&error) => Vec::new(),
            Err(error) => panic!("{path}: {error}"),
        }
    }

    /// Sends these bytes and reads up to the end of the connection.
    pub(crate) fn exchange(self, raw: &[u8]) -> Vec<u8> {
        let mut connection = self.connect().unwrap();
        connection.send(raw).unwrap();
        let mut answer = Vec::new();
        connection.stream.read_to_end(&mut answer).unwrap();
        answer
    }

    /// Sends these bytes and reads one response.
    pub(crate) fn request(self, raw: &[u8]) -> io::Result<Response> {
        let mut connection = self.connect()?;
        connection.send(raw)?;
        connection.receive(raw.starts_with(b"HEAD "))
    }

    fn head_of(self, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for (name, value) in [("Connection", "close")].iter().chain(headers) {
            request.push_str(&[name, ": ", value, "\r\n"].concat());
        }
        request + "\r\n"
    }

    fn ask(self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
        let request = self.head_of(method, path, headers);
        let response = self.request(request.as_bytes()).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert!(response.complete, "{method} {path}: the body ended after {} bytes", response.body.len());
        response
    }
}

/// Connection for more than one request.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        Self::open_from(None, address)
    }

    fn open_from(source: Option<IpAddr>, address: SocketAddr) -> io::Result<Self> {
        Self::open_with(source, address, |_| Ok(()))
    }

    fn open_with(
        source: Option<IpAddr>,
        address: SocketAddr,
        set: impl FnOnce(&Socket) -> io::Result<()>,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        set(&socket)?;
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        socket.connect_timeout(&address.into(), TIMEOUT)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    pub(crate) fn send(&mut self, raw: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(raw)
    }

    /// Reads this many raw bytes; fewer at the end of the connection.
    pub(crate) fn read(&mut self, bytes: u64) -> io::Result<Vec<u8>> {
        let mut read = Vec::new();
        match self.stream.by_ref().take(bytes).read_to_end(&mut read) {
            Err(error) if !is_cut(&error) => Err(error),
            _ => Ok(read),
        }
    }

    /// Closes the sending half of the connection.
    pub(crate) fn shut_down(&self) {
        let _ = self.stream.get_ref().shutdown(Shutdown::Write);
    }

    /// Reads a response. One to a HEAD has no body, whatever its headers say.
    pub(crate) fn receive(&mut self, to_head: bool) -> io::Result<Response> {
        let mut response = self.head()?;
        if !to_head && !matches!(response.status, 100..=199 | 204 | 304) {
            response.complete = self.body(&mut response)?;
        }
        Ok(response)
    }

    /// Reads the head of a response and nothing of its body.
    pub(crate) fn head(&mut self) -> io::Result<Response> {
        let status_line = self.line()?;
        let status = status_line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .ok_or_else(|| invalid(&status_line))?;
        let mut response = Response { status, headers: Vec::new(), body: Vec::new(), complete: true };
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| invalid(&line))?;
            response.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(response)
    }

    /// Reads the body by its framing; returns whether it is complete.
    fn body(&mut self, response: &mut Response) -> io::Result<bool> {
        if response.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return self.chunks(&mut response.body);
        }
        let Some(length) = response.header("content-length") else {
            self.stream.read_to_end(&mut response.body)?;
            return Ok(true);
        };
        let length = length.parse().map_err(|_| invalid(length))?;
        self.exactly(length, &mut response.body)
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            let line = match self.line() {
                Ok(line) => line,
                Err(error) if is_cut(&error) => return Ok(false),
                Err(error) => return Err(error),
            };
            let size = u64::from_str_radix(line.trim(), 16).map_err(|_| invalid(&line))?;
            if !self.exactly(size, body)? {
                return Ok(false);
            }
            match self.line() {
                Ok(end) if !end.is_empty() => return Err(invalid(&end)),
                Ok(_) if size == 0 => return Ok(true),
                Ok(_) => {}
                Err(error) if is_cut(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    fn exactly(&mut self, length: u64, body: &mut Vec<u8>) -> io::Result<bool> {
        match self.stream.by_ref().take(length).read_to_end(body) {
            Ok(read) => Ok(read as u64 == length),
            Err(error) if is_cut(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads a line and returns it without its CRLF, which must be there.
    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        if self.stream.read_until(b'\n', &mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = line.strip_suffix(b"\r\n").ok_or_else(|| invalid(&String::from_utf8_lossy(&line)))?;
        String::from_utf8(text.to_vec()).map_err(|_| invalid("not UTF-8"))
    }
}

/// Response as the server sent it.
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Headers in order, names in lower case, values trimmed.
    pub(crate) headers: Vec<(String, String)>,
    /// Body without transfer coding; a content coding is not decoded.
    pub(crate) body: Vec<u8>,
    /// False if the connection ended before the body did.
    pub(crate) complete: bool,
}

impl Response {
    /// Returns the value of the only header of this name; panics if there are several.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(sent, _)| sent == name).map(|(_, value)| value.as_str());
        let value = values.next();
        assert_eq!(values.next(), None, "{name} came more than once");
        value
    }

    /// Returns the body, which must be UTF-8.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

fn is_cut(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {what:?}"))
}

#[cfg(test)]
mod tests;
