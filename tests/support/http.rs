//! An HTTP/1.1 client that sends exactly the bytes it is given and shows what came back, undecoded but for the framing.
//!
//! Real clients hide what the tests are about: they follow, retry, decode and normalise.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// No answer takes this long; a test that hangs says nothing.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The kernel doubles it, in bytes.
const NARROW: usize = 16 << 10;

/// A client of one server: each request goes on a connection of its own.
#[derive(Clone, Copy)]
pub(crate) struct Http {
    address: SocketAddr,
    /// Where it asks from, if it matters.
    source: Option<IpAddr>,
}

impl Http {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, source: None }
    }

    /// The same from another of this machine's addresses.
    pub(crate) fn from(self, source: [u8; 4]) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// A connection from there.
    pub(crate) fn connect(self) -> io::Result<Connection> {
        Connection::open_from(self.source, self.address)
    }

    /// A connection that takes little ahead of what is read of it.
    pub(crate) fn connect_narrow(self) -> io::Result<Connection> {
        Connection::open_with(self.source, self.address, |socket| socket.set_recv_buffer_size(NARROW))
    }

    /// GET; panics unless a complete response comes.
    pub(crate) fn get(self, path: &str) -> Response {
        self.get_with(path, &[])
    }

    /// GET with these headers besides `Host` and `Connection`; panics unless a complete response comes.
    pub(crate) fn get_with(self, path: &str, headers: &[(&str, &str)]) -> Response {
        self.ask("GET", path, headers)
    }

    /// HEAD; panics unless a response comes.
    pub(crate) fn head(self, path: &str) -> Response {
        self.ask("HEAD", path, &[])
    }

    /// GET of what cannot be had: a 502 or 503, or an answer that breaks off. Gives what came of the body. Even the head may be
    /// lost, when the break comes before it is written.
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

    /// Sends these bytes, and reads to the end of the connection.
    pub(crate) fn exchange(self, raw: &[u8]) -> Vec<u8> {
        let mut connection = self.connect().unwrap();
        connection.send(raw).unwrap();
        let mut answer = Vec::new();
        connection.stream.read_to_end(&mut answer).unwrap();
        answer
    }

    /// Sends these bytes, and reads one response.
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

/// A connection, for what is about more than one request.
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

    /// Reads so many bytes of what comes, as they are; fewer at the end of the connection.
    pub(crate) fn read(&mut self, bytes: u64) -> io::Result<Vec<u8>> {
        let mut read = Vec::new();
        match self.stream.by_ref().take(bytes).read_to_end(&mut read) {
            Err(error) if !is_cut(&error) => Err(error),
            _ => Ok(read),
        }
    }

    /// Says that nothing more comes, while answers may.
    pub(crate) fn shut_down(&self) {
        let _ = self.stream.get_ref().shutdown(Shutdown::Write);
    }

    /// Reads the response to a request, which was a HEAD or not: one to HEAD has no body, whatever its headers say.
    pub(crate) fn receive(&mut self, to_head: bool) -> io::Result<Response> {
        let mut response = self.head()?;
        if !to_head && !matches!(response.status, 100..=199 | 204 | 304) {
            response.complete = self.body(&mut response)?;
        }
        Ok(response)
    }

    /// Reads the head of a response, and nothing of its body.
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

    /// Reads the body by its framing; whether it came to its end.
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

    /// A line without its CRLF, which must be there.
    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        if self.stream.read_until(b'\n', &mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = line.strip_suffix(b"\r\n").ok_or_else(|| invalid(&String::from_utf8_lossy(&line)))?;
        String::from_utf8(text.to_vec()).map_err(|_| invalid("not UTF-8"))
    }
}

/// A response as it was sent.
pub(crate) struct Response {
    pub(crate) status: u16,
    /// In their order, names in lower case, values without the space around them.
    pub(crate) headers: Vec<(String, String)>,
    /// Without transfer coding; a content coding is not undone.
    pub(crate) body: Vec<u8>,
    /// False when the connection ended before the body did.
    pub(crate) complete: bool,
}

impl Response {
    /// The value of the only header of this name; panics when there are several.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(sent, _)| sent == name).map(|(_, value)| value.as_str());
        let value = values.next();
        assert_eq!(values.next(), None, "{name} came more than once");
        value
    }

    /// The body, which must be UTF-8.
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
