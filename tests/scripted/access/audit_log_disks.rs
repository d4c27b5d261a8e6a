//! The audit log on a disk that is full or stalled.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::disk::{Disk, Frozen};
use crate::support::footprint;
use crate::support::http::Connection;
use crate::support::metrics::{await_value, metrics, value};
use crate::support::scratch;
use crate::support::scripted_daemon::{Script, ScriptedDaemon};
use crate::support::server::Harmonia;

/// An upload that is refused and recorded, by a line of its own.
const PUT: &[u8] = b"PUT /nix-cache-info HTTP/1.1\r\nHost: c\r\nContent-Length: 0\r\n\r\n";
/// Status of that, and of one that cannot be recorded.
const RECORDED: u16 = 405;
const REFUSED: u16 = 503;

/// A cache that anybody may push to, whose audit log is on this disk.
struct Audited {
    file: PathBuf,
    harmonia: Harmonia,
    _daemon: ScriptedDaemon,
}

impl Audited {
    fn on(disk: &Disk, on_failure: &str) -> Self {
        let daemon = ScriptedDaemon::start(Script::knowing_no_path());
        let file = disk.path().join("audit.log");
        let harmonia = Harmonia::start(&format!(
            "{}state_dir = \"{}\"\naccess.anonymous = [\"read\", \"push\", \"metrics\"]\n[push]\n[audit]\nfile = \"{}\"\n\
             on_failure = \"{on_failure}\"\n",
            daemon.config(),
            scratch::fresh_dir().display(),
            file.display()
        ));
        Self { file, harmonia, _daemon: daemon }
    }

    fn connect(&self) -> Connection {
        self.harmonia.http().connect().unwrap()
    }

    /// Returns the number of lines that were dropped.
    fn dropped(&self) -> usize {
        let metrics = metrics(self.harmonia.http());
        let count = metrics.lines().find_map(|line| line.strip_prefix("harmonia_audit_log_dropped_total "));
        count.unwrap().parse().unwrap()
    }

    /// Waits until the file has no incomplete line at its end and this many of this event, and returns all lines.
    fn await_events(&self, event: &str, count: usize) -> Vec<String> {
        loop {
            let text = fs::read_to_string(&self.file).unwrap();
            let lines: Vec<_> = text.lines().map(str::to_owned).collect();
            let is_event =
                |line: &&String| serde_json::from_str::<Value>(line).is_ok_and(|line| line["event"] == event);
            if text.ends_with('\n') && lines.iter().filter(is_event).count() == count {
                return lines;
            }
            std::thread::yield_now();
        }
    }
}

fn put(connection: &mut Connection) -> u16 {
    connection.send(PUT).unwrap();
    connection.receive(false).unwrap().status
}

/// Fills what is left of a disk, and returns the file that does.
fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("filler");
    let mut file = fs::File::create(&path).unwrap();
    while file.write(&[0; 4096]).is_ok_and(|bytes| bytes > 0) {}
    path
}

#[test]
fn no_line_is_lost_or_torn_by_a_full_disk_where_requests_are_refused_meanwhile() {
    let Some(disk) = Disk::in_memory(64 << 10) else { return };
    let cache = Audited::on(&disk, "refuse");
    cache.await_events("start", 1);
    let filler = fill(disk.path());
    let mut connection = cache.connect();
    let recorded = (0..1000).take_while(|_| put(&mut connection) == RECORDED).count();
    assert!((1..1000).contains(&recorded));
    assert_eq!(put(&mut cache.connect()), REFUSED);
    assert_eq!(value(&metrics(cache.harmonia.http()), "harmonia_audit_log_failing"), Some(1.0));
    // A reload opens the file again, whose last line is incomplete.
    cache.harmonia.reload();
    fs::remove_file(filler).unwrap();
    await_value(cache.harmonia.http(), "harmonia_audit_log_failing", 0.0);
    assert_eq!(put(&mut cache.connect()), RECORDED);
    let lines = cache.await_events("push_refused", recorded + 1);
    let whole = lines.iter().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count();
    // That one is there twice: its start, and all of it.
    assert!(lines.len() - whole <= 1, "{lines:#?}");
    assert_eq!(cache.dropped(), 0);
}

#[test]
fn lines_that_a_full_disk_drops_are_counted_and_tear_no_later_one() {
    let Some(disk) = Disk::in_memory(64 << 10) else { return };
    let cache = Audited::on(&disk, "warn");
    cache.await_events("start", 1);
    let filler = fill(disk.path());
    let mut connection = cache.connect();
    let sent = 100;
    for _ in 0..sent {
        assert_eq!(put(&mut connection), RECORDED);
    }
    cache.harmonia.wait_for_log("of the audit log: No space left on device");
    await_value(cache.harmonia.http(), "harmonia_audit_log_failing", 1.0);
    fs::remove_file(filler).unwrap();
    assert_eq!(put(&mut connection), RECORDED);
    await_value(cache.harmonia.http(), "harmonia_audit_log_failing", 0.0);
    let dropped = cache.dropped();
    assert!((1..100).contains(&dropped), "{dropped}");
    let lines = cache.await_events("push_refused", sent + 1 - dropped);
    let whole = lines.iter().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count();
    assert!(lines.len() - whole <= 1, "{lines:#?}");
}

#[test]
fn a_stalled_disk_stops_only_what_has_to_be_recorded_and_takes_little_memory() {
    let Some(disk) = Disk::mount() else { return };
    let cache = Audited::on(&disk, "refuse");
    cache.await_events("start", 1);
    let mut connection = cache.connect();
    let first = (0..1000).filter(|_| put(&mut connection) == RECORDED).count();
    cache.await_events("push_refused", first);
    let before = footprint::memory(cache.harmonia.pid());
    assert!(disk.fsfreeze("-f"));
    let frozen = Frozen(&disk);
    // Until the queue is full.
    let queued = (0..20_000).take_while(|_| put(&mut connection) == RECORDED).count();
    assert!((8_000..20_000).contains(&queued), "{queued}");
    let after = footprint::memory(cache.harmonia.pid());
    assert!(after < before + (24 << 20), "memory went from {before} to {after}");
    assert_eq!(cache.harmonia.http().get("/nix-cache-info").status, 200);
    assert_eq!(cache.harmonia.http().get("/health").status, 200);
    drop(frozen);
    await_value(cache.harmonia.http(), "harmonia_audit_log_failing", 0.0);
    assert_eq!(put(&mut connection), RECORDED);
    // The one that found the queue full is not there.
    let dropped = cache.dropped();
    assert!((1..10).contains(&dropped), "{dropped}");
    cache.await_events("push_refused", first + queued + 1 - dropped);
}
