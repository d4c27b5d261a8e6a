//! The audit log with its thread and a real file.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use super::*;
use crate::audit_log::event::Object;

const TIMEOUT: Duration = Duration::from_secs(30);

fn config(file: &Path, on_failure: OnFailure) -> AuditConfig {
    AuditConfig { file: Some(file.to_owned()), on_failure }
}

fn request(url: &str) -> AuditedRequest {
    AuditedRequest::new("user:alice", Some([192, 0, 2, 1].into()), Object::url(url), "id")
}

fn events(file: &Path) -> Vec<Value> {
    fs::read_to_string(file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn names(file: &Path) -> Vec<String> {
    events(file).iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect()
}

/// Waits until this is true, as the writer is another thread.
fn await_that(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !is() {
        assert!(Instant::now() < deadline, "{what}");
        thread::yield_now();
    }
}

fn dropped(metrics: &Metrics) -> Option<f64> {
    let text = metrics.render(crate::metrics::Exposition::Classic);
    let line = text.lines().find(|line| line.starts_with("harmonia_audit_log_dropped_total "))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// An audit log in a directory of its own.
fn opened(on_failure: OnFailure) -> (Arc<AuditLog>, Arc<Metrics>, PathBuf, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.log");
    let metrics = Arc::default();
    let log = AuditLog::open(&config(&file, on_failure), &metrics).unwrap();
    log.started();
    (log, metrics, file, directory)
}

#[tokio::test]
async fn reads_are_collected_until_the_end_and_all_else_is_written_at_once() {
    let (log, metrics, file, _directory) = opened(OnFailure::Refuse);
    for _ in 0..3 {
        log.read(request("/a"), 200, 10);
    }
    log.pushed(request("/nar/b"), 201, 7);
    log.push_refused(request("/c.narinfo"), 409, 0, "a reference is missing");
    await_that("three lines", || names(&file) == ["start", "push", "push_refused"]);
    assert_eq!(events(&file)[2]["reason"], "a reference is missing");
    log.refused(request("/metrics"), 403, "forbidden");
    log.close().await;
    assert_eq!(names(&file)[3..], ["read", "refused", "stop"]);
    let read = &events(&file)[3];
    assert_eq!((&read["count"], &read["bytes"], &read["status"]), (&3.into(), &30.into(), &200.into()));
    assert!(log.accepts_requests());
    assert_eq!(dropped(&metrics), Some(0.0));
}

#[tokio::test]
async fn a_reload_reopens_the_file_and_a_bad_one_leaves_the_old_in_use() {
    let (log, _, file, directory) = opened(OnFailure::Warn);
    let moved = directory.path().join("audit.log.1");
    log.pushed(request("/1"), 200, 1);
    await_that("two lines", || names(&file) == ["start", "push"]);
    fs::rename(&file, &moved).unwrap();
    log.reload(&config(&file, OnFailure::Warn));
    log.pushed(request("/2"), 200, 1);
    await_that("a new file", || file.exists() && names(&file) == ["reload", "push"]);
    assert_eq!(names(&moved), ["start", "push"]);
    log.reload(&config("/nonexistent/audit.log".as_ref(), OnFailure::Warn));
    await_that("the reload is in the old file", || names(&file) == ["reload", "push", "reload"]);
}

#[tokio::test]
async fn an_incomplete_line_at_the_end_of_the_file_stays_a_line_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.log");
    fs::write(&file, "{\"time\":").unwrap();
    let log = AuditLog::open(&config(&file, OnFailure::Warn), &Arc::default()).unwrap();
    log.started();
    let text = || fs::read_to_string(&file).unwrap();
    await_that("a line", || text().ends_with("}\n"));
    fs::write(&file, format!("{}{{", text())).unwrap();
    log.reload(&config(&file, OnFailure::Warn));
    await_that("another line", || text().lines().count() == 4 && text().ends_with("}\n"));
    let lines: Vec<_> = text().lines().map(|line| serde_json::from_str::<Value>(line).is_ok()).collect();
    assert_eq!(lines, [false, true, false, true], "{}", text());
}

#[tokio::test]
async fn lines_that_cannot_be_written_are_kept_where_requests_are_refused_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.log");
    let metrics = Arc::default();
    let log = AuditLog::open(&config("/dev/full".as_ref(), OnFailure::Refuse), &metrics).unwrap();
    log.started();
    await_that("it fails", || !log.accepts_requests());
    log.pushed(request("/kept"), 200, 1);
    log.reload(&config(&file, OnFailure::Refuse));
    await_that("it works", || log.accepts_requests());
    assert_eq!(names(&file), ["start", "push", "reload"]);
    assert_eq!(dropped(&metrics), Some(0.0));
}

#[tokio::test]
async fn lines_that_cannot_be_written_are_dropped_and_counted_where_requests_are_answered() {
    let metrics = Arc::default();
    let log = AuditLog::open(&config("/dev/full".as_ref(), OnFailure::Warn), &metrics).unwrap();
    log.started();
    log.pushed(request("/lost"), 200, 1);
    await_that("both are dropped", || dropped(&metrics) == Some(2.0));
    assert!(log.accepts_requests());
}

#[tokio::test]
async fn a_full_queue_refuses_until_it_has_been_written() {
    let (held, messages) = sync_channel(1);
    let metrics = Arc::default();
    let file = tempfile::NamedTempFile::new().unwrap();
    let configured = config(file.path(), OnFailure::Refuse);
    let mut log = Arc::try_unwrap(AuditLog::open(&configured, &metrics).unwrap()).unwrap();
    let queue = std::mem::replace(&mut log.queue, held);
    log.pushed(request("/queued"), 200, 1);
    log.pushed(request("/dropped"), 200, 1);
    assert!(!log.accepts_requests());
    assert_eq!(dropped(&metrics), Some(1.0));
    // The queue is read again.
    for message in messages.try_iter() {
        queue.send(message).unwrap();
    }
    log.queue = queue;
    await_that("it accepts requests", || log.accepts_requests());
    assert_eq!(names(file.path()), ["push"]);
}
