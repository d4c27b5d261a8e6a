//! Real nix-daemon of a release, on a private store with the test content.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::nix::content::{self, Content};
use crate::nix::prefix::{Outcome, Prefix};
use crate::nix::release::Release;
use crate::support::keys::{self, Key};
use crate::support::server::Harmonia;

const COMMAND: [&str; 2] = ["nix-daemon", "--daemon"];
const SOCKET: &str = "/nix/var/nix/daemon-socket/socket";
/// Upper bound of a start, which takes milliseconds unless the machine is busy.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest path that fits in `sun_path` with its NUL.
const MAX_SOCKET_PATH: usize = 107;

/// A running nix-daemon; killed with all of its children on drop, and at the end of the test binary.
pub(crate) struct Daemon {
    process: Child,
    log: PathBuf,
    content: Content,
    // Last, so that the daemon has ended before its store is removed.
    prefix: Prefix,
}

impl Daemon {
    /// Returns the daemon of a release that all tests share, started at the first call.
    pub(crate) fn shared(release: Release) -> &'static Self {
        static SHARED: [OnceLock<Daemon>; Release::ALL.len()] = [const { OnceLock::new() }; Release::ALL.len()];
        SHARED[release as usize].get_or_init(|| Self::start(release))
    }

    /// Starts a daemon on a store with the test content and waits until it accepts connections.
    pub(crate) fn start(release: Release) -> Self {
        let prefix = Prefix::new(release, &["substitute = false".to_owned()]);
        let content = Content::populate(&prefix);
        Self::on(prefix, content)
    }

    /// Starts a daemon on a store that already has this content.
    pub(crate) fn on(prefix: Prefix, content: Content) -> Self {
        let log = prefix.on_host("/nix/daemon.log");
        let process = prefix.serve(&COMMAND, &log);
        let mut daemon = Self { process, log, content, prefix };
        daemon.wait_until_it_accepts();
        daemon
    }

    fn wait_until_it_accepts(&mut self) {
        let socket = self.socket();
        let length = socket.as_os_str().len();
        assert!(length <= MAX_SOCKET_PATH, "{} is too long\n  help: set TMPDIR to a shorter path", socket.display());
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            match UnixStream::connect(&socket) {
                Ok(_) => return,
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {}
                Err(error) => panic!("cannot connect to {}: {error}", socket.display()),
            }
            let ended = self.process.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "the daemon of {} does not listen, {}:\n{}",
                self.release(),
                ended.map_or("yet".to_owned(), |status| status.to_string()),
                fs::read_to_string(&self.log).unwrap()
            );
            // No event tells that it listens.
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills it with all of its children; its store stays.
    pub(crate) fn stop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }

    /// Starts the daemon of the same or another release on the store of one that was stopped.
    pub(crate) fn restart(&mut self, release: Release) {
        self.prefix.change_release(release);
        self.process = self.prefix.serve(&COMMAND, &self.log);
        self.wait_until_it_accepts();
    }

    /// Returns the process IDs: first the one that listens, then one for each connection.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mut found = vec![self.process.id()];
        let mut next = 0;
        while let Some(pid) = found.get(next) {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            found.extend(children.split_whitespace().map(|child| child.parse::<u32>().unwrap()));
            next += 1;
        }
        let is_daemon =
            |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|it| it == "nix-daemon\n");
        found.retain(is_daemon);
        found
    }

    pub(crate) fn release(&self) -> Release {
        self.prefix.release()
    }

    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    /// Returns the path of the socket on the host.
    pub(crate) fn socket(&self) -> PathBuf {
        self.prefix.on_host(SOCKET)
    }

    /// Returns the path on the host of a path below `/nix`.
    pub(crate) fn on_host(&self, path: &str) -> PathBuf {
        self.prefix.on_host(path)
    }

    /// Returns a program on the host that speaks the worker protocol on its standard input and output, for the same store.
    pub(crate) fn stdio_command(&self) -> PathBuf {
        self.prefix.script(&["nix-daemon", "--stdio"])
    }

    /// Runs a program of the release on the daemon's store without the daemon.
    pub(crate) fn run(&self, command: &[&str]) -> Outcome {
        self.prefix.run(command)
    }

    /// Registers a path that is in the store directory, without references and without the daemon.
    pub(crate) fn register(&self, path: &str) {
        let registration = format!("{path}\n\n0\n").into_bytes();
        let _ = self.prefix.run_with_input(&["nix-store", "--register-validity"], registration).stdout();
    }

    /// Registers paths with their references, in order, without the daemon. Their files are in the store directory.
    pub(crate) fn register_all(&self, paths: &[(String, Vec<String>)]) {
        let mut registration = String::new();
        for (path, references) in paths {
            // Path, deriver, number of references, and every reference.
            let (count, references) = (references.len().to_string(), references.iter().map(String::as_str));
            for line in [path.as_str(), "", &count].into_iter().chain(references) {
                registration.push_str(line);
                registration.push('\n');
            }
        }
        let _ = self.prefix.run_with_input(&["nix-store", "--register-validity"], registration.into_bytes()).stdout();
    }

    /// Signs a path of the store without the daemon.
    pub(crate) fn sign(&self, key: &Key, path: &str) {
        content::sign(&self.prefix, key, path);
    }

    /// Returns the output of `nix path-info --json` for a path, as an object.
    pub(crate) fn path_info(&self, path: &str) -> Value {
        let command: &[&str] = match self.release() {
            // Without it Nix warns that this will become an error.
            Release::Nix2_34 => &["nix", "path-info", "--json", "--json-format", "1", path],
            _ => &["nix", "path-info", "--json", path],
        };
        match serde_json::from_slice(&self.run(command).stdout()).unwrap() {
            // Older releases print a list of objects, newer ones an object of objects.
            Value::Array(mut infos) => infos.remove(0),
            Value::Object(mut infos) => infos.remove(path).unwrap(),
            other => panic!("path-info of {} said {other}", self.release()),
        }
    }

    /// Returns the file of its log.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Harmonia {
    /// Starts harmonia with this daemon, signing with [`keys::OURS`].
    pub(crate) fn for_daemon(daemon: &Daemon) -> Self {
        let mut harmonia = Self::start(&format!(
            "daemon_socket = \"{}\"\nsign_key_paths = [\"{}\"]\n",
            daemon.socket().display(),
            keys::OURS.secret.display()
        ));
        harmonia.daemon_log = Some(daemon.log().to_owned());
        harmonia
    }
}
