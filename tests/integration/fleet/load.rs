//! Twenty clients that ask a fleet for all of its paths while something of it is killed: no wrong byte, no missing answer, no
//! 404 for what is in the fleet.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::host::{Host, Item};
use super::nars::{Signed, follow, gets, is_right, signed_by};
use super::shared_bucket::{Fleet, eventually, narinfo, within};
use crate::support::engine::{Engine, Kind, Node};
use crate::support::http::Http;
use crate::support::keys;
use crate::support::store_item::{hash_part, noise};

const CLIENTS: usize = 20;
/// Time after which a client says that nobody answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// What happened to requests.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) right: AtomicUsize,
    /// 502 and 503: asked again.
    pub(crate) later: AtomicUsize,
    /// Bodies that were cut off: asked again.
    pub(crate) cut: AtomicUsize,
    /// No connection, or one that ended before its head: asked again, elsewhere.
    pub(crate) unreachable: AtomicUsize,
    /// Longest time that a client waited for narinfo and NAR.
    pub(crate) longest: Mutex<Duration>,
}

fn count(counter: &AtomicUsize) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Clients that ask until the load is over.
pub(crate) struct Load<'l> {
    /// Addresses of hosts that the client may ask.
    pub(crate) hosts: &'l [Http],
    /// Paths that are in the fleet.
    pub(crate) paths: &'l [String],
    pub(crate) tally: Tally,
    pub(crate) over: AtomicBool,
}

impl<'l> Load<'l> {
    pub(crate) fn new(hosts: &'l [Http], paths: &'l [String]) -> Self {
        Self { hosts, paths, tally: Tally::default(), over: AtomicBool::new(false) }
    }

    /// Runs twenty clients while this runs.
    pub(crate) fn during(&self, act: impl FnOnce()) {
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                scope.spawn(move || {
                    let _over = EndsWithPanic(&self.over);
                    let mut turn = client * 7;
                    while !self.is_over() {
                        turn += 1;
                        self.ask(turn);
                    }
                });
            }
            // Also if it panics.
            let over = EndsWithMe(&self.over);
            act();
            drop(over);
        });
    }

    /// Gets a path: from one host, and from the next one whenever that fails.
    fn ask(&self, turn: usize) {
        let path = &self.paths[turn % self.paths.len()];
        let (begin, mut host, mut told) = (Instant::now(), turn / self.paths.len() + turn, false);
        loop {
            let http = self.hosts[host % self.hosts.len()];
            match self.attempt(http, path, &mut told) {
                Some(()) => break,
                None => assert!(begin.elapsed() < PATIENCE, "nobody answers for {path}: {:?}", self.tally),
            }
            host += 1;
            thread::sleep(Duration::from_millis(50));
        }
        count(&self.tally.right);
        let mut longest = self.tally.longest.lock().unwrap();
        *longest = begin.elapsed().max(*longest);
    }

    fn attempt(&self, http: Http, path: &str, told: &mut bool) -> Option<()> {
        let signed = self.narinfo(http, path)?;
        *told = true;
        let Ok(response) = follow(http, &signed.url) else {
            count(&self.tally.unreachable);
            return None;
        };
        match response.status {
            200 if !response.complete => {
                count(&self.tally.cut);
                None
            }
            200 => {
                assert!(is_right(&signed, &response.body), "a wrong body of {path} at {}", signed.url);
                Some(())
            }
            502 | 503 => {
                count(&self.tally.later);
                None
            }
            status => panic!("{status} for {} of {path}: {}", signed.url, String::from_utf8_lossy(&response.body)),
        }
    }

    fn narinfo(&self, http: Http, path: &str) -> Option<Signed> {
        let request = format!("GET /{}.narinfo HTTP/1.1\r\nHost: cache\r\nConnection: close\r\n\r\n", hash_part(path));
        let Ok(response) = http.request(request.as_bytes()) else {
            count(&self.tally.unreachable);
            return None;
        };
        match response.status {
            200 if response.complete => Some(signed_by(&keys::OURS, path, response.text())),
            200 => {
                count(&self.tally.cut);
                None
            }
            502 | 503 => {
                count(&self.tally.later);
                None
            }
            status => panic!("{status} for the narinfo of {path}: {}", String::from_utf8_lossy(&response.body)),
        }
    }

    /// Returns whether it has ended, perhaps since a client has failed.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Waits until so many more requests were answered.
    pub(crate) fn goes_on(&self, requests: usize) {
        let begin = self.tally.right.load(Ordering::Relaxed);
        let is_on = || self.is_over() || self.tally.right.load(Ordering::Relaxed) >= begin + requests;
        eventually("answers", is_on);
    }
}

/// Guard of a client: one that fails ends the load.
struct EndsWithPanic<'l>(&'l AtomicBool);

impl Drop for EndsWithPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// Guard of the test, which ends the load.
struct EndsWithMe<'l>(&'l AtomicBool);

impl Drop for EndsWithMe<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A fleet of three hosts on three storage nodes, with paths that each of them has built and published.
pub(crate) struct Running {
    pub(crate) fleet: Fleet,
    pub(crate) hosts: Vec<Host>,
    pub(crate) paths: Vec<String>,
}

impl Running {
    pub(crate) fn start(keys: &str) -> Option<Self> {
        let fleet = Fleet::own(Kind::Swift)?;
        let keys = format!("publish = \"all\"\n{keys}");
        let hosts: Vec<_> = ["one", "two", "three"].into_iter().map(|name| fleet.host(name, &keys)).collect();
        let mut paths = Vec::new();
        for host in &hosts {
            let mut items = Item::closure(host.name, 12, 20_000);
            items.push(Item::new(&format!("{}-large", host.name), noise(2 << 20), &[]));
            host.add(&items);
            eventually("all is published", || items.iter().all(|item| fleet.has(&item.path)));
            paths.extend(items.into_iter().map(|item| item.path));
        }
        let running = Self { fleet, hosts, paths };
        running.until_all_know_all();
        Some(running)
    }

    pub(crate) fn until_all_know_all(&self) {
        for host in &self.hosts {
            for path in &self.paths {
                eventually("all is known", || narinfo(host.http(), path).status == 200);
            }
        }
    }

    fn https(&self) -> Vec<Http> {
        self.hosts.iter().map(Host::http).collect()
    }

    fn engine(&self) -> &Engine {
        self.fleet.engine()
    }
}

/// Kills each host in turn under load, and starts it again.
fn hosts_are_killed(keys: &str) {
    let Some(mut running) = Running::start(keys) else { return };
    let (https, paths) = (running.https(), running.paths.clone());
    let load = Load::new(&https, &paths);
    load.during(|| {
        for host in &mut running.hosts {
            load.goes_on(60);
            host.kill();
            load.goes_on(60);
            host.restart();
        }
        load.goes_on(60);
    });
    eprintln!("each of three hosts killed in turn: {:?}", load.tally);
}

#[test]
fn any_host_may_be_killed_under_load_and_its_paths_are_served_by_the_others() {
    hosts_are_killed("redirect_from = \"1 MiB\"\n");
}

#[test]
fn any_host_may_be_killed_under_load_where_all_passes_through_hosts() {
    hosts_are_killed("redirect_from = \"never\"\n");
}

#[test]
fn any_storage_node_may_be_killed_under_load() {
    // Every NAR comes from the object store each time.
    let Some(mut running) = Running::start("redirect_from = 0\n") else { return };
    let (https, paths) = (running.https(), running.paths.clone());
    let load = Load::new(&https, &paths);
    let mut during = BTreeMap::new();
    load.during(|| {
        for (node, host) in [1, 2, 3].map(Node::Storage).into_iter().zip(0..) {
            load.goes_on(60);
            running.engine().kill(node);
            // One that remembers nothing of the others.
            running.hosts[host].kill();
            running.hosts[host].restart();
            load.goes_on(200);
            running.engine().restart(node);
            during.insert(format!("{node:?}"), format!("{:?}", load.tally));
        }
        load.goes_on(60);
    });
    eprintln!("each storage node killed in turn, and a host restarted meanwhile: {during:#?}");
}

#[test]
fn with_two_of_three_storage_nodes_killed_what_is_there_is_served_and_what_is_new_is_published_later() {
    let Some(running) = Running::start("redirect_from = 0\n") else { return };
    let (https, paths) = (running.https(), running.paths.clone());
    let load = Load::new(&https, &paths);
    let items = Item::closure("meanwhile", 8, 5000);
    load.during(|| {
        load.goes_on(30);
        for node in [1, 2].map(Node::Storage) {
            running.engine().kill(node);
        }
        running.hosts[0].add(&items);
        load.goes_on(200);
        for node in [1, 2].map(Node::Storage) {
            running.engine().restart(node);
        }
        load.goes_on(30);
    });
    eprintln!("two of three storage nodes killed: {:?}", load.tally);
    within(Duration::from_secs(180), "what is new is published", || {
        items.iter().all(|item| running.fleet.has(&item.path))
    });
}

#[test]
fn without_the_object_store_each_host_serves_its_own_and_no_path_of_the_fleet_is_missing() {
    let Some(running) = Running::start("redirect_from = \"1 MiB\"\n") else { return };
    let nodes = [Node::Front, Node::Storage(1), Node::Storage(2), Node::Storage(3)];
    for dead in [&nodes[..1], &nodes[1..]] {
        for node in dead {
            running.engine().kill(*node);
        }
        for host in &running.hosts {
            for path in &running.paths {
                let response = narinfo(host.http(), path);
                assert!(matches!(response.status, 200 | 503), "{} for {path} at {}", response.status, host.name);
            }
            gets(host.http(), own_path(&running, host));
        }
        for node in dead {
            running.engine().restart(*node);
        }
        running.until_all_know_all();
    }
}

fn own_path<'r>(running: &'r Running, host: &Host) -> &'r str {
    let name = format!("-{}-0", host.name);
    running.paths.iter().find(|path| path.ends_with(&name)).unwrap()
}
