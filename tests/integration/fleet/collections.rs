//! Garbage collections beside the faults of a soak, from a machine that has none itself. Some of them are killed.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::host::Item;
use super::load::Running;
use super::shared_bucket::within;
use crate::support::dice::Dice;
use crate::support::exit::{DATA, OK};
use crate::support::s3_proxy::S3Proxy;
use crate::support::scratch;
use crate::support::server::Harmonia;

/// Age at which paths of nobody are garbage, and NARs without a narinfo too.
const KEEP: &str = "60s";
/// Time before a run: garbage has to be old enough. All faults happen meanwhile.
const PAUSE: Duration = Duration::from_secs(90);
/// Upper bound of a run, which waits for two minutes, or of one that watches whether another one is dead.
const LONGEST: Duration = Duration::from_secs(400);
/// Steps of the soak for each of which one run is killed. A run takes about as many.
const KILLED: usize = 60;

/// Garbage, and whoever collects it.
pub(super) struct Collections {
    config: PathBuf,
    run: Option<Child>,
    next: Instant,
    /// Paths that nobody needs, which all hosts have.
    garbage: Vec<Item>,
    begun: usize,
    killed: usize,
    said: Vec<String>,
}

impl Collections {
    /// Pins what clients ask for, and adds garbage.
    pub(super) fn new(running: &Running) -> Self {
        pin(running, "asked", &running.paths.iter().map(String::as_str).collect::<Vec<_>>());
        let config = scratch::fresh_dir().join("config.toml");
        let table = running.fleet.table("operator", &S3Proxy::new(running.fleet.engine().address()));
        // The hosts' access key is wrong for a while.
        let lines = table.lines().filter(|line| !line.starts_with("credentials_file"));
        fs::write(&config, lines.collect::<Vec<_>>().join("\n")).unwrap();
        let (run, garbage, said) = (None, Vec::new(), Vec::new());
        let mut new = Self { config, run, next: Instant::now(), garbage, begun: 0, killed: 0, said };
        new.litter(running);
        new
    }

    /// Adds garbage, for the next run.
    fn litter(&mut self, running: &Running) {
        let items = Item::closure(&format!("garbage-{}", self.begun), 6, 3000);
        for host in &running.hosts {
            host.add(&items);
        }
        self.garbage.extend(items);
        self.next = Instant::now() + PAUSE;
    }

    /// Returns a path that may be garbage.
    pub(super) fn old(&self, dice: &mut Dice) -> Option<String> {
        (!self.garbage.is_empty()).then(|| dice.pick(&self.garbage).path.clone())
    }

    /// Begins a run if there is none, or kills it perhaps. Returns whether one runs: storage nodes have to be there for it.
    pub(super) fn go_on(&mut self, running: &Running, dice: &mut Dice) -> bool {
        let has_ended = self.run.as_mut().is_some_and(|run| run.try_wait().unwrap().is_some());
        if !has_ended && self.run.is_some() && dice.one_in(KILLED) {
            self.run.as_mut().unwrap().kill().unwrap();
            self.killed += 1;
            self.end();
            // Gone on with at once.
            self.begin(running);
        } else if has_ended {
            self.end();
            self.litter(running);
        } else if self.run.is_none() && Instant::now() >= self.next {
            running.fleet.engine().repair();
            self.begin(running);
        }
        self.run.is_some()
    }

    fn begin(&mut self, running: &Running) {
        let engine = running.fleet.engine();
        let mut program = Harmonia::program();
        program.env("AWS_ACCESS_KEY_ID", engine.access_key()).env("AWS_SECRET_ACCESS_KEY", engine.secret_key());
        program.arg("--config").arg(&self.config).args(["bucket", "gc", "--keep", KEEP, "--keep-nars", KEEP]);
        self.run = Some(program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        self.begun += 1;
    }

    /// Waits for the end of the run, if there is one.
    pub(super) fn end(&mut self) {
        if let Some(run) = self.run.take() {
            let output = run.wait_with_output().unwrap();
            self.said.push(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned());
        }
    }

    /// Returns how many runs there were.
    pub(super) fn summary(&self) -> String {
        let deleted = self.said.iter().filter(|said| said.contains(": deleted ")).count();
        format!(
            "{} garbage collections, {deleted} of them to the end, {} killed: {:?}",
            self.begun, self.killed, self.said
        )
    }
}

/// Keeps paths, which may not be in the bucket yet.
pub(super) fn pin(running: &Running, name: &str, paths: &[&str]) {
    let arguments = [&["bucket", "pin", name], paths].concat();
    within(LONGEST, "a pin", || matches!(running.hosts[0].command(&arguments).status.code(), Some(OK | DATA)));
}
