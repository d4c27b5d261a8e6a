//! A daemon that says what a test tells it to: a listener whose connections play a script.
//!
//! It greets as Nix 2.34 does, then answers each question with the script's bytes, which may be any.

use std::fs;
use std::io::{self, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use super::scratch;
use super::wire::{LAST, Wire};

/// No event takes this long; a test that hangs says nothing.
const TIMEOUT: Duration = Duration::from_secs(30);
const VERSION: u64 = 0x126;

/// What a connection is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// The path that has this hash part.
    PathFromHashPart(String),
    /// The info of this full path.
    PathInfo(String),
    /// The NAR of this full path.
    Nar(String),
    /// All valid paths.
    AllPaths,
    /// The realisation of this id.
    Realisation(String),
    /// The realisation of this output of the derivation of this full path.
    BuildTrace(String, String),
}

/// What a connection is asked to keep paths from the garbage collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// To root this full path.
    Root(String),
    /// Which of these full paths are valid, those that have been rooted.
    StillValid(Vec<String>),
}

/// What it answers, and whether it hangs up then.
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) hang_up: bool,
}

impl From<Wire> for Answer {
    fn from(wire: Wire) -> Self {
        Self { bytes: wire.done(), hang_up: false }
    }
}

impl Answer {
    /// The bytes, and the end of the connection after them.
    pub(crate) fn then_hang_up(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), hang_up: true }
    }
}

/// How to greet and to answer.
pub(crate) struct Script {
    greeting: Answer,
    /// Whether outputs are known by the paths of their derivations, and not by their hashes.
    by_path: bool,
    answer: Box<dyn Fn(&Question) -> Answer + Send + Sync>,
    keep: Box<dyn Fn(&Keeping) -> Answer + Send + Sync>,
}

/// Roots every path, and calls it valid.
pub(crate) fn keeps(keeping: &Keeping) -> Answer {
    match keeping {
        Keeping::Root(_) => Wire::new().number(LAST).number(1).into(),
        Keeping::StillValid(paths) => Wire::new().number(LAST).strings(paths).into(),
    }
}

impl Script {
    /// Greets well, and answers so.
    pub(crate) fn answering(answer: impl Fn(&Question) -> Answer + Send + Sync + 'static) -> Self {
        Self { greeting: greeting().into(), by_path: false, answer: Box::new(answer), keep: Box::new(keeps) }
    }

    /// Says that there is no path, and takes no other question.
    pub(crate) fn knowing_no_path() -> Self {
        Self::answering(|question| match question {
            Question::PathFromHashPart(_) => Wire::new().number(LAST).string("").into(),
            other => panic!("asked {other:?}"),
        })
    }

    /// The same, but for what is kept from the garbage collector.
    pub(crate) fn keeping(mut self, keep: impl Fn(&Keeping) -> Answer + Send + Sync + 'static) -> Self {
        self.keep = Box::new(keep);
        self
    }

    /// The same as Nix 2.35 greets, which knows the outputs of derivations by path.
    pub(crate) fn answering_by_path(answer: impl Fn(&Question) -> Answer + Send + Sync + 'static) -> Self {
        let greeting = greeting_of("2.35.0-scripted", &["realisation-with-path-not-hash"]);
        Self { greeting: greeting.into(), by_path: true, answer: Box::new(answer), keep: Box::new(keeps) }
    }

    /// Answers nothing after this greeting.
    pub(crate) fn greeting(greeting: Answer) -> Self {
        let answer = Box::new(|question: &Question| panic!("{question:?} after a bad greeting"));
        Self { greeting, by_path: false, answer, keep: Box::new(keeps) }
    }
}

/// All that Nix 2.34 says before the first question.
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

/// A daemon at a socket; the socket goes away on drop, connections end with their clients.
pub(crate) struct ScriptedDaemon {
    pub(crate) socket: PathBuf,
    stage: Arc<Stage>,
}

struct Stage {
    script: Mutex<Arc<Script>>,
    seen: Mutex<Seen>,
    changed: Condvar,
}

/// What has happened so far.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    /// Connections that were accepted.
    pub(crate) connections: usize,
    /// Connections that their client has closed.
    pub(crate) closed_by_client: usize,
    /// What was asked, on all connections.
    pub(crate) asked: Vec<Question>,
    /// The full paths that were to be rooted.
    pub(crate) rooted: Vec<String>,
}

impl ScriptedDaemon {
    pub(crate) fn start(script: Script) -> Self {
        Self::start_at(scratch::fresh_dir().join("socket"), script)
    }

    /// Starts it at a socket that does not exist yet.
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

    /// The part of a configuration that names it.
    pub(crate) fn config(&self) -> String {
        format!("daemon_socket = \"{}\"\n", self.socket.display())
    }

    /// The same for a server that keeps nothing of what it was told.
    pub(crate) fn config_without_cache(&self) -> String {
        format!("{}narinfo_cache.max_size = 0\n", self.config())
    }

    /// Plays this script from the next connection or answer on.
    pub(crate) fn play(&self, script: Script) {
        *self.stage.script.lock().unwrap() = Arc::new(script);
    }

    /// What has happened so far.
    pub(crate) fn seen(&self) -> Seen {
        self.stage.seen.lock().unwrap().clone()
    }

    /// Waits until this holds; panics when it does not come to it.
    pub(crate) fn wait_until(&self, holds: impl Fn(&Seen) -> bool) {
        let seen = self.stage.seen.lock().unwrap();
        let (seen, _) = self.stage.changed.wait_timeout_while(seen, TIMEOUT, |seen| !holds(seen)).unwrap();
        assert!(holds(&seen), "it never happened; asked: {:?}", seen.asked);
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
        // An error means that the client went while it was written to, or in the middle of a word.
        if self.play(stream).unwrap_or(true) {
            self.record(|seen| seen.closed_by_client += 1);
        }
    }

    /// Plays to the end; whether it was the client that closed.
    fn play(&self, mut stream: UnixStream) -> io::Result<bool> {
        let script = self.script();
        stream.write_all(&script.greeting.bytes)?;
        if script.greeting.hang_up {
            return Ok(false);
        }
        let mut incoming = Incoming(BufReader::new(stream.try_clone()?));
        incoming.greeting()?;
        while let Some(asked) = incoming.asked(script.by_path)? {
            // First: whoever sees that it was asked may play another script, which is for what is asked then.
            let script = self.script();
            let answer = match asked {
                Asked::Question(question) => {
                    self.record(|seen| seen.asked.push(question.clone()));
                    (script.answer)(&question)
                }
                Asked::Keeping(keeping) => {
                    if let Keeping::Root(path) = &keeping {
                        self.record(|seen| seen.rooted.push(path.clone()));
                    }
                    (script.keep)(&keeping)
                }
            };
            stream.write_all(&answer.bytes)?;
            if answer.hang_up {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What came on a connection.
enum Asked {
    Question(Question),
    Keeping(Keeping),
}

/// The client's half.
struct Incoming(BufReader<UnixStream>);

impl Incoming {
    fn number(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn string(&mut self) -> io::Result<String> {
        let length = usize::try_from(self.number()?).unwrap();
        assert!(length < 4096, "a client's string of {length} bytes");
        let mut bytes = vec![0; length.next_multiple_of(8)];
        self.0.read_exact(&mut bytes)?;
        assert!(bytes.drain(length..).all(|byte| byte == 0), "a client's padding is not zero");
        Ok(String::from_utf8(bytes).unwrap())
    }

    /// Magic, version, features, two obsolete numbers, and SetOptions.
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

    /// Nothing when the client has closed.
    fn asked(&mut self, by_path: bool) -> io::Result<Option<Asked>> {
        let opcode = match self.number() {
            Ok(opcode) => opcode,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        };
        if opcode == 23 {
            return Ok(Some(Asked::Question(Question::AllPaths)));
        }
        if opcode == 31 {
            let paths = (0..self.number()?).map(|_| self.string()).collect::<io::Result<_>>()?;
            assert_eq!(self.number()?, 0, "whether to substitute");
            return Ok(Some(Asked::Keeping(Keeping::StillValid(paths))));
        }
        let about = self.string()?;
        Ok(Some(Asked::Question(match opcode {
            11 => return Ok(Some(Asked::Keeping(Keeping::Root(about)))),
            29 => Question::PathFromHashPart(about),
            26 => Question::PathInfo(about),
            38 => Question::Nar(about),
            43 if by_path => Question::BuildTrace(about, self.string()?),
            43 => Question::Realisation(about),
            other => panic!("opcode {other}"),
        })))
    }
}
