//! Garbage collections of the bucket on servers and in a directory, both phases: they are killed, gone on with, and undone.
//!
//! The program's clock is fast, so that its waits take seconds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use super::bucket_of::Bucket;
use crate::support::clock;
use crate::support::engine::Kind;
use crate::support::keys;
use crate::support::s3_proxy::Fault;
use crate::support::scratch;
use crate::support::server::Harmonia;
use crate::support::store_item::{StoreItem, item};

/// Times that the clock is fast: a lease has to be renewed within seconds, also on a busy machine.
const RATE: u32 = 8;
const ALL: [&str; 3] = ["gc", "--keep", "0s"];
const WITH_NARS: [&str; 5] = ["gc", "--keep", "0s", "--keep-nars", "0s"];

/// The program with the configuration of a bucket.
struct Operator<'b> {
    bucket: &'b Bucket,
    config: PathBuf,
}

impl<'b> Operator<'b> {
    fn new(bucket: &'b Bucket) -> Self {
        let config = scratch::fresh_dir().join("config.toml");
        let keys = format!("host = \"a\"\ntrusted_public_keys = [{:?}]\n", keys::OURS.public);
        fs::write(&config, format!("{}{keys}", bucket.table())).unwrap();
        Self { bucket, config }
    }

    fn program(&self, arguments: &[&str]) -> Command {
        let mut program = Harmonia::program();
        program.arg("--config").arg(&self.config).arg("bucket").args(arguments);
        program.stdout(Stdio::piped()).stderr(Stdio::piped());
        clock::run_fast(&mut program, RATE);
        program
    }

    /// Runs an action that succeeds, and returns what it prints.
    fn says(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.program(arguments).output().unwrap();
        let stdout = String::from_utf8(stdout).unwrap();
        assert!(status.success(), "{:?}: {stdout}{}", self.bucket, String::from_utf8_lossy(&stderr));
        stdout
    }

    fn start(&self, arguments: &[&str]) -> Child {
        self.program(arguments).spawn().unwrap()
    }

    fn verifies(&self, paths: usize) {
        let said = self.says(&["verify"]);
        assert!(said.contains(&format!(": verified {paths} path")) && said.ends_with(", 0 faults\n"), "{said}");
    }
}

fn until(what: &str, bucket: &Bucket, holds: impl Fn() -> bool) {
    for _ in 0..6_000 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{bucket:?}: {what} never comes");
}

/// Whatever was put in this second is not older than none.
fn wait_for_another_second() {
    thread::sleep(Duration::from_secs(2));
}

fn kill(mut run: Child) {
    assert_eq!(run.try_wait().unwrap(), None, "it has ended");
    run.kill().unwrap();
    run.wait().unwrap();
}

/// Deletes two of four paths in two phases, killed in the first one, and undone after that.
fn collects(bucket: &Bucket) {
    let below = item(1, &[]);
    let above = item(2, &[&below]);
    let alone = item(3, &[]);
    let user = item(4, &[&alone]);
    let items = [&below, &above, &alone, &user];
    let operator = Operator::new(bucket);
    for (name, bytes) in items.iter().flat_map(|item| item.objects(&keys::OURS)) {
        bucket.put(&name, &bytes);
    }
    let narinfo = |item: &StoreItem| format!("{}.narinfo", item.hash_part());
    let there = || items.map(|item| bucket.has(&narinfo(item)));
    let _ = operator.says(&["pin", "release", &above.path]);
    wait_for_another_second();
    let planned = operator.says(&[&ALL[..], &["--dry-run"]].concat());
    assert!(planned.contains("would delete 2 paths and 0 NARs, and keep 2 paths\n"), "{planned}");

    if let Some(proxy) = bucket.proxy() {
        // Killed between two deletions.
        proxy.fail("DELETE", None, Fault::Delay(Duration::from_secs(5)), None);
        let run = operator.start(&ALL);
        until("a deletion", bucket, || !bucket.has(&narinfo(&user)));
        kill(run);
        proxy.heal();
        assert_eq!(there(), [true, true, true, false]);
        operator.verifies(3);
    } else {
        let run = operator.start(&ALL);
        until("a plan", bucket, || bucket.has("harmonia/v1/gc/00000001/plan.zst"));
        kill(run);
        assert_eq!(there(), [true; 4]);
    }
    let said = operator.says(&ALL);
    assert!(said.starts_with("garbage collection 00000001: deleted "), "{said}");
    assert_eq!(there(), [true, true, false, false]);
    assert_eq!(bucket.names("nar/").len(), 4, "clients remember narinfos");
    assert_eq!(bucket.names("harmonia/v1/index/a/").len(), 1, "one segment of all paths");
    operator.verifies(2);

    assert_eq!(operator.says(&["gc", "--undo", "1"]), "put back 2 paths; 0 were there\n");
    assert_eq!(there(), [true; 4]);
    operator.verifies(4);

    wait_for_another_second();
    let said = operator.says(&WITH_NARS);
    assert!(said.starts_with("garbage collection 00000002: deleted 2 paths and 0 NARs, kept 2 paths\n"), "{said}");
    let said = operator.says(&WITH_NARS);
    assert_eq!(said, "garbage collection 00000003: deleted 0 paths and 2 NARs, kept 2 paths\n");
    assert_eq!((there(), bucket.names("nar/").len()), ([true, true, false, false], 2));
    operator.verifies(2);
    let undone = operator.program(&["gc", "--undo", "2"]).output().unwrap();
    assert_eq!(String::from_utf8(undone.stdout).unwrap(), "put back 0 paths; 0 were there\n");
    assert!(String::from_utf8(undone.stderr).unwrap().contains("2 of the paths cannot be put back"));
}

/// Returns a block of the page about garbage collections, as `vm-tests/readme-block` prints it.
fn block(heading: &str, number: &str) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut program = Command::new(format!("{root}/vm-tests/readme-block"));
    program.args(["--file", "docs/guide/bucket-gc.md", heading, number]).current_dir(root);
    let output = program.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{heading}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_commands_of_the_guide_do_what_it_says() {
    let bucket = Bucket::directory();
    let below = item(1, &[]);
    let above = item(2, &[&below]);
    let alone = item(3, &[]);
    for (name, bytes) in [&below, &above, &alone].iter().flat_map(|item| item.objects(&keys::OURS)) {
        bucket.put(&name, &bytes);
        bucket.age(&name, Duration::from_secs(100 * 86_400));
    }
    let operator = Operator::new(&bucket);
    // As the service has it, and on a machine that has the program installed.
    let shell = |text: &str| {
        let directory = Path::new(env!("CARGO_BIN_EXE_harmonia")).parent().unwrap();
        let path = format!("{}:/usr/bin:/bin", directory.display());
        let mut shell = Command::new("sh");
        shell.args(["-euc", text]).env("PATH", path).env("CONFIG_FILE", &operator.config);
        clock::run_fast(&mut shell, RATE);
        let output = shell.stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "{text}");
        String::from_utf8(output.stdout).unwrap()
    };
    let keep = block("Keep a release", "1").replace("/nix/store/HASH-NAME", &above.path);
    let (pin, rest) = keep.split_once('\n').unwrap();
    let pinned = shell(pin);
    assert!(pinned.contains("release-26.05: "), "{pinned}");
    let planned = shell(&block("See what would go", "1"));
    assert!(planned.contains("would delete 1 path and 0 NARs, and keep 2 paths\n"), "{planned}");
    assert_eq!(shell(&block("Delete", "1")), block("Delete", "2"));
    let narinfo = format!("{}.narinfo", alone.hash_part());
    assert!(!bucket.has(&narinfo));
    assert_eq!(shell(&block("Undo", "1")), "put back 1 path; 0 were there\n");
    assert!(bucket.has(&narinfo));
    let verified = shell(&block("See that all is well", "1"));
    assert!(verified.ends_with(", 0 faults\n"), "{verified}");
    let unpinned = shell(rest);
    assert!(unpinned.ends_with("release-26.05: removed\n"), "{unpinned}");
}

#[test]
fn what_nobody_needs_is_deleted_from_swift() {
    let _ = Bucket::on(Kind::Swift, "collected").as_ref().map(collects);
}

#[test]
fn what_nobody_needs_is_deleted_from_rclone() {
    let _ = Bucket::on(Kind::Rclone, "collected").as_ref().map(collects);
}

#[test]
fn what_nobody_needs_is_deleted_from_moto() {
    let _ = Bucket::on(Kind::Moto, "collected").as_ref().map(collects);
}

#[test]
fn what_nobody_needs_is_deleted_from_a_directory() {
    collects(&Bucket::directory());
}
