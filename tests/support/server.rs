//! The program under test, as users run it: its binary, a configuration file, a port of the kernel's choice.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::http::Http;
use super::scratch;
use super::watchdog;

/// Far more than a start takes; it is for a machine that is busy.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The part of a configuration by which NARs are compressed when they are asked for, and kept in a directory of this test's
/// own.
pub(crate) fn nar_cache_on_demand() -> String {
    format!("nar_cache.dir = \"{}\"\nnar_cache.precompress = \"off\"\n", scratch::fresh_dir().join("nars").display())
}

/// A running harmonia; killed on drop, and when the test binary ends without that.
pub(crate) struct Harmonia {
    program: Child,
    watchdog: Child,
    log: Arc<Log>,
    /// Shown beside its own log when a test fails.
    pub(crate) daemon_log: Option<PathBuf>,
    /// What it says that it listens on.
    url: String,
}

impl Harmonia {
    /// Starts it with this configuration, TOML without `bind`, and waits until it says where it listens.
    pub(crate) fn start(config: &str) -> Self {
        let file = scratch::fresh_dir().join("config.toml");
        // First, since what comes may end in a table.
        fs::write(&file, format!("bind = \"127.0.0.1:0\"\n{config}")).unwrap();
        let mut program = Self::program();
        program.arg("--config").arg(file);
        Self::launch(program)
    }

    /// The program, with nothing in its environment but the search path.
    pub(crate) fn program() -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_harmonia"));
        program.env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null()).stdout(Stdio::null());
        program
    }

    /// Starts the program as it is told to, and waits until it says where it listens.
    pub(crate) fn launch(mut program: Command) -> Self {
        let mut program = program.stderr(Stdio::piped()).spawn().expect("cannot run harmonia");
        let watchdog = watchdog::at_the_end(r#"kill -KILL "$0""#, program.id().to_string());
        let log = Log::read(program.stderr.take().unwrap());
        // Owns the processes already: a panic from here on stops them.
        let mut harmonia = Self { program, watchdog, log, daemon_log: None, url: String::new() };
        harmonia.url = harmonia.log.url();
        harmonia
    }

    /// Waits until the log has a line with this text, and returns that line.
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        self.log.line(text)
    }

    /// All that it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.state.lock().unwrap().text.clone()
    }

    /// Waits until the log has this many lines with this text.
    pub(crate) fn wait_for_log_times(&self, text: &str, times: usize) {
        self.log.nth_line(text, times - 1);
    }

    /// Sends it SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends it SIGHUP.
    pub(crate) fn reload(&self) {
        self.signal(Signal::HUP);
    }

    /// Stops it where it is, to be killed on drop.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Kills it, and waits for its end.
    pub(crate) fn kill(&mut self) {
        self.program.kill().unwrap();
        self.program.wait().unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.program), signal).unwrap();
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.program.id()
    }

    /// Waits for its end by itself.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.program.wait().unwrap()
    }

    /// The base URL, without a slash at its end.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The address that it listens on, if that is one of TCP.
    pub(crate) fn address(&self) -> SocketAddr {
        self.url.split_once("://").expect("not an address of TCP").1.parse().unwrap()
    }

    /// A client of it.
    pub(crate) fn http(&self) -> Http {
        Http::new(self.address())
    }
}

impl Drop for Harmonia {
    fn drop(&mut self) {
        // First the watchdog, so that it never kills a process that has the number afterwards.
        for child in [&mut self.watchdog, &mut self.program] {
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            eprintln!("harmonia logged:\n{}", self.log.state.lock().unwrap().text);
            let daemon_log = self.daemon_log.as_ref().and_then(|file| fs::read(file).ok());
            if let Some(log) = daemon_log {
                eprintln!("its daemon logged:\n{}", String::from_utf8_lossy(&log));
            }
        }
    }
}

/// Standard error, read by a thread until its end.
struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Default)]
struct LogState {
    text: String,
    ended: bool,
}

impl Log {
    fn read(stderr: ChildStderr) -> Arc<Self> {
        let log = Arc::new(Self { state: Mutex::default(), changed: Condvar::new() });
        let writer = Arc::clone(&log);
        thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line);
                let mut state = writer.state.lock().unwrap();
                state.text.push_str(&line);
                state.text.push('\n');
                writer.changed.notify_all();
            }
            writer.state.lock().unwrap().ended = true;
            writer.changed.notify_all();
        });
        log
    }

    /// What the line `listening on URL` says; panics with the log when the program ends without it.
    fn url(&self) -> String {
        let line = self.line("listening on ");
        line.split_once("listening on ").unwrap().1.to_owned()
    }

    /// The first line with this text, once it has come; panics with the log when none comes.
    fn line(&self, wanted: &str) -> String {
        self.nth_line(wanted, 0)
    }

    /// The line with this text that `nth` others precede.
    fn nth_line(&self, wanted: &str, nth: usize) -> String {
        let find = |log: &str| log.lines().filter(|line| line.contains(wanted)).nth(nth).map(str::to_owned);
        let waiting = |state: &mut LogState| !state.ended && find(&state.text).is_none();
        let (state, _) = self.changed.wait_timeout_while(self.state.lock().unwrap(), START_TIMEOUT, waiting).unwrap();
        let text = state.text.clone();
        drop(state);
        find(&text).unwrap_or_else(|| panic!("harmonia does not say {wanted:?}:\n{text}"))
    }
}
