//! Object stores with an S3 API on loopback addresses, as `tests/object-stores/engines` runs them.
//!
//! If this machine cannot install one, each test that needs it says so past libtest's capture, with how many there were.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use super::s3::S3;
use super::scratch;

/// Upper bound of a start or a command, more than the script's own.
const TIMEOUT: Duration = Duration::from_secs(180);
/// Exit status of the script if this machine lacks what the engine needs.
const UNAVAILABLE: i32 = 3;

/// Which object store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// OpenStack Swift: three storage nodes with three replicas of everything, and a proxy.
    Swift,
    /// `rclone serve s3` on a directory.
    Rclone,
    /// moto's server, in memory, which checks no signatures.
    Moto,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Swift => "swift",
            Self::Rclone => "rclone",
            Self::Moto => "moto",
        }
    }
}

/// Part of an engine that ends on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// The server that has the S3 API.
    Front,
    /// One of the three storage nodes of Swift, from 1.
    Storage(u8),
}

/// A running object store with an empty bucket; it ends on drop, and at the end of the test binary.
pub(crate) struct Engine {
    kind: Kind,
    directory: PathBuf,
    told: BTreeMap<String, String>,
    program: Child,
    control: Mutex<Control>,
}

/// Commands to the script, and its answers.
struct Control {
    /// Its end ends the engine.
    commands: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Engine {
    /// Starts an engine; returns `None`, which it says and counts, if this machine cannot run it.
    ///
    /// Panics if it was not installed: a skipped test proves nothing.
    pub(crate) fn start(kind: Kind) -> Option<Self> {
        Self::try_start(kind).map_err(|reason| skip(kind, &reason)).ok()
    }

    /// Starts an engine; fails with the reason if this machine cannot run it.
    fn try_start(kind: Kind) -> Result<Self, String> {
        let directory = scratch::fresh_dir();
        let mut program = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/object-stores/engines"))
            .args(["run", kind.name()])
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cannot run tests/object-stores/engines");
        let (sender, lines) = channel();
        let output = BufReader::new(program.stdout.take().unwrap());
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let control = Control { commands: program.stdin.take(), lines };
        // Built before it is ready, so that a panic stops it.
        let mut engine = Self { kind, directory, told: BTreeMap::new(), program, control: Mutex::new(control) };
        engine.until_ready().map(|()| engine)
    }

    /// Returns the engine of this kind that all tests share, started at the first call: no test may kill its nodes, and each
    /// uses keys of its own.
    pub(crate) fn shared(kind: Kind) -> Option<&'static Self> {
        static SHARED: [OnceLock<Result<Engine, String>>; 3] = [const { OnceLock::new() }; 3];
        let started = SHARED[kind as usize].get_or_init(|| Self::try_start(kind));
        started.as_ref().map_err(|reason| skip(kind, reason)).ok()
    }

    /// Reads what the script tells, up to the line `ready`; fails with the reason if this machine cannot run the engine.
    fn until_ready(&mut self) -> Result<(), String> {
        let control = self.control.get_mut().unwrap();
        while let Ok(line) = control.lines.recv_timeout(TIMEOUT) {
            if line == "ready" {
                return Ok(());
            }
            let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("{}: {line}", self.kind.name()));
            self.told.insert(name.to_owned(), value.to_owned());
        }
        // Ended or stuck: in the latter case standard error has no end before it is told to end.
        control.commands = None;
        let mut said = String::new();
        self.program.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let status = self.program.wait().unwrap();
        assert_eq!(status.code(), Some(UNAVAILABLE), "{} does not start:\n{said}", self.kind.name());
        Err(said.trim_end().to_owned())
    }

    fn told(&self, name: &str) -> &str {
        self.told.get(name).unwrap_or_else(|| panic!("{} has no {name}", self.kind.name()))
    }

    /// Returns the URL of the S3 API, without a trailing slash.
    pub(crate) fn endpoint(&self) -> &str {
        self.told("AWS_ENDPOINT_URL")
    }

    /// Returns the TCP address of the S3 API.
    pub(crate) fn address(&self) -> SocketAddr {
        self.endpoint().strip_prefix("http://").unwrap().parse().unwrap()
    }

    /// Returns the name of the bucket.
    pub(crate) fn bucket(&self) -> &str {
        self.told("BUCKET")
    }

    pub(crate) fn region(&self) -> &str {
        self.told("AWS_REGION")
    }

    pub(crate) fn access_key(&self) -> &str {
        self.told("AWS_ACCESS_KEY_ID")
    }

    pub(crate) fn secret_key(&self) -> &str {
        self.told("AWS_SECRET_ACCESS_KEY")
    }

    /// Returns the URL below which anybody can read the objects of the bucket, without a trailing slash.
    pub(crate) fn public_url(&self) -> &str {
        self.told("PUBLIC_URL")
    }

    /// Returns the directory that has the objects of the bucket as files, of rclone.
    pub(crate) fn data(&self) -> &Path {
        Path::new(self.told("DATA"))
    }

    /// Returns a client that signs its requests.
    pub(crate) fn s3(&self) -> S3 {
        S3::new(self.address(), self.region(), self.access_key(), self.secret_key(), self.bucket())
    }

    /// Kills a node with SIGKILL: it refuses connections, and keeps what it wrote.
    pub(crate) fn kill(&self, node: Node) {
        self.command("kill", node);
    }

    /// Starts a node that was killed, at the same address.
    pub(crate) fn restart(&self, node: Node) {
        self.command("start", node);
    }

    /// Stops a node with SIGSTOP: it accepts connections and does not answer.
    pub(crate) fn pause(&self, node: Node) {
        self.command("pause", node);
    }

    /// Lets a paused node go on.
    pub(crate) fn resume(&self, node: Node) {
        self.command("resume", node);
    }

    /// Lets the nodes of Swift exchange what some of them missed while they did not run, which nothing else does.
    pub(crate) fn repair(&self) {
        self.obey("repair");
    }

    fn command(&self, command: &str, node: Node) {
        match node {
            Node::Front => self.obey(&format!("{command} front")),
            Node::Storage(number) => self.obey(&format!("{command} {number}")),
        }
    }

    fn obey(&self, command: &str) {
        let mut control = self.control.lock().unwrap();
        writeln!(control.commands.as_mut().unwrap(), "{command}").unwrap();
        let answer = control.lines.recv_timeout(TIMEOUT).unwrap_or_else(|error| error.to_string());
        // Not with the lock, which the failing test would poison.
        drop(control);
        assert_eq!(answer, "ok", "{} should {command}", self.kind.name());
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It kills its nodes, paused ones too.
        if let Ok(control) = self.control.get_mut() {
            control.commands = None;
        }
        let _ = self.program.wait();
        if thread::panicking() {
            for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
                let path = entry.path();
                let log = fs::read(&path).unwrap_or_default();
                if path.extension().is_some_and(|extension| extension == "log") && !log.is_empty() {
                    eprintln!("{} logged:\n{}", path.display(), String::from_utf8_lossy(&log));
                }
            }
        }
    }
}

/// Says that a test is skipped, in the output of the run even though the test passes, with how many there were.
fn skip(kind: Kind, reason: &str) {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let line =
        format!("skipped ({count} so far for want of an object store): {test} needs {}: {reason}\n", kind.name());
    // Not by a macro, whose output libtest keeps to itself.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
