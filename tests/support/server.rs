//! The program under test as users run it: the binary, a configuration file, and a port that the kernel chooses.

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

/// Upper bound of a start, generous because the machine may be busy.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Returns the lines of a configuration that enable a NAR cache in a directory of this test's own, without precompression.
pub(crate) fn nar_cache_on_demand() -> String {
    format!("nar_cache.dir = \"{}\"\nnar_cache.precompress = \"off\"\n", scratch::fresh_dir().join("nars").display())
}

/// A running harmonia, killed on drop and at the end of the test binary.
pub(crate) struct Harmonia {
    program: Child,
    watchdog: Child,
    log: Arc<Log>,
    /// Log of nix-daemon, printed after the program's own when a test fails.
    pub(crate) daemon_log: Option<PathBuf>,
    /// URL of the listening address, from the log.
    url: String,
}

impl Harmonia {
    /// Starts harmonia with this configuration, TOML without `bind`, and waits until it listens.
    pub(crate) fn start(config: &str) -> Self {
        let file = scratch::fresh_dir().join("config.toml");
        // `bind` comes first: the configuration may end in a table.
        fs::write(&file, format!("bind = \"127.0.0.1:0\"\n{config}")).unwrap();
        let mut program = Self::program();
        program.arg("--config").arg(file);
        Self::launch(program)
    }

    /// Returns the command, with nothing in its environment but PATH.
    pub(crate) fn program() -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_harmonia"));
        program.env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null()).stdout(Stdio::null());
        program
    }

    /// Starts this command and waits until harmonia listens.
    pub(crate) fn launch(mut program: Command) -> Self {
        let mut program = program.stderr(Stdio::piped()).spawn().expect("cannot run harmonia");
        let watchdog = watchdog::at_the_end(r#"kill -KILL "$0""#, program.id().to_string());
        let log = Log::read(program.stderr.take().unwrap());
        // Built before the URL is known, so that a panic stops the processes.
        let mut harmonia = Self { program, watchdog, log, daemon_log: None, url: String::new() };
        harmonia.url = harmonia.log.url();
        harmonia
    }

    /// Waits until the log has a line with this text, and returns that line.
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        self.log.line(text)
    }

    /// Returns everything that it logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.state.lock().unwrap().text.clone()
    }

    /// Waits until the log has this many lines with this text.
    pub(crate) fn wait_for_log_times(&self, text: &str, times: usize) {
        self.log.nth_line(text, times - 1);
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGHUP.
    pub(crate) fn reload(&self) {
        self.signal(Signal::HUP);
    }

    /// Sends SIGSTOP; the process is killed on drop.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Sends SIGKILL and waits for the exit.
    pub(crate) fn kill(&mut self) {
        self.program.kill().unwrap();
        self.program.wait().unwrap();
    }

    /// Sends SIGKILL. [`Harmonia::kill`] waits for the exit.
    pub(crate) fn send_kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.program), signal).unwrap();
    }

    /// Returns the process ID.
    pub(crate) fn pid(&self) -> u32 {
        self.program.id()
    }

    /// Waits until the process exits on its own.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.program.wait().unwrap()
    }

    /// Returns the base URL, without a trailing slash.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Returns the TCP address that it listens on; panics if it listens on another socket.
    pub(crate) fn address(&self) -> SocketAddr {
        self.url.split_once("://").expect("not an address of TCP").1.parse().unwrap()
    }

    /// Returns a client of this server.
    pub(crate) fn http(&self) -> Http {
        Http::new(self.address())
    }
}

impl Drop for Harmonia {
    fn drop(&mut self) {
        // The watchdog first: it must not kill a process that reuses the process ID.
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

/// Standard error of the program, read by a thread.
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

    /// Waits for the line `listening on URL` and returns the URL; panics if the program exits without it.
    fn url(&self) -> String {
        let line = self.line("listening on ");
        line.split_once("listening on ").unwrap().1.to_owned()
    }

    /// Waits for the first line with this text; panics with the log if none comes.
    fn line(&self, wanted: &str) -> String {
        self.nth_line(wanted, 0)
    }

    /// Waits for the line with this text that `nth` others precede.
    fn nth_line(&self, wanted: &str, nth: usize) -> String {
        let find = |log: &str| log.lines().filter(|line| line.contains(wanted)).nth(nth).map(str::to_owned);
        let waiting = |state: &mut LogState| !state.ended && find(&state.text).is_none();
        let (state, _) = self.changed.wait_timeout_while(self.state.lock().unwrap(), START_TIMEOUT, waiting).unwrap();
        let text = state.text.clone();
        drop(state);
        find(&text).unwrap_or_else(|| panic!("harmonia did not log {wanted:?}:\n{text}"))
    }
}
