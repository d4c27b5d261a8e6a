//! What a fleet costs: requests to the object store, and time. Started manually, as it prints tables and takes minutes:
//!
//!     cargo test --test integration fleet::cost -- --ignored --nocapture --test-threads 1

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::host::{Host, Item};
use super::nars::gets;
use super::shared_bucket::{Fleet, eventually, narinfo};
use crate::support::engine::Kind;
use crate::support::http::Connection;
use crate::support::s3_proxy::S3Proxy;
use crate::support::s3_request::{Kind as Object, S3Request};
use crate::support::store_item::hash_part;

const PUBLISHED: usize = 1000;
const HITS: usize = 1000;
const MISSES: usize = 10_000;
/// Lag that nearly all paths stay below, on a machine that does nothing else.
const LAG: Duration = Duration::from_secs(10);

/// Prints the requests so far, by method and kind, and forgets them.
fn tell(what: &str, proxy: &S3Proxy) {
    let (requests, mut table) = (proxy.requests(), BTreeMap::new());
    for request in &requests {
        let method = match (&*request.method, request.is_presigned()) {
            ("GET", true) => "GET (redirected)",
            (method, _) => method,
        };
        let row = table.entry((request.kind, method.to_owned(), request.status)).or_insert((0, 0, 0));
        *row = (row.0 + 1, row.1 + request.sent, row.2 + request.received);
    }
    eprintln!("\n{what}: {} requests", requests.len());
    for ((kind, method, status), (count, sent, received)) in table {
        eprintln!(
            "  {method:17} {:9} {status}: {count:6}  {sent:10} bytes sent, {received:10} received",
            format!("{kind:?}")
        );
    }
    proxy.forget();
}

fn small(name: &str, count: usize) -> Vec<Item> {
    let item = |number| Item::new(&format!("{name}-{number}"), format!("{name} {number}\n").repeat(50), &[]);
    (0..count).map(item).collect()
}

/// Publishes these paths by the command, which is told of some hundred at a time.
fn publish(host: &Host, items: &[Item]) {
    for some in items.chunks(250) {
        let paths: Vec<_> = some.iter().map(|item| item.path.as_str()).collect();
        host.publish(&paths);
    }
}

#[test]
#[ignore = "takes minutes, and prints a table"]
fn requests_of_a_thousand_published_paths_of_ten_thousand_misses_and_of_a_thousand_hits() {
    let Some(fleet) = Fleet::shared(Kind::Swift) else { return };
    let (publisher, other) = (fleet.host("publisher", ""), fleet.host("other", "redirect_from = \"1 MiB\"\n"));
    let (items, closure) = (small("cost", PUBLISHED), Item::closure("cost-closure", 100, 2000));
    publisher.add(&items);
    publisher.add(&closure);
    publisher.proxy.forget();
    let begin = Instant::now();
    publish(&publisher, &items);
    eprintln!("\n{PUBLISHED} paths published in {:?}", begin.elapsed());
    tell("1,000 paths published, in 4 commands", &publisher.proxy);
    publish(&publisher, &items);
    tell("the same again", &publisher.proxy);
    publisher.publish(&[&closure.last().unwrap().path]);
    tell("a closure of 100 paths published", &publisher.proxy);

    let last = items.last().unwrap();
    eventually("all is known", || narinfo(other.http(), &last.path).status == 200);
    other.proxy.forget();
    let begin = Instant::now();
    let mut connection = other.http().connect().unwrap();
    for number in 0..MISSES {
        assert_eq!(ask(&mut connection, &format!("{number:032}")), 404);
    }
    eprintln!("\n{MISSES} misses in {:?}", begin.elapsed());
    tell("10,000 misses", &other.proxy);

    for again in ["", ", again"] {
        let begin = Instant::now();
        for item in &items[..HITS] {
            gets(other.http(), &item.path);
        }
        eprintln!("\n{HITS} hits{again} in {:?}", begin.elapsed());
        tell(&format!("1,000 hits, narinfo and NAR{again}"), &other.proxy);
    }
    std::thread::sleep(Duration::from_secs(60));
    tell("a minute of a reader without requests", &other.proxy);
    tell("the publisher meanwhile", &publisher.proxy);
}

/// Requests a narinfo on a connection that stays; returns the status.
fn ask(connection: &mut Connection, hash: &str) -> u16 {
    connection.send(format!("GET /{hash}.narinfo HTTP/1.1\r\nHost: cache\r\n\r\n").as_bytes()).unwrap();
    connection.receive(false).unwrap().status
}

#[test]
#[ignore = "takes minutes, and prints times"]
fn time_until_another_host_has_each_path_of_a_closure_of_a_hundred() {
    for kind in [Kind::Rclone, Kind::Swift] {
        lag(kind);
    }
}

/// Measures for each path of closures, one after the other, the time from its registration by nix-daemon, with no command or
/// hook, until another host that asks for it all the time gets its narinfo.
fn lag(kind: Kind) {
    const ROUNDS: usize = 5;
    let Some(fleet) = Fleet::shared(kind) else { return };
    let (publisher, other) = (fleet.host("publisher", "publish = \"all\"\n"), fleet.host("other", ""));
    let mut lags = Vec::new();
    for round in 0..ROUNDS {
        let items = Item::closure(&format!("lag-{round}"), 100, 20_000);
        publisher.add(&items);
        let begin = Instant::now();
        let mut missing: Vec<_> = items.iter().map(|item| hash_part(&item.path)).collect();
        let mut connection = other.http().connect().unwrap();
        while !missing.is_empty() {
            missing.retain(|hash| {
                let is_missing = ask(&mut connection, hash) != 200;
                if !is_missing {
                    lags.push(begin.elapsed());
                }
                is_missing
            });
            assert!(begin.elapsed() < Duration::from_secs(120), "{} paths never come", missing.len());
            // Seldom enough to leave the processors to the hosts and the object store.
            std::thread::sleep(Duration::from_millis(200));
        }
        let is_segment = |request: &S3Request| request.is("PUT", Some(Object::Segment));
        let segments = publisher.proxy.requests().iter().filter(|request| is_segment(request)).count();
        eprintln!("{kind:?}, round {round}: all after {:?}, {segments} segments so far", begin.elapsed());
    }
    lags.sort_unstable();
    let at = |part: usize| lags[(lags.len() * part / 100).min(lags.len() - 1)];
    eprintln!("{kind:?}: median {:?}, p90 {:?}, p99 {:?}, last {:?}", at(50), at(90), at(99), at(100));
    assert!(at(99) < LAG, "{kind:?}");
    let metrics = publisher.http().get("/metrics").text().to_owned();
    for line in metrics.lines().filter(|line| line.starts_with("harmonia_bucket_publish")) {
        eprintln!("{line}");
    }
}

#[test]
#[ignore = "takes a minute, and prints times"]
fn a_miss_takes_as_long_as_a_narinfo_in_memory() {
    let Some(fleet) = Fleet::shared(Kind::Swift) else { return };
    let (publisher, other) = (fleet.host("publisher", ""), fleet.host("other", ""));
    let (items, own) = (small("timed", 200), small("own", 1));
    publisher.add(&items);
    publish(&publisher, &items);
    other.add(&own);
    eventually("all is known", || items.iter().all(|item| narinfo(other.http(), &item.path).status == 200));
    let (hit, local) = (hash_part(&items[0].path).to_owned(), hash_part(&own[0].path).to_owned());
    let mut connection = other.http().connect().unwrap();
    let mut times: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for round in 0..5000 {
        let missing = format!("{round:032}");
        let repeated = format!("{:032}", 1);
        for (what, hash) in
            [("own", &local), ("of another", &hit), ("miss, first time", &missing), ("miss, again", &repeated)]
        {
            let begin = Instant::now();
            let status = ask(&mut connection, hash);
            times.entry(what).or_default().push(begin.elapsed());
            assert_eq!(status, if what.starts_with("miss") { 404 } else { 200 });
        }
    }
    for (what, times) in &mut times {
        times.sort_unstable();
        eprintln!("{what:17} median {:?}, p99 {:?}", times[times.len() / 2], times[times.len() * 99 / 100]);
    }
    let asked = other.proxy.count("", Object::NarInfo);
    eprintln!("{asked} requests for narinfos in all");
}
