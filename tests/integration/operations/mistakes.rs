//! Operators' mistakes and their error messages: each names the object, the cause and the remedy, and the exit status tells
//! a unit or a script what to do.
//!
//! With `HARMONIA_MISTAKES=FILE` the table is written there, each mistake with its message.

#![allow(clippy::unnecessary_debug_formatting, reason = "a path in TOML is in quotes")]

mod around;
mod configuration;
mod secrets;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::scratch;
use crate::support::server::Harmonia;

/// Mistake, and the expected message and exit status.
struct Mistake {
    what: &'static str,
    /// Configuration file, if one is passed.
    config: Option<String>,
    arguments: Vec<String>,
    variables: Vec<(&'static str, String)>,
    code: i32,
    /// Parts of the message, in order.
    message: Vec<String>,
}

impl Mistake {
    /// Returns a mistake in a configuration file, for `harmonia check`.
    fn in_file(what: &'static str, config: impl Into<String>, code: i32, message: &[&str]) -> Self {
        let message = message.iter().map(|part| (*part).to_owned()).collect();
        let config = Some(config.into());
        Self { what, config, arguments: vec!["check".to_owned()], variables: Vec::new(), code, message }
    }

    /// Returns a mistake on the command line.
    fn on_command_line(what: &'static str, arguments: &[&str], code: i32, message: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self { arguments, config: None, ..Self::in_file(what, "", code, message) }
    }

    /// Returns a mistake in the environment of `harmonia check`.
    fn in_environment(what: &'static str, name: &'static str, value: &str, code: i32, message: &[&str]) -> Self {
        let made = Self::on_command_line(what, &["check"], code, message);
        Self { variables: vec![(name, value.to_owned())], ..made }
    }

    /// Makes the mistake; returns exit status and log.
    fn make(&self, daemon: &Path) -> (Option<i32>, String) {
        let mut program = Harmonia::program();
        program.env("NIX_DAEMON_SOCKET_PATH", daemon).envs(self.variables.iter().map(|(name, value)| (name, value)));
        program.args(&self.arguments).current_dir(scratch::fresh_dir());
        if let Some(config) = &self.config {
            program.arg("--config").arg(file("config.toml", config));
        }
        let says_where = |text: &str| text.contains("bind = ") || text.contains("--bind");
        if !self.config.iter().chain(&self.arguments).any(|text| says_where(text)) {
            program.args(["--bind", "127.0.0.1:0"]);
        }
        let ended = program.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    }

    /// Returns why the message is not as expected.
    fn judge(&self, code: Option<i32>, log: &str) -> Result<(), String> {
        if code != Some(self.code) {
            return Err(format!("exit status {code:?}, not {}", self.code));
        }
        let mut rest = log;
        for part in &self.message {
            rest = rest.split_once(part.as_str()).ok_or_else(|| format!("does not say {part:?}"))?.1;
        }
        // The accepted values of a key are the remedy.
        let has_way_out =
            ["help: ", "expected ", "For more information, try '--help'"].iter().any(|it| log.contains(it));
        if has_way_out { Ok(()) } else { Err("names no way out".to_owned()) }
    }
}

/// Creates a file with this text.
fn file(name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = scratch::fresh_dir().join(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn every_mistake_is_reported_with_its_object_its_cause_and_a_help() {
    let daemon = Daemon::shared(Release::Nix2_34).socket();
    // Some need what lives for as long as they are made.
    let (around, _kept) = around::mistakes();
    let mistakes: Vec<_> = configuration::mistakes().into_iter().chain(secrets::mistakes()).chain(around).collect();
    assert!(mistakes.len() >= 60, "{}", mistakes.len());
    let (mut table, mut wrong) = (String::new(), String::new());
    for (number, mistake) in mistakes.iter().enumerate() {
        let (code, log) = mistake.make(&daemon);
        let told = told(&log);
        writeln!(table, "{:>3}. {}\n     exit status {}\n{told}", number + 1, mistake.what, code.unwrap_or(-1))
            .unwrap();
        if let Err(why) = mistake.judge(code, &log) {
            writeln!(wrong, "{}: {why}:\n{told}", mistake.what).unwrap();
        }
    }
    if let Some(path) = std::env::var_os("HARMONIA_MISTAKES") {
        fs::write(path, table).unwrap();
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Returns the messages without timestamps, indented.
fn told(log: &str) -> String {
    let levels = ["ERROR", "WARN", "INFO"];
    let without_time = |line: &str| levels.iter().find_map(|level| Some(line[line.find(level)?..].to_owned()));
    let mut text = String::new();
    for line in log.lines().filter(|line| !line.is_empty()) {
        writeln!(text, "     {}", without_time(line).unwrap_or_else(|| line.to_owned())).unwrap();
    }
    text
}
