//! Garbage collections beside the faults of a soak, some of which are killed.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::host::Item;
use super::load::Running;
use super::shared_bucket::within;
use crate::support::dice::Dice;
use crate::support::exit::{DATA, OK};

/// Age at which paths of nobody are garbage, and NARs without a narinfo too.
const KEEP: &str = "60s";
const PAUSE: Duration = Duration::from_secs(30);
/// Upper bound of a run, which waits for two minutes, or of one that watches whether another one is dead.
const LONGEST: Duration = Duration::from_secs(400);
/// Steps of the soak for each of which one run is killed. A run takes about as many.
const KILLED: usize = 60;

/// Garbage, and whoever collects it.
pub(super) struct Collections {
    run: Option<Child>,
    next: Instant,
    /// Paths that nobody needs, which all hosts have.
    garbage: Vec<Item>,
    begun: usize,
    killed: usize,
    /// What the runs said.
    said: Vec<String>,
}

impl Collections {
    /// Pins what clients ask for.
    pub(super) fn new(running: &Running) -> Self {
        pin(running, "asked", &running.paths.iter().map(String::as_str).collect::<Vec<_>>());
        let (run, garbage, said) = (None, Vec::new(), Vec::new());
        Self { run, next: Instant::now(), garbage, begun: 0, killed: 0, said }
    }

    /// Returns a path that may be garbage.
    pub(super) fn old(&self, dice: &mut Dice) -> Option<String> {
        (!self.garbage.is_empty()).then(|| dice.pick(&self.garbage).path.clone())
    }

    /// Begins a run if there is none, or kills it perhaps. Returns whether one runs: storage nodes have to be there for it.
    pub(super) fn go_on(&mut self, running: &Running, dice: &mut Dice) -> bool {
        if self.run.as_mut().is_some_and(|run| run.try_wait().unwrap().is_some()) {
            self.end();
        } else if dice.one_in(KILLED) && self.run.is_some() {
            self.run.as_mut().unwrap().kill().unwrap();
            self.killed += 1;
            self.end();
        } else if self.run.is_none() && Instant::now() >= self.next {
            running.fleet.engine().repair();
            self.begin(running, dice);
        }
        self.run.is_some()
    }

    fn begin(&mut self, running: &Running, dice: &mut Dice) {
        let items = Item::closure(&format!("garbage-{}", self.begun), 6, 3000);
        for host in &running.hosts {
            host.add(&items);
        }
        self.garbage.extend(items);
        let mut program = dice.pick(&running.hosts).program();
        program.args(["bucket", "gc", "--keep", KEEP, "--keep-nars", KEEP]);
        self.run = Some(program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        self.begun += 1;
    }

    /// Waits for the end of the run, if there is one.
    pub(super) fn end(&mut self) {
        if let Some(run) = self.run.take() {
            let output = run.wait_with_output().unwrap();
            self.said.push(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned());
            self.next = Instant::now() + PAUSE;
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
