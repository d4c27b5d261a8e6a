//! A nix-daemon that plays a script: a listener that replies as a test tells it to.
//!
//! It performs the handshake of Nix 2.34, then replies to each query with the bytes of the script, valid or not.

use std::fs;
use std::io::{self, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use super::scratch;
use super::wire::{LAST, Wire};

/// Upper bound of the wait for an event: a failing test must end.
const TIMEOUT: Duration = Duration::from_secs(30);
const VERSION: u64 = 0x126;

/// An operation that reads the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Query {
    /// `QueryPathFromHashPart` of this hash part.
    PathFromHashPart(String),
    /// `QueryPathInfo` of this full path.
    PathInfo(String),
    /// `NarFromPath` of this full path.
    Nar(String),
    /// `QueryAllValidPaths`.
    AllPaths,
    /// `QueryRealisation` of this id, up to Nix 2.34.
    Realisation(String),
    /// `QueryRealisation` of a derivation's full path and the name of an output, from Nix 2.35 on.
    BuildTrace(String, String),
}

/// An operation that protects paths from the garbage collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GcOperation {
    /// `AddTempRoot` of this full path.
    Root(String),
    /// `QueryValidPaths` of these full paths, which have been rooted.
    StillValid(Vec<String>),
    /// `AddIndirectRoot` of this link.
    Link(String),
    /// `FindRoots`.
    Roots,
}

/// `AddToStoreNar`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addition {
    /// Full path.
    pub(crate) path: String,
    pub(crate) references: Vec<String>,
    pub(crate) signatures: Vec<String>,
    /// Whether the daemon is to check signatures.
    pub(crate) checks_signatures: bool,
    pub(crate) nar: Vec<u8>,
}

/// Bytes of a reply, and whether the daemon closes the connection after them.
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    pub(crate) disconnect: bool,
}

impl From<Wire> for Reply {
    fn from(wire: Wire) -> Self {
        Self { bytes: wire.done(), disconnect: false }
    }
}

impl Reply {
    /// Sends the bytes and closes the connection.
    pub(crate) fn then_disconnect(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), disconnect: true }
    }
}

/// The behaviour of a daemon: its handshake, and its replies.
pub(crate) struct Script {
    greeting: Reply,
    /// True if realisations are identified by derivation path, as from Nix 2.35 on; false if by hash.
    by_path: bool,
    reply: Box<dyn Fn(&Query) -> Reply + Send + Sync>,
    protect: Box<dyn Fn(&GcOperation) -> Reply + Send + Sync>,
    add: Box<dyn Fn(&Addition) -> Reply + Send + Sync>,
}

fn add_none(addition: &Addition) -> Reply {
    panic!("{} was added", addition.path)
}

/// Adds every GC root, and calls every path valid.
pub(crate) fn protect(operation: &GcOperation) -> Reply {
    match operation {
        GcOperation::Root(_) | GcOperation::Link(_) => Wire::new().number(LAST).number(1).into(),
        GcOperation::Roots => Wire::new().number(LAST).number(0).into(),
        GcOperation::StillValid(paths) => Wire::new().number(LAST).strings(paths).into(),
    }
}

impl Script {
    /// Performs a valid handshake and replies to queries by this function.
    pub(crate) fn replying(reply: impl Fn(&Query) -> Reply + Send + Sync + 'static) -> Self {
        Self::of(greeting().into(), false, Box::new(reply))
    }

    fn of(greeting: Reply, by_path: bool, reply: Box<dyn Fn(&Query) -> Reply + Send + Sync>) -> Self {
        Self { greeting, by_path, reply, protect: Box::new(protect), add: Box::new(add_none) }
    }

    /// Replies by this function once a NAR has arrived.
    pub(crate) fn adding(mut self, add: impl Fn(&Addition) -> Reply + Send + Sync + 'static) -> Self {
        self.add = Box::new(add);
        self
    }

    /// Replies that no path is valid; panics on any other query.
    pub(crate) fn knowing_no_path() -> Self {
        Self::replying(|query| match query {
            Query::PathFromHashPart(_) => Wire::new().number(LAST).string("").into(),
            other => panic!("unexpected {other:?}"),
        })
    }

    /// Replies by this function to operations that protect paths from the garbage collector.
    pub(crate) fn protecting(mut self, protect: impl Fn(&GcOperation) -> Reply + Send + Sync + 'static) -> Self {
        self.protect = Box::new(protect);
        self
    }

    /// Like [`Script::replying`], with the handshake of Nix 2.35, which identifies realisations by derivation path.
    pub(crate) fn replying_by_path(reply: impl Fn(&Query) -> Reply + Send + Sync + 'static) -> Self {
        let greeting = greeting_of("2.35.0-scripted", &["realisation-with-path-not-hash"]);
        Self::of(greeting.into(), true, Box::new(reply))
    }

    /// Sends this as the daemon's half of the handshake, and expects no query.
    pub(crate) fn greeting(greeting: Reply) -> Self {
        let reply = Box::new(|query: &Query| panic!("{query:?} after an invalid handshake"));
        Self::of(greeting, false, reply)
    }
}

/// The daemon's half of the handshake of Nix 2.34, with its reply to SetOptions.
pub(crate) fn greeting() -> Wire {
    greeting_of("2.34.8-scripted", &[])
}

fn greeting_of(release: &str, features: &[&str]) -> Wire {
    let not_trusted = 2;
    Wire::new()
        .number(0x6478_696f)
        .number(VERSION)
        .strings(features)
        .string(release)
        .number(not_trusted)
        .number(LAST)
        // Of SetOptions.
        .number(LAST)
}

/// A daemon at a socket, which is removed on drop. Connections end with their clients.
pub(crate) struct ScriptedDaemon {
    /// Path of the socket.
    pub(crate) socket: PathBuf,
    stage: Arc<Stage>,
}

struct Stage {
    script: Mutex<Arc<Script>>,
    seen: Mutex<Seen>,
    changed: Condvar,
}

/// Record of the events at a daemon.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    /// Number of accepted connections.
    pub(crate) connections: usize,
    /// Number of connections that their client closed.
    pub(crate) closed_by_client: usize,
    /// Queries on all connections, in order.
    pub(crate) queries: Vec<Query>,
    /// Full paths of all `AddTempRoot` operations, in order.
    pub(crate) rooted: Vec<String>,
}

impl ScriptedDaemon {
    pub(crate) fn start(script: Script) -> Self {
        Self::start_at(scratch::fresh_dir().join("socket"), script)
    }

    /// Starts a daemon at a socket that does not exist yet.
    pub(crate) fn start_at(socket: PathBuf, script: Script) -> Self {
        let listener = UnixListener::bind(&socket).unwrap();
        let stage =
            Arc::new(Stage { script: Mutex::new(Arc::new(script)), seen: Mutex::default(), changed: Condvar::new() });
        let accepting = Arc::clone(&stage);
        // Ends with the test binary: a thread in accept costs nothing.
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                accepting.record(|seen| seen.connections += 1);
                let stage = Arc::clone(&accepting);
                thread::spawn(move || stage.converse(stream));
            }
        });
        Self { socket, stage }
    }

    /// Configuration of a server that uses this daemon.
    pub(crate) fn config(&self) -> String {
        format!("daemon_socket = \"{}\"\n", self.socket.display())
    }

    /// Configuration of a server that uses this daemon and caches no path info.
    pub(crate) fn config_without_cache(&self) -> String {
        format!("{}narinfo_cache.max_size = 0\n", self.config())
    }

    /// Replaces the script, from the next handshake or reply on.
    pub(crate) fn play(&self, script: Script) {
        *self.stage.script.lock().unwrap() = Arc::new(script);
    }

    /// Returns the events so far.
    pub(crate) fn seen(&self) -> Seen {
        self.stage.seen.lock().unwrap().clone()
    }

    /// Waits until this holds of the events; panics after a timeout.
    pub(crate) fn wait_until(&self, holds: impl Fn(&Seen) -> bool) {
        let seen = self.stage.seen.lock().unwrap();
        let (seen, _) = self.stage.changed.wait_timeout_while(seen, TIMEOUT, |seen| !holds(seen)).unwrap();
        assert!(holds(&seen), "the expected events did not happen; queries: {:?}", seen.queries);
    }
}

impl Drop for ScriptedDaemon {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.socket);
    }
}

impl Stage {
    fn record(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap());
        self.changed.notify_all();
    }

    fn script(&self) -> Arc<Script> {
        Arc::clone(&self.script.lock().unwrap())
    }

    fn converse(&self, stream: UnixStream) {
        // An error means that the client disconnected in the middle of a reply or of an operation.
        if self.play(stream).unwrap_or(true) {
            self.record(|seen| seen.closed_by_client += 1);
        }
    }

    /// Plays the script on a connection; returns whether the client closed it.
    fn play(&self, mut stream: UnixStream) -> io::Result<bool> {
        let script = self.script();
        stream.write_all(&script.greeting.bytes)?;
        if script.greeting.disconnect {
            return Ok(false);
        }
        let mut incoming = Incoming(BufReader::new(stream.try_clone()?));
        incoming.greeting()?;
        while let Some(operation) = incoming.next_operation(script.by_path)? {
            // Before the query is recorded: a test that sees it may replace the script for the next one.
            let script = self.script();
            let reply = match operation {
                Operation::Query(query) => {
                    self.record(|seen| seen.queries.push(query.clone()));
                    (script.reply)(&query)
                }
                Operation::Gc(operation) => {
                    if let GcOperation::Root(path) = &operation {
                        self.record(|seen| seen.rooted.push(path.clone()));
                    }
                    (script.protect)(&operation)
                }
                Operation::Add(addition) => (script.add)(&addition),
            };
            stream.write_all(&reply.bytes)?;
            if reply.disconnect {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// An operation that a client sent.
enum Operation {
    Query(Query),
    Gc(GcOperation),
    Add(Addition),
}

/// The client's half of a connection.
struct Incoming(BufReader<UnixStream>);

impl Incoming {
    fn number(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn string(&mut self) -> io::Result<String> {
        let length = usize::try_from(self.number()?).unwrap();
        assert!(length < 4096, "a string of {length} bytes from the client");
        let mut bytes = vec![0; length.next_multiple_of(8)];
        self.0.read_exact(&mut bytes)?;
        assert!(bytes.drain(length..).all(|byte| byte == 0), "padding of the client that is not zero");
        Ok(String::from_utf8(bytes).unwrap())
    }

    /// Reads the client's half of the handshake, and SetOptions.
    fn greeting(&mut self) -> io::Result<()> {
        assert_eq!((self.number()?, self.number()?), (0x6e69_7863, VERSION));
        for _ in 0..self.number()? {
            self.string()?;
        }
        assert_eq!((self.number()?, self.number()?, self.number()?), (0, 0, 19));
        for _ in 0..12 {
            self.number()?;
        }
        assert_eq!(self.number()?, 0, "overrides");
        Ok(())
    }

    fn strings(&mut self) -> io::Result<Vec<String>> {
        (0..self.number()?).map(|_| self.string()).collect()
    }

    /// Reads the rest of AddToStoreNar, up to the last frame.
    fn addition(&mut self, path: String) -> io::Result<Addition> {
        let (_deriver, _nar_hash, references) = (self.string()?, self.string()?, self.strings()?);
        let (_registration_time, _nar_size, _ultimate) = (self.number()?, self.number()?, self.number()?);
        let (signatures, _content_address) = (self.strings()?, self.string()?);
        let (_repair, checks_signatures) = (self.number()?, self.number()? == 0);
        let mut nar = Vec::new();
        loop {
            let length = self.number()?;
            if length == 0 {
                return Ok(Addition { path, references, signatures, checks_signatures, nar });
            }
            self.0.by_ref().take(length).read_to_end(&mut nar)?;
        }
    }

    /// Reads the next operation; `None` if the client closed the connection.
    fn next_operation(&mut self, by_path: bool) -> io::Result<Option<Operation>> {
        let opcode = match self.number() {
            Ok(opcode) => opcode,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        };
        if opcode == 23 {
            return Ok(Some(Operation::Query(Query::AllPaths)));
        }
        if opcode == 14 {
            return Ok(Some(Operation::Gc(GcOperation::Roots)));
        }
        if opcode == 31 {
            let paths = (0..self.number()?).map(|_| self.string()).collect::<io::Result<_>>()?;
            assert_eq!(self.number()?, 0, "whether to substitute");
            return Ok(Some(Operation::Gc(GcOperation::StillValid(paths))));
        }
        let about = self.string()?;
        Ok(Some(Operation::Query(match opcode {
            11 => return Ok(Some(Operation::Gc(GcOperation::Root(about)))),
            12 => return Ok(Some(Operation::Gc(GcOperation::Link(about)))),
            39 => return Ok(Some(Operation::Add(self.addition(about)?))),
            29 => Query::PathFromHashPart(about),
            26 => Query::PathInfo(about),
            38 => Query::Nar(about),
            43 if by_path => Query::BuildTrace(about, self.string()?),
            43 => Query::Realisation(about),
            other => panic!("opcode {other}"),
        })))
    }
}
