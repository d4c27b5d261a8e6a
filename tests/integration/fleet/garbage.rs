//! Garbage collections of the bucket while hosts publish into it: no narinfo is ever without its NAR or a reference.
//!
//! The clocks of all programs are fast, so that runs, and what hosts wait for them, take seconds.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::host::{Host, Item};
use super::shared_bucket::Fleet;
use crate::support::clock;
use crate::support::dice::Dice;
use crate::support::engine::Kind;
use crate::support::exit::OK;
use crate::support::server::Harmonia;

/// Times that clocks are fast: leases have to be renewed within seconds, also on a busy machine.
const RATE: u32 = 8;
const RUNS: usize = 4;

fn collection(host: &Host) -> Command {
    let mut program = host.program();
    program.args(["bucket", "gc", "--keep", "5s", "--keep-nars", "5s"]);
    program.stdout(Stdio::piped()).stderr(Stdio::piped());
    clock::run_fast(&mut program, RATE);
    program
}

/// Publishes new closures, which refer to old paths, and old paths again, until it is over. Returns all paths.
fn publishes(host: &Host, is_over: &AtomicBool, mut dice: Dice) -> Vec<Item> {
    let mut all: Vec<Item> = Vec::new();
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let mut items = Item::closure(&format!("{}-{number}", host.name), 2 + dice.below(4), 3000);
        if !all.is_empty() && dice.one_in(2) {
            let old = dice.pick(&all).path.clone();
            items.last_mut().unwrap().references.push(old);
        }
        host.add(&items);
        all.extend(items);
        let again = dice.pick(&all).path.clone();
        host.publish(&[&again]);
    }
    all
}

/// Returns what `bucket verify` prints, which has found no fault.
pub(super) fn verify(host: &Host) -> String {
    let verified = host.command(&["bucket", "verify"]);
    let said = String::from_utf8(verified.stdout).unwrap();
    assert_eq!(verified.status.code(), Some(OK), "{said}{}", String::from_utf8_lossy(&verified.stderr));
    said
}

fn races(kind: Kind) {
    let Some(fleet) = Fleet::shared(kind) else { return };
    let hosts = ["racer", "rival"].map(|name| {
        let mut host = fleet.host(name, "publish = \"all\"\n");
        host.kill();
        let mut program = host.program();
        clock::run_fast(&mut program, RATE);
        host.restart_as(Harmonia::launch(program));
        host
    });
    let (is_over, mut said) = (AtomicBool::new(false), Vec::new());
    let built: Vec<Vec<Item>> = thread::scope(|scope| {
        let publish = |(actor, host)| {
            let is_over = &is_over;
            scope.spawn(move || publishes(host, is_over, Dice::of(1, actor)))
        };
        let publishers = hosts.iter().enumerate().map(publish).collect::<Vec<_>>();
        for number in 0..RUNS {
            let mut run = collection(&hosts[0]).spawn().unwrap();
            // Every other one is killed somewhere, and the next one goes on with it.
            if number % 2 == 0 {
                thread::sleep(Duration::from_secs(13 + number as u64));
                run.kill().unwrap();
            }
            let output = run.wait_with_output().unwrap();
            said.push(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned());
        }
        is_over.store(true, Ordering::Relaxed);
        publishers.into_iter().map(|publisher| publisher.join().unwrap()).collect()
    });
    let verified = verify(&hosts[0]);
    eprintln!("{kind:?}: {said:?}\n{} paths were built; {verified}", built.iter().map(Vec::len).sum::<usize>());
    assert!(said.iter().any(|said| said.contains(": deleted ") && !said.contains("deleted 0 paths")), "{said:?}");
    for (host, items) in hosts.iter().zip(&built) {
        let paths: Vec<_> = items.iter().map(|item| item.path.as_str()).collect();
        host.publish(&paths);
        assert!(items.iter().all(|item| fleet.has(&item.path)));
    }
    verify(&hosts[0]);
}

#[test]
fn hosts_publish_while_garbage_is_deleted_from_swift_and_nothing_is_incomplete() {
    races(Kind::Swift);
}

#[test]
fn hosts_publish_while_garbage_is_deleted_from_rclone_and_nothing_is_incomplete() {
    races(Kind::Rclone);
}
