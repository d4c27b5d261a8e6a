//! Soak test: twenty clients of three hosts on three storage nodes, of which hosts and nodes are killed and paused, requests to
//! the object store fail in every way, the access key is wrong for a while, lists are stale, and new paths are published, all
//! at random from a seed that is printed.
//!
//! No body is ever wrong, no path of the fleet is ever missing, and no client waits in vain. Afterwards all that was built is
//! in the bucket and at every host, and the bucket is verified.
//!
//! The short form is one of the tests. The long one, in which garbage is collected too, is started manually, configured by
//! environment variables:
//!
//!     HARMONIA_SOAK_SECONDS=600 HARMONIA_SOAK_SEED=1 \
//!         cargo test --test integration fleet::soak -- --ignored --nocapture

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use super::collections::{Collections, pin};
use super::garbage::verify;
use super::host::{Host, Item};
use super::load::{Load, Running};
use super::nars::gets;
use super::shared_bucket::{narinfo, within};
use crate::support::dice::{Dice, soak_length, soak_seed};
use crate::support::engine::Node;
use crate::support::footprint::memory;
use crate::support::http::Http;
use crate::support::s3_proxy::Fault as S3Fault;

const LONG: Duration = Duration::from_secs(600);
/// Upper bound of the time until everything is well again after the last fault: Swift asks for patience for a minute.
const RECOVERY: Duration = Duration::from_secs(300);
/// Limit on memory of a host at the end, in bytes.
const MEMORY: u64 = 300 << 20;

/// What happens to a fleet.
#[derive(Clone, Copy, Debug)]
enum Fault {
    HostKilled,
    HostTerminated,
    StorageNodeKilled,
    StorageNodePaused,
    TwoStorageNodesKilled,
    FrontKilled,
    SlowDown,
    AnswersCut,
    AnswersLost,
    AnswersCorrupt,
    PutsCut,
    Refused,
    Slow,
    ListsStale,
    KeyWrong,
    Built,
}

impl Fault {
    /// Returns whether storage nodes are not there.
    const fn is_of_nodes(self) -> bool {
        matches!(self, Self::StorageNodeKilled | Self::StorageNodePaused | Self::TwoStorageNodesKilled)
    }
}

const FAULTS: [Fault; 16] = [
    Fault::HostKilled,
    Fault::HostTerminated,
    Fault::StorageNodeKilled,
    Fault::StorageNodePaused,
    Fault::TwoStorageNodesKilled,
    Fault::FrontKilled,
    Fault::SlowDown,
    Fault::AnswersCut,
    Fault::AnswersLost,
    Fault::AnswersCorrupt,
    Fault::PutsCut,
    Fault::Refused,
    Fault::Slow,
    Fault::ListsStale,
    Fault::KeyWrong,
    Fault::Built,
];

#[test]
fn for_a_while_a_fleet_suffers_every_fault_once() {
    soak(None);
}

#[test]
#[ignore = "takes ten minutes"]
fn for_long_a_fleet_suffers_faults_at_random() {
    soak(Some(soak_length().unwrap_or(LONG)));
}

fn soak(length: Option<Duration>) {
    let seed = soak_seed();
    eprintln!("a soak of a fleet: HARMONIA_SOAK_SEED={seed}");
    // Small NARs pass through hosts, large ones are redirected.
    let Some(mut running) = Running::start("redirect_from = \"1 MiB\"\n") else { return };
    let (https, paths) = (running.hosts.iter().map(Host::http).collect::<Vec<Http>>(), running.paths.clone());
    let load = Load::new(&https, &paths);
    let mut dice = Dice::of(seed, 0);
    let (mut built, mut faults) = (Vec::new(), BTreeMap::new());
    let mut collections = length.map(|_| Collections::new(&running));
    let begin = Instant::now();
    load.during(|| {
        let mut suffer = |fault: Fault, dice: &mut Dice| {
            let is_collected = collections.as_mut().is_some_and(|collections| collections.go_on(&running, dice));
            let fault = if is_collected && fault.is_of_nodes() { Fault::Built } else { fault };
            *faults.entry(format!("{fault:?}")).or_insert(0) += 1;
            if let Fault::Built = fault {
                let name = format!("soak-{}", built.len());
                let items = builds(&running, dice, &name, collections.as_ref());
                built.push(items);
            } else {
                happens(&mut running, fault, dice, &load);
            }
            load.goes_on(20);
        };
        for fault in FAULTS {
            suffer(fault, &mut dice);
        }
        while length.is_some_and(|length| begin.elapsed() < length) && !load.is_over() {
            let fault = *dice.pick(&FAULTS);
            suffer(fault, &mut dice);
        }
    });
    eprintln!("{:?}: {faults:?}\n{:?}", begin.elapsed(), load.tally);
    if let Some(collections) = &mut collections {
        collections.end();
        eprintln!("{}", collections.summary());
    }
    let built: Vec<Item> = built.into_iter().flatten().collect();
    within(RECOVERY, "all that was built is published", || built.iter().all(|item| running.fleet.has(&item.path)));
    for host in &running.hosts {
        for item in &built {
            within(RECOVERY, "all is known", || narinfo(host.http(), &item.path).status == 200);
            gets(host.http(), &item.path);
        }
        let memory = memory(host.server.pid());
        eprintln!("{}: {} MiB", host.name, memory >> 20);
        assert!(memory <= MEMORY, "{}: {memory} bytes of memory", host.name);
    }
    running.fleet.engine().repair();
    eprintln!("{}", verify(&running.hosts[0]));
}

/// Builds a closure at a host, which refers to what may be garbage by now, and is not.
fn builds(running: &Running, dice: &mut Dice, name: &str, collections: Option<&Collections>) -> Vec<Item> {
    let mut items = Item::closure(name, 2 + dice.below(8), 1000 + dice.below(100_000));
    items.last_mut().unwrap().references.extend(collections.and_then(|collections| collections.old(dice)));
    dice.pick(&running.hosts).add(&items);
    if collections.is_some() {
        pin(running, name, &items.iter().map(|item| item.path.as_str()).collect::<Vec<_>>());
    }
    items
}

/// Lets a fault happen and end.
fn happens(running: &mut Running, fault: Fault, dice: &mut Dice, load: &Load<'_>) {
    let while_it_lasts = |dice: &mut Dice| {
        load.goes_on(20 + dice.below(60));
        thread::sleep(Duration::from_millis(dice.below(2000) as u64));
    };
    let of_requests = |running: &Running, dice: &mut Dice, method, fault| {
        let host = dice.pick(&running.hosts);
        host.proxy.fail(method, None, fault, None);
        while_it_lasts(dice);
        host.proxy.heal();
    };
    let of_nodes = |running: &Running, dice: &mut Dice, nodes: &[Node], is_pause: bool| {
        let engine = running.fleet.engine();
        for node in nodes {
            if is_pause { engine.pause(*node) } else { engine.kill(*node) }
        }
        while_it_lasts(dice);
        for node in nodes {
            if is_pause { engine.resume(*node) } else { engine.restart(*node) }
        }
    };
    let (at, pause) = (dice.below(1 << 20) as u64, Duration::from_millis(500 + dice.below(3000) as u64));
    match fault {
        Fault::HostKilled | Fault::HostTerminated => {
            let number = dice.below(running.hosts.len());
            if let Fault::HostKilled = fault {
                running.hosts[number].kill();
            } else {
                running.hosts[number].server.terminate();
                running.hosts[number].server.ended();
            }
            while_it_lasts(dice);
            running.hosts[number].restart();
        }
        Fault::StorageNodeKilled => {
            let node = Node::Storage(1 + u8::try_from(dice.below(3)).unwrap());
            of_nodes(running, dice, &[node], false);
        }
        Fault::StorageNodePaused => {
            let node = Node::Storage(1 + u8::try_from(dice.below(3)).unwrap());
            of_nodes(running, dice, &[node], true);
        }
        Fault::TwoStorageNodesKilled => {
            let spared = 1 + u8::try_from(dice.below(3)).unwrap();
            let dead: Vec<_> = (1..=3).filter(|node| *node != spared).map(Node::Storage).collect();
            of_nodes(running, dice, &dead, false);
        }
        Fault::FrontKilled => {
            running.fleet.engine().kill(Node::Front);
            thread::sleep(pause);
            running.fleet.engine().restart(Node::Front);
        }
        Fault::SlowDown => of_requests(running, dice, "", S3Fault::SlowDown),
        Fault::AnswersCut => of_requests(running, dice, "GET", S3Fault::CutAnswer(at)),
        Fault::AnswersLost => of_requests(running, dice, "", S3Fault::LoseAnswer),
        Fault::AnswersCorrupt => of_corrupt_answers(running, dice, while_it_lasts),
        Fault::PutsCut => of_requests(running, dice, "PUT", S3Fault::CutRequest(at / 50)),
        Fault::Refused => of_requests(running, dice, "", S3Fault::Refuse),
        Fault::Slow => of_requests(running, dice, "", S3Fault::Delay(pause)),
        Fault::ListsStale => {
            let host = dice.pick(&running.hosts);
            host.proxy.hide_from_lists(running.fleet.names("harmonia/").iter().map(|name| running.fleet.key(name)));
            while_it_lasts(dice);
            host.proxy.heal();
        }
        Fault::KeyWrong => {
            running.fleet.write_secret_key("wrong");
            thread::sleep(pause);
            running.fleet.write_secret_key(running.fleet.engine().secret_key());
        }
        Fault::Built => {}
    }
}

/// Corrupts answers to a host, but for those that clients get by redirects, which they check themselves.
fn of_corrupt_answers(running: &Running, dice: &mut Dice, while_it_lasts: impl Fn(&mut Dice)) {
    let host = dice.pick(&running.hosts);
    host.proxy.corrupt_unless_presigned(dice.below(20_000) as u64);
    while_it_lasts(dice);
    host.proxy.heal();
}
