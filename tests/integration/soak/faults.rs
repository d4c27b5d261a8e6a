//! Random faults of nix-daemon, of the server and of the disk, and actions of the operator.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::World;
use super::truth::TruePath;
use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::dice::Dice;
use crate::support::server::Harmonia;

/// Target of the faults, owned by the one thread that causes them.
pub(super) struct Plant {
    pub(super) daemon: Daemon,
    pub(super) server: Harmonia,
    /// Configuration of the server, with the address of its first start.
    pub(super) config: PathBuf,
    pub(super) nars: PathBuf,
    pub(super) state: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    KillDaemon,
    LoseDaemon,
    PauseDaemon,
    KillOneConversation,
    RotFile,
    CutFile,
    RemoveFile,
    CollectGarbage,
    AddPaths,
    HangUp,
    TerminateServer,
    KillServer,
}

impl Fault {
    const ALL: [Self; 12] = [
        Self::KillDaemon,
        Self::LoseDaemon,
        Self::PauseDaemon,
        Self::KillOneConversation,
        Self::RotFile,
        Self::CutFile,
        Self::RemoveFile,
        Self::CollectGarbage,
        Self::AddPaths,
        Self::HangUp,
        Self::TerminateServer,
        Self::KillServer,
    ];

    pub(super) fn ends_the_server(self) -> bool {
        matches!(self, Self::TerminateServer | Self::KillServer)
    }
}

impl Plant {
    /// Starts the program with this configuration at the address that clients use.
    pub(super) fn launch(config: &Path) -> Harmonia {
        let mut program = Harmonia::program();
        program.arg("--config").arg(config);
        Harmonia::launch(program)
    }

    /// Causes each kind of fault once, in random order; returns those that it caused.
    pub(super) fn suffer_all(&mut self, world: &World, dice: &mut Dice, without: fn(Fault) -> bool) -> Vec<Fault> {
        let mut left: Vec<_> = Fault::ALL.into_iter().filter(|fault| !without(*fault)).collect();
        let mut suffered = Vec::new();
        while !left.is_empty() && !world.is_over() {
            thread::sleep(Duration::from_millis(100 + dice.below(900) as u64));
            let fault = left.swap_remove(dice.below(left.len()));
            self.inflict(fault, world, dice);
            suffered.push(fault);
        }
        suffered
    }

    fn inflict(&mut self, fault: Fault, world: &World, dice: &mut Dice) {
        match fault {
            Fault::KillDaemon => {
                self.daemon.stop();
                thread::sleep(Duration::from_millis(dice.below(1500) as u64));
                // An upgrade, perhaps.
                let release = *dice.pick(&Release::ALL[self.daemon.release() as usize..]);
                self.daemon.restart(release);
            }
            // This is longer than the restarts that a server bridges.
            Fault::LoseDaemon => {
                self.daemon.stop();
                world.is_told_that_nothing_can_be_said();
                self.daemon.restart(self.daemon.release());
            }
            Fault::PauseDaemon => {
                let processes = self.daemon.processes();
                signal(&processes, Signal::STOP);
                thread::sleep(Duration::from_millis(100 + dice.below(2500) as u64));
                signal(&processes, Signal::CONT);
            }
            Fault::KillOneConversation => {
                // The first is the one that listens.
                if let Some((_, conversations)) = self.daemon.processes().split_first() {
                    if !conversations.is_empty() {
                        signal(&[*dice.pick(conversations)], Signal::KILL);
                    }
                }
            }
            Fault::RotFile => self.with_a_file(dice, |file, dice| {
                let mut bytes = fs::read(file)?;
                if !bytes.is_empty() {
                    let at = dice.below(bytes.len());
                    bytes[at] ^= 0x10;
                }
                // Written in place: the server may have it open.
                fs::write(file, bytes)
            }),
            Fault::CutFile => self.with_a_file(dice, |file, dice| {
                let file = fs::OpenOptions::new().write(true).open(file)?;
                let length = usize::try_from(file.metadata()?.len()).unwrap();
                file.set_len(dice.below(length + 1) as u64)
            }),
            Fault::RemoveFile => self.with_a_file(dice, |file, _| fs::remove_file(file)),
            Fault::CollectGarbage => self.collect_garbage(world),
            Fault::AddPaths => self.add_paths(world),
            Fault::HangUp => self.server.reload(),
            Fault::TerminateServer => {
                self.server.terminate();
                let status = self.server.ended();
                assert!(status.success(), "the server ended with {status}");
                self.server = Self::launch(&self.config);
            }
            Fault::KillServer => {
                self.server.kill();
                self.server = Self::launch(&self.config);
            }
        }
    }

    /// Damages a complete file of the NAR cache, unless it was removed meanwhile.
    fn with_a_file(&self, dice: &mut Dice, change: impl Fn(&Path, &mut Dice) -> std::io::Result<()>) {
        let mut files = files(&self.nars);
        // A server that starts without the tag of its directory refuses it.
        files.retain(|file| !file.starts_with(self.nars.join("tmp")) && !file.ends_with("CACHEDIR.TAG"));
        files.sort_unstable();
        if !files.is_empty() {
            let file = dice.pick(&files).clone();
            let _ = change(&file, dice);
        }
    }

    /// Runs the garbage collector.
    fn collect_garbage(&self, world: &World) {
        world.passing().for_each(TruePath::changes);
        let _ = self.daemon.run(&["nix-store", "--gc"]).stdout();
        let paths: Vec<_> = world.passing().map(|path| path.path.as_str()).collect();
        let invalid =
            self.daemon.run(&[&["nix-store", "--check-validity", "--print-invalid"], &*paths].concat()).text();
        for path in world.passing() {
            path.is_now(!invalid.lines().any(|line| line == path.path));
        }
    }

    pub(super) fn add_paths(&self, world: &World) {
        world.passing().for_each(TruePath::changes);
        add_paths(&self.daemon, world.passing().count());
        world.passing().for_each(|path| path.is_now(true));
    }
}

/// Adds this many paths without GC roots to the store; returns them.
pub(super) fn add_paths(daemon: &Daemon, count: usize) -> Vec<String> {
    let files: Vec<_> = (0..count).map(|number| format!("/nix/tmp/passing-{number}")).collect();
    for (number, file) in files.iter().enumerate() {
        // Of up to some megabytes, compressible, and each another.
        let line = format!("line of path {number}, and some more of it\n");
        fs::write(daemon.on_host(file), line.repeat(1 + 20_000 * number)).unwrap();
    }
    let files: Vec<_> = files.iter().map(String::as_str).collect();
    let added = daemon.run(&[&["nix-store", "--add"], &*files].concat()).text();
    added.lines().map(str::to_owned).collect()
}

/// Sends a signal, unless the process has ended meanwhile.
fn signal(processes: &[u32], signal: Signal) {
    for process in processes {
        let pid = Pid::from_raw(i32::try_from(*process).unwrap()).unwrap();
        let _ = kill_process(pid, signal);
    }
}

/// Returns all files below a directory but the lock.
pub(super) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(dir).into_iter().flatten().map_while(Result::ok).map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(files(&path));
        } else if !path.ends_with("lock") {
            found.push(path);
        }
    }
    found
}
