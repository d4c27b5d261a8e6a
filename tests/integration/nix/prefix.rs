//! Private `/nix` for a release: store, database, configuration and home. Only the programs are shared.
//!
//! Every program runs in a mount namespace and a PID namespace of its own, in a chroot of its suite with the prefix bound
//! over `/nix`. So all releases have the store directory `/nix/store`, as real hosts do: paths, NARs and signatures can be
//! compared, and any client can copy from any daemon. A chroot, unlike running the suite's dynamic linker on the host,
//! gives each release its own libraries on any architecture and hides the host's `/nix`, `/etc/nix` and users. The network
//! is the host's. Without root a user namespace is used as well.
//!
//! Killing `unshare` kills PID 1 of the namespace and so everything in it; [`Prefix::serve`] describes when that happens.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::nix::release::Release;
use crate::support::scratch;

/// Upper bound of a command: the slowest, which copies some hundred paths, takes less than ten seconds.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(180);

/// Script with the root as `$0`, the prefix as `$1`, and the command as the rest. It shows the directory of the test run as well:
/// a daemon has to see the symlinks there that are GC roots.
const ENTER: &str = r#"
set -e
mount --bind "$1" "$0/nix"
mount --rbind /proc "$0/proc"
mount --rbind /dev "$0/dev"
mount -t tmpfs tmpfs "$0/tmp"
mkdir -p "$0${1%/*}"
mount --bind "${1%/*}" "$0${1%/*}"
shift
set +e
"#;
/// Script that runs a command without `exec`: as PID 1 it would ignore its own signals, such as that of `abort`.
const RUN: &str = r#"chroot "$0" "$@"; exit "$?""#;
/// Script that ends when the command or standard input ends, and with it everything in the PID namespace.
const SERVE: &str = r#"
exec 3<&0
chroot "$0" "$@" </dev/null &
cat <&3 >/dev/null &
wait -n
"#;

/// Private `/nix`; removed on drop.
pub(crate) struct Prefix {
    release: Release,
    dir: PathBuf,
}

impl Prefix {
    /// Creates an empty store, and a `nix.conf` with these lines and those that every test needs.
    pub(crate) fn new(release: Release, config: &[String]) -> Self {
        let dir = scratch::fresh_dir();
        for sub in ["store", "etc", "home", "tmp"] {
            fs::create_dir(dir.join(sub)).unwrap();
        }
        let mut lines = vec![
            "build-users-group =".to_owned(),
            "sandbox = false".to_owned(),
            // Nothing needs to survive a power failure.
            "fsync-metadata = false".to_owned(),
        ];
        if release != Release::Nix2_3 {
            lines.push("experimental-features = nix-command".to_owned());
        }
        lines.extend_from_slice(config);
        fs::write(dir.join("etc/nix.conf"), lines.join("\n") + "\n").unwrap();
        Self { release, dir }
    }

    /// Changes to the programs of another release.
    pub(crate) fn change_release(&mut self, release: Release) {
        self.release = release;
    }

    pub(crate) fn release(&self) -> Release {
        self.release
    }

    /// Returns the path on the host of a path below `/nix`.
    pub(crate) fn on_host(&self, path: &str) -> PathBuf {
        let below = path.strip_prefix("/nix/").expect("only paths below /nix are in a prefix");
        self.dir.join(below)
    }

    /// Runs a command until it exits.
    pub(crate) fn run(&self, command: &[&str]) -> Outcome {
        self.run_with_input(command, Vec::new())
    }

    /// Runs a command with this standard input until it exits.
    pub(crate) fn run_with_input(&self, command: &[&str], input: Vec<u8>) -> Outcome {
        self.run_within(COMMAND_TIMEOUT, command, input)
    }

    /// Runs a command with this standard input and this timeout.
    pub(crate) fn run_within(&self, time: Duration, command: &[&str], input: Vec<u8>) -> Outcome {
        let mut limited = Command::new("timeout");
        limited.args(["--foreground", "--signal=KILL", &time.as_secs().to_string()]);
        let mut child = self
            .enter(limited, RUN, command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cannot run timeout");
        let mut stdin = child.stdin.take().unwrap();
        // In another thread, since the command may write before it has read everything; one that exits early breaks the pipe.
        let writer = thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().unwrap();
        let _ = writer.join();
        Outcome {
            command: format!("{} of {}", command.join(" "), self.release),
            success: output.status.success(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts a command that runs until the child's standard input is closed, at the latest by the end of the test binary. A
    /// parent death signal would come when the spawning thread ends, which is too early.
    pub(crate) fn serve(&self, command: &[&str], log: &Path) -> Child {
        let log = File::create(log).unwrap();
        self.enter(Command::new("env"), SERVE, command)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("cannot run env")
    }

    /// Writes a script on the host that executes this command with the script's standard input and output.
    pub(crate) fn script(&self, command: &[&str]) -> PathBuf {
        let entering = self.enter(Command::new("env"), RUN, command);
        let quoted = |word: &OsStr| format!("'{}'", word.to_str().unwrap().replace('\'', r"'\''"));
        let variables =
            entering.get_envs().filter_map(|(name, value)| Some(quoted(&[name, value?].join(OsStr::new("=")))));
        let words = entering.get_args().map(quoted);
        let line: Vec<_> = ["exec env -i".to_owned()].into_iter().chain(variables).chain(words).collect();
        let path = scratch::fresh_dir().join("script");
        fs::write(&path, format!("#!/bin/sh\n{}\n", line.join(" "))).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn enter(&self, mut outer: Command, script: &str, command: &[&str]) -> Command {
        outer.arg("unshare");
        if !rustix::process::geteuid().is_root() {
            outer.arg("--map-root-user");
        }
        outer
            .args(["--mount", "--pid", "--fork", "--kill-child", "bash", "-c"])
            .arg(format!("{ENTER}{script}"))
            .arg(self.release.root())
            .arg(&self.dir)
            .args(command)
            .env_clear()
            .envs([
                ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
                ("HOME", "/nix/home"),
                ("TMPDIR", "/nix/tmp"),
                ("NIX_CONF_DIR", "/nix/etc"),
                // Only needed for https.
                ("NIX_SSL_CERT_FILE", "/nix/etc/ca.pem"),
                ("LC_ALL", "C.UTF-8"),
            ]);
        outer
    }
}

impl Drop for Prefix {
    fn drop(&mut self) {
        scratch::remove(&self.dir);
    }
}

/// Outcome of a command.
#[must_use]
pub(crate) struct Outcome {
    command: String,
    success: bool,
    stdout: Vec<u8>,
    stderr: String,
}

impl Outcome {
    /// Returns standard output; panics if the command failed.
    pub(crate) fn stdout(self) -> Vec<u8> {
        assert!(self.success, "{} failed:\n{}", self.command, self.stderr);
        self.stdout
    }

    /// Returns standard output as text without the last line feed; panics if the command failed.
    pub(crate) fn text(self) -> String {
        String::from_utf8(self.stdout()).unwrap().trim_end().to_owned()
    }

    /// Returns whether it exited with zero.
    pub(crate) fn succeeded(&self) -> bool {
        self.success
    }

    /// Returns standard error; panics if the command succeeded.
    pub(crate) fn failure(self) -> String {
        assert!(!self.success, "{} should have failed:\n{}", self.command, self.stderr);
        self.stderr
    }
}
