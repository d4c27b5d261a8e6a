//! Many clients at once, most of which do not read or disconnect: their resources are freed, and the others are served
//! meanwhile.
//!
//! The load: 2,000 idle connections, 200 clients that stop reading, 1,000 that disconnect before their narinfo, and 200 that
//! disconnect in the middle of a NAR.

use std::env;
use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getpriority_process, getrlimit, setrlimit};

use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::nix::shared_server::{nar_url, narinfo_url};
use crate::support::footprint::{await_descriptors, descriptors, memory, most_memory};
use crate::support::http::{Connection, Http};
use crate::support::http2_frames::{END_HEADERS, END_STREAM, HEADERS, SETTINGS, WINDOW_UPDATE, deaf, frame, get};
use crate::support::metrics::{await_value, metrics, value};
use crate::support::nar_cache::{nar_url_of, with_nar_cache};
use crate::support::scratch;
use crate::support::scripted_daemon::{Script, ScriptedDaemon};
use crate::support::server::{Harmonia, nar_cache_on_demand};
use crate::support::store_item::{StoreItem, hash_part};
use crate::support::wire::Wire;

const IDLE: usize = 2000;
const SLOW: usize = 200;
const CANCELLED: usize = 1000;
const ABORTED: usize = 200;
/// Maximum number of streams of an HTTP/2 connection.
const STREAMS: u32 = 128;
/// Limit on resident memory, in bytes.
const MAX_RESIDENT: u64 = 250 << 20;
/// Memory that may stay in use after the load, in bytes: cached path infos, and what the allocator keeps.
const KEPT: u64 = 64 << 20;
/// Upper bound of a wait, generous because the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Returns the configuration that names a real daemon.
fn daemon() -> String {
    format!("daemon_socket = \"{}\"\n", Daemon::shared(Release::Nix2_34).socket().display())
}

/// Starts a server with a real daemon and a filled NAR cache.
fn server(more: &str) -> Harmonia {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let dir = scratch::fresh_dir().join("nars");
    let harmonia = Harmonia::start(&format!("max_connections = 1024\n{more}{}", with_nar_cache(&dir, &daemon())));
    let url = nar_url_of(harmonia.http(), &narinfo_url("large"));
    assert_eq!(harmonia.http().get(&url).status, 200);
    await_value(harmonia.http(), "harmonia_nar_cache_fills", 0.0);
    // The file is kept open from its first use on.
    assert_eq!(harmonia.http().get(&url).status, 200);
    harmonia
}

/// Sends a request and returns the connection; if it `waits`, after the head of the response.
fn ask(http: Http, url: &str, waits: bool) -> Connection {
    let mut connection = http.connect().unwrap();
    connection.send(format!("GET {url} HTTP/1.1\r\nHost: cache\r\n\r\n").as_bytes()).unwrap();
    if waits {
        assert_eq!(connection.head().unwrap().status, 200, "{url}");
    }
    connection
}

/// Opens the whole load and calls `served` between its parts; the load ends when the returned value is dropped.
fn load(http: Http, mut served: impl FnMut()) -> Vec<Connection> {
    let narinfo = narinfo_url("regular");
    let (plain, compressed) = (nar_url("large"), nar_url_of(http, &narinfo_url("large")));
    let mut open = Vec::new();
    for _ in 0..IDLE {
        let mut connection = ask(http, &narinfo, false);
        assert_eq!(connection.receive(false).unwrap().status, 200);
        open.push(connection);
    }
    served();
    // More than there are connections to the daemon ask for the plain NAR, and wait.
    open.extend(
        (0..SLOW).map(|number| if number % 4 == 0 { ask(http, &plain, false) } else { ask(http, &compressed, true) }),
    );
    served();
    for number in 0..CANCELLED {
        // Most are of paths that do not exist, so that the daemon is queried.
        drop(ask(http, &format!("/{number:032}.narinfo"), false));
    }
    served();
    for number in 0..ABORTED {
        drop(ask(http, &compressed, number % 2 == 0));
        drop(ask(http, &plain, false));
    }
    served();
    open
}

/// Polls until this holds: no event tells when a process has freed a resource.
fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(POLL);
    }
}

/// Requests this path by as many HTTP/2 streams as allowed, with windows for all responses at once, and reads nothing.
fn ask_for_all_at_once(address: SocketAddr, path: &str) -> TcpStream {
    let mut connection = deaf(address);
    // SETTINGS_INITIAL_WINDOW_SIZE, and the same for the connection (RFC 9113, sections 6.5.2 and 6.9).
    let most = i32::MAX.to_be_bytes();
    let settings = frame(SETTINGS, 0, 0, &[&[0, 4][..], &most].concat());
    let window = frame(WINDOW_UPDATE, 0, 0, &(i32::MAX - 65_535).to_be_bytes());
    let ask = |stream| frame(HEADERS, END_STREAM | END_HEADERS, 2 * stream + 1, &get(path));
    let requests: Vec<u8> = (0..STREAMS).flat_map(ask).collect();
    connection.write_all(&[settings, window, requests].concat()).unwrap();
    connection
}

#[test]
fn what_a_client_does_not_read_of_a_thousand_responses_is_bounded() {
    let harmonia = server("trusted_proxies = []\n");
    // By itself it would wait behind what it does not read.
    let http = harmonia.http().from([127, 0, 0, 3]);
    let url = nar_url_of(http, &narinfo_url("large"));
    let whole = http.get(&url).body;
    let deaf: Vec<_> = (0..8).map(|_| ask_for_all_at_once(harmonia.address(), &url)).collect();
    let deadline = Instant::now() + PATIENCE;
    let in_flight = || value(&metrics(http), "harmonia_http_requests_in_flight").unwrap();
    while in_flight() < f64::from(8 * STREAMS) {
        assert!(Instant::now() < deadline, "{} in flight", in_flight());
        thread::sleep(POLL);
    }
    // By the time that others have had theirs, it has all that it gets.
    for _ in 0..3 {
        assert!(http.get(&url).body == whole);
    }
    let most = most_memory(harmonia.pid());
    assert!(most < MAX_RESIDENT, "{} MiB", most >> 20);
    drop(deaf);
    await_value(http, "harmonia_http_requests_in_flight", 1.0);
}

#[test]
fn resources_of_many_clients_are_released_and_others_are_served_meanwhile() {
    let harmonia = server("");
    let http = harmonia.http();
    let (open_before, memory_before) = (descriptors(harmonia.pid()).len(), memory(harmonia.pid()));
    let (is_over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        // A client that wants something, all the time.
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                assert_eq!(http.get(&narinfo_url("regular")).status, 200);
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
        let open = load(http, || {
            let before = served.load(Ordering::Relaxed);
            eventually("others are not served", || served.load(Ordering::Relaxed) > before);
        });
        drop(open);
        is_over.store(true, Ordering::Relaxed);
    });
    // The one that asks.
    await_value(http, "harmonia_http_requests_in_flight", 1.0);
    for pool in ["metadata", "nar"] {
        await_value(http, &format!("harmonia_daemon_pool_in_use{{pool=\"{pool}\"}}"), 0.0);
        await_value(http, &format!("harmonia_daemon_pool_waiting{{pool=\"{pool}\"}}"), 0.0);
    }
    // Connections to the daemon that are idle are kept for the next query, up to both bounds.
    await_descriptors(harmonia.pid(), open_before + 8 + 16, |_| true);
    eventually("memory is not given back", || memory(harmonia.pid()) <= memory_before + KEPT);
    let most = most_memory(harmonia.pid());
    assert!(most < MAX_RESIDENT, "{} MiB", most >> 20);
}

/// Prints the latency of warm narinfos under that load. Needs an otherwise idle machine and a release build:
/// `cargo test --release --test integration faults::load::latency -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, of which nothing is asserted"]
fn latency_of_warm_narinfos_under_load() {
    let harmonia = server("");
    let http = harmonia.http();
    let measure = |until: &AtomicBool| {
        let mut connection = http.connect().unwrap();
        let mut times = Vec::new();
        while !until.load(Ordering::Relaxed) {
            let began = Instant::now();
            let request = format!("GET {} HTTP/1.1\r\nHost: cache\r\n\r\n", narinfo_url("regular"));
            connection.send(request.as_bytes()).unwrap();
            assert_eq!(connection.receive(false).unwrap().status, 200);
            times.push(began.elapsed());
        }
        times.sort_unstable();
        times
    };
    for round in 1..=5 {
        let is_over = AtomicBool::new(false);
        let times = thread::scope(|scope| {
            let measuring = scope.spawn(|| measure(&is_over));
            drop(load(http, || ()));
            is_over.store(true, Ordering::Relaxed);
            measuring.join().unwrap()
        });
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        let load = fs::read_to_string("/proc/loadavg").unwrap();
        eprintln!(
            "round {round}: {} narinfos, median {:?}, p99 {:?}, max {:?}; resident at most {} MiB; load average {}",
            times.len(),
            at(50),
            at(99),
            at(100),
            most_memory(harmonia.pid()) >> 20,
            load.trim()
        );
    }
}

/// Starts the program with these soft and hard limits on open files.
fn with_limit(soft: usize, hard: usize, config: &str) -> Harmonia {
    let file = scratch::fresh_dir().join("config.toml");
    fs::write(&file, format!("bind = \"127.0.0.1:0\"\n{config}")).unwrap();
    let mut shell = Command::new("bash");
    let script = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
    let program = Harmonia::program();
    shell.env_clear().env("PATH", "/usr/bin:/bin").args(["-c", &script]).arg(program.get_program());
    shell.arg("--config").arg(file).stdin(Stdio::null()).stdout(Stdio::null());
    Harmonia::launch(shell)
}

#[test]
fn the_limit_of_open_files_is_raised_and_connections_keep_to_it() {
    let harmonia = with_limit(64, 128, &daemon());
    let limits = fs::read_to_string(format!("/proc/{}/limits", harmonia.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>()[3..5], ["128", "128"]);
    harmonia.wait_for_log("limiting connections to 64 instead of 8192: the limit of open files is 128");
    // Those beyond wait in the kernel and are accepted later.
    let mut crowd: Vec<_> = (0..200).map(|_| ask(harmonia.http(), &narinfo_url("regular"), false)).collect();
    for mut connection in crowd.drain(..) {
        assert_eq!(connection.receive(false).unwrap().status, 200);
    }
    assert!(!harmonia.log().contains("cannot accept"), "{}", harmonia.log());
}

/// Returns name and nice value of each thread (proc(5), `/proc/pid/stat`).
fn threads(pid: u32) -> Vec<(String, i32)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let stat = |task: fs::DirEntry| fs::read_to_string(task.path().join("stat")).ok();
    let parse = |stat: String| {
        let (name, rest) = stat.split_once('(').unwrap().1.rsplit_once(')').unwrap();
        (name.to_owned(), rest.split_whitespace().nth(16).unwrap().parse().unwrap())
    };
    tasks.map_while(Result::ok).filter_map(stat).map(parse).collect()
}

/// NARs that the daemon stops sending after the first units, so that their encoders stay.
fn unfinished() -> (Vec<StoreItem>, ScriptedDaemon) {
    let size = 64 << 20;
    let head = Wire::new().string("nix-archive-1").string("(").string("type").string("regular").string("contents");
    let beginning = StoreItem::with_nar(head.number(size).raw(&vec![7; 3 << 20]).done());
    let item = |number: u32| StoreItem {
        path: format!("/nix/store/{number:032}-item"),
        nar_hash: format!("{number:064x}"),
        nar_size: size + 112,
        ..beginning.clone()
    };
    let items: Vec<_> = (0..3).map(item).collect();
    let known = items.clone();
    let daemon = ScriptedDaemon::start(Script::replying(move |query| {
        StoreItem::reply_among(&known, query).unwrap_or_else(|| panic!("asked {query:?}"))
    }));
    (items, daemon)
}

#[test]
fn encoders_are_as_many_and_as_nice_as_is_configured_and_other_threads_are_not() {
    let ours = getpriority_process(None).unwrap();
    for (config, most, niceness) in [
        ("", usize::MAX, 10),
        ("nar_cache.threads = 1\nnar_cache.nice = 13\n", 1, 13),
        ("nar_cache.nice = 0\n", usize::MAX, 0),
    ] {
        let (items, daemon) = unfinished();
        let harmonia = Harmonia::start(&format!("{}{}{config}", daemon.config(), nar_cache_on_demand()));
        let http = harmonia.http();
        let urls: Vec<_> = items.iter().map(|item| nar_url_of(http, &item.narinfo_url())).collect();
        let asking: Vec<_> = urls.iter().map(|url| ask(http, url, false)).collect();
        await_value(http, "harmonia_nar_cache_fills", 3.0);
        // One begins when the first unit of its NAR is there, and lowers its priority then.
        let (encoders, others) = loop {
            let (encoders, others): (Vec<_>, Vec<_>) =
                threads(harmonia.pid()).into_iter().partition(|(name, _)| name == "encoder");
            if !encoders.is_empty() && encoders.iter().all(|(_, nice)| *nice == niceness.max(ours)) {
                break (encoders, others);
            }
            thread::yield_now();
        };
        assert!((1..=most).contains(&encoders.len()), "{encoders:?}");
        assert!(others.iter().all(|(_, nice)| *nice == ours), "{others:?}");
        drop(asking);
    }
}

/// Returns a program whose compilation takes some seconds.
fn source() -> PathBuf {
    let function = |number: u32| {
        format!(
            "double f{number}(double *a, int n) {{ double s = {number}; for (int i = 0; i < n; i++) for (int j = i; j < n; j++) \
             {{ s += a[i] * a[j] / (j + {number}); a[j] -= s; }} return s; }}\n"
        )
    };
    let file = scratch::fresh_dir().join("source.c");
    fs::write(&file, (1..=1500).map(function).collect::<String>()).unwrap();
    file
}

/// Returns the time that two concurrent compilers need.
fn compile(source: &Path) -> Duration {
    let began = Instant::now();
    let start = |_| Command::new("cc").args(["-O2", "-c", "-o", "/dev/null"]).arg(source).spawn().unwrap();
    let compilers = [1, 2].map(start);
    for mut compiler in compilers {
        assert!(compiler.wait().unwrap().success());
    }
    began.elapsed()
}

/// Prints how much longer a compilation takes during downloads that are compressed. Needs an otherwise idle machine and a
/// release build: `cargo test --release --test integration faults::load::compile -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, of which nothing is asserted"]
fn compile_beside_encoders() {
    let source = source();
    let daemon = Daemon::start(Release::Nix2_34);
    let path = format!("/nix/store/{:032}-program", 1);
    fs::copy(env::current_exe().unwrap(), daemon.on_host(&path)).unwrap();
    daemon.register(&path);
    // Nothing is kept, so that each download is compressed.
    let server = |niceness: i32| {
        let socket = daemon.socket();
        let config = format!("daemon_socket = {socket:?}\nnar_cache.nice = {niceness}\n{}", nar_cache_on_demand());
        Harmonia::start(&config)
    };
    for round in 1..=3 {
        eprintln!("round {round}: {:?} alone", compile(&source));
        for niceness in [0, 10, 19] {
            let harmonia = server(niceness);
            let url = nar_url_of(harmonia.http(), &format!("/{}.narinfo", hash_part(&path)));
            let (is_over, bytes) = (AtomicBool::new(false), AtomicUsize::new(0));
            let took = thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        while !is_over.load(Ordering::Relaxed) {
                            let body = harmonia.http().get(&url).body;
                            bytes.fetch_add(body.len(), Ordering::Relaxed);
                        }
                    });
                }
                let took = compile(&source);
                is_over.store(true, Ordering::Relaxed);
                took
            });
            eprintln!(
                "round {round}: {took:?} beside encoders at nice {niceness}, {} MB sent",
                bytes.into_inner() / 1_000_000
            );
        }
    }
    eprintln!("load average {}", fs::read_to_string("/proc/loadavg").unwrap().trim());
}
