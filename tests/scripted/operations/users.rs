//! `harmonia user`: the users file, and passwords from a terminal and from standard input.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::support::scratch;
use crate::support::server::Harmonia;

fn users_file() -> PathBuf {
    scratch::fresh_dir().join("users")
}

fn user(arguments: &[&str], file: &Path) -> Command {
    let mut program = Harmonia::program();
    program.arg("user").args(arguments).arg("--file").arg(file).stdout(Stdio::piped()).stderr(Stdio::piped());
    program
}

/// Runs a command with this standard input, which is no terminal.
fn run(arguments: &[&str], file: &Path, input: &str) -> Output {
    let mut child = user(arguments, file).stdin(Stdio::piped()).spawn().unwrap();
    // It may end before it has read anything.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> (String, String) {
    (String::from_utf8(output.stdout.clone()).unwrap(), String::from_utf8(output.stderr.clone()).unwrap())
}

#[test]
fn users_are_added_listed_changed_and_removed() {
    let file = users_file();
    for (name, password, did) in [
        ("alice", "correct horse\n", "added alice in "),
        ("bob", "battery staple\n", "added bob in "),
        ("alice", "another one\n", "changed the password of alice in "),
    ] {
        let output = run(&["add", name], &file, password);
        let (stdout, stderr) = text(&output);
        assert!(output.status.success() && stderr.is_empty(), "{stderr}");
        assert!(stdout.starts_with(did) && stdout.contains("systemctl reload harmonia"), "{stdout}");
        assert!(!stdout.contains(password.trim()));
    }
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(text(&run(&["list"], &file, "")).0, "alice\nbob\n");
    let removed = run(&["remove", "alice"], &file, "");
    assert!(removed.status.success() && text(&removed).0.starts_with("removed alice from "));
    assert_eq!(text(&run(&["list"], &file, "")).0, "bob\n");
    let contents = fs::read_to_string(&file).unwrap();
    assert!(contents.starts_with("bob:$2y$10$") && contents.lines().count() == 1, "{contents}");
}

#[test]
fn what_cannot_be_is_refused_with_a_way_out_and_changes_nothing() {
    let file = users_file();
    assert!(run(&["add", "alice"], &file, "correct horse\n").status.success());
    let before = fs::read(&file).unwrap();
    let long = format!("{}\n", "p".repeat(73));
    for (arguments, input, code, said) in [
        (&["add", "a:b"][..], "correct horse\n", 65, "cannot be a user: the name has the character ':'"),
        (&["add", "bob"], "brief\n", 65, "the password is shorter than 8 bytes"),
        (&["add", "bob"], &long, 65, "the password is longer than 72 bytes"),
        (&["add", "bob"], "tab\tulator\n", 65, "the password has a control character"),
        (&["add", "bob"], "", 65, "no password was given"),
        (&["remove", "bob"], "", 65, "has no user \"bob\""),
    ] {
        let output = run(arguments, &file, input);
        let (stdout, stderr) = text(&output);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(said) && stderr.contains("help: ") && stdout.is_empty(), "{stderr}");
        assert!(input.trim().is_empty() || !stderr.contains(input.trim()), "{stderr}");
        assert_eq!(fs::read(&file).unwrap(), before);
    }
    let absent = users_file();
    assert_eq!(run(&["remove", "bob"], &absent, "").status.code(), Some(78));
    assert!(!absent.exists());
    fs::write(&file, "alice:correct horse\n").unwrap();
    let output = run(&["add", "bob"], &file, "battery staple\n");
    let stderr = text(&output).1;
    assert_eq!(output.status.code(), Some(78));
    assert!(
        stderr.contains(&format!("{}:1: user \"alice\": ", file.display())) && !stderr.contains("horse"),
        "{stderr}"
    );
}

#[test]
fn the_file_is_that_of_the_configuration() {
    let directory = scratch::fresh_dir();
    let (config, file) = (directory.join("config.toml"), directory.join("users"));
    fs::write(&config, format!("[access]\nanonymous = []\nusers_file = \"{}\"\n", file.display())).unwrap();
    let with_config = |arguments: &[&str]| {
        let mut program = Harmonia::program();
        program.arg("--config").arg(&config).arg("user").args(arguments);
        program.stdout(Stdio::piped()).stderr(Stdio::piped());
        program
    };
    let mut add = with_config(&["add", "alice"]).stdin(Stdio::piped()).spawn().unwrap();
    add.stdin.take().unwrap().write_all(b"correct horse\n").unwrap();
    let output = add.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output).1);
    assert!(fs::read_to_string(&file).unwrap().starts_with("alice:$2y$"));
    fs::write(&config, "").unwrap();
    let output = with_config(&["list"]).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output).1.contains("no users file is configured"), "{}", text(&output).1);
}

/// A terminal whose user waits for each question before typing.
struct Terminal {
    user: fs::File,
    program: OwnedFd,
    shown: String,
}

impl Terminal {
    fn open() -> Self {
        let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&user).unwrap();
        unlockpt(&user).unwrap();
        let name = ptsname(&user, Vec::new()).unwrap().into_string().unwrap();
        let program = fs::OpenOptions::new().read(true).write(true).open(name).unwrap();
        Self { user: user.into(), program: program.into(), shown: String::new() }
    }

    fn wait_for(&mut self, question: &str) {
        let from = self.shown.len();
        while !self.shown[from..].contains(question) {
            let mut bytes = [0; 256];
            let length = self.user.read(&mut bytes).unwrap();
            self.shown.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        }
    }

    /// Runs `user add alice` on this terminal, with these lines typed, and returns its exit status.
    fn add(&mut self, file: &Path, typed: [&str; 2]) -> Option<i32> {
        let [stdin, stderr] = [(); 2].map(|()| self.program.try_clone().unwrap());
        let mut child = user(&["add", "alice"], file).stdin(stdin).stderr(stderr).spawn().unwrap();
        for (question, typed) in ["Password of alice: ", "The same again: "].into_iter().zip(typed) {
            self.wait_for(question);
            self.user.write_all(typed.as_bytes()).unwrap();
            if typed.ends_with('\x03') {
                break;
            }
        }
        child.wait().unwrap().code()
    }

    fn shows_what_is_typed(&self) -> bool {
        use rustix::termios::LocalModes;

        let modes = rustix::termios::tcgetattr(&self.program).unwrap().local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
    }
}

#[test]
fn a_terminal_is_asked_twice_and_shows_no_password() {
    let file = users_file();
    for (typed, code) in [
        (["correct horse\r", "correct house\x7f\x7f\x7frse\r"], Some(0)),
        (["correct horse\r", "battery staple\r"], Some(65)),
        (["correct horse\x03", ""], Some(65)),
    ] {
        let mut terminal = Terminal::open();
        assert_eq!(terminal.add(&file, typed), code, "{}", terminal.shown);
        assert!(terminal.shows_what_is_typed());
        // Whatever is left to read ends with this.
        rustix::io::write(&terminal.program, b"the end").unwrap();
        terminal.wait_for("the end");
        assert!(!terminal.shown.contains("horse") && !terminal.shown.contains("staple"), "{}", terminal.shown);
    }
    assert_eq!(text(&run(&["list"], &file, "")).0, "alice\n");
}

#[test]
fn a_user_is_let_in_after_being_added_on_a_terminal_and_no_longer_after_being_removed() {
    let file = users_file();
    assert!(run(&["add", "carol"], &file, "battery staple\n").status.success());
    let harmonia = Harmonia::start(&format!(
        "daemon_socket = \"/nonexistent\"\ntrusted_proxies = []\n[access]\nusers_file = \"{}\"\n[[access.grant]]\n\
         who = [\"user:*\"]\nmay = [\"read\"]\n",
        file.display()
    ));
    let status = |password: &str| {
        let credentials = data_encoding::BASE64.encode(format!("alice:{password}").as_bytes());
        let headers = [("Authorization", &*format!("Basic {credentials}"))];
        harmonia.http().get_with("/nix-cache-info", &headers).status
    };
    let reload = |users: usize, times: usize| {
        harmonia.reload();
        harmonia.wait_for_log_times(&format!("reloaded access: 1 grants, {users} users"), times);
    };
    assert_eq!(status("correct horse"), 401);
    assert_eq!(Terminal::open().add(&file, ["correct horse\r", "correct horse\r"]), Some(0));
    reload(2, 1);
    assert_eq!((status("correct horse"), status("another one")), (200, 401));
    assert_eq!(Terminal::open().add(&file, ["another one\r", "another one\r"]), Some(0));
    reload(2, 2);
    assert_eq!((status("correct horse"), status("another one")), (401, 200));
    assert!(run(&["remove", "alice"], &file, "").status.success());
    reload(1, 1);
    assert_eq!(status("another one"), 401);
}
