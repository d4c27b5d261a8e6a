//! `harmonia bucket gc`, `pin`, `unpin` and `pins`, without a running server.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use super::other_host::{OtherHost, item};
use crate::support::scratch;
use crate::support::store_item::StoreItem;

const DAY: Duration = Duration::from_secs(86_400);

/// A bucket that another host has published into, and a configuration.
struct Bucket {
    host: OtherHost,
    config: PathBuf,
}

impl Bucket {
    /// Publishes paths long ago.
    fn new(items: &[&StoreItem]) -> Self {
        let (host, config) = (OtherHost::new(), scratch::fresh_dir().join("config.toml"));
        fs::write(&config, host.table()).unwrap();
        host.publish(items);
        let bucket = Self { host, config };
        bucket.age(100 * DAY);
        bucket
    }

    /// Makes all objects older.
    fn age(&self, by: Duration) {
        for entry in walk(&self.host.bucket) {
            let file = File::options().append(true).open(entry).unwrap();
            file.set_modified(SystemTime::now() - by).unwrap();
        }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut program = Command::new(env!("CARGO_BIN_EXE_harmonia"));
        program.arg("--config").arg(&self.config).arg("bucket").args(arguments);
        program.output().unwrap()
    }

    /// Runs an action that succeeds, and returns what it prints.
    fn says(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.run(arguments);
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    fn has(&self, item: &StoreItem) -> bool {
        self.host.bucket.join(format!("{}.narinfo", item.hash_part())).exists()
    }

    fn nars(&self) -> usize {
        fs::read_dir(self.host.bucket.join("nar")).unwrap().count()
    }
}

fn walk(directory: &PathBuf) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

fn three() -> [StoreItem; 3] {
    let below = item(1, &[]);
    let above = item(2, &[&below]);
    [below, above, item(3, &[])]
}

#[test]
fn a_dry_run_prints_what_nobody_needs_and_deletes_nothing() {
    let [below, above, alone] = three();
    let bucket = Bucket::new(&[&below, &above, &alone]);
    assert_eq!(
        bucket.says(&["gc", "--keep", "101d", "--dry-run"]),
        "would delete 0 paths and 0 NARs, and keep 3 paths\n"
    );
    let _ = bucket.says(&["pin", "release", &above.path]);
    let planned = bucket.says(&["gc", "--keep", "90d", "--dry-run"]);
    let expected = format!(
        "{}\nwould delete 1 path and 0 NARs, and keep 2 paths\n1 NAR without a narinfo, for a later run\n",
        alone.hash_part()
    );
    assert_eq!(planned, expected);
    assert!(bucket.has(&alone) && bucket.nars() == 3);
}

#[test]
fn a_pin_of_the_bucket_is_set_listed_and_removed() {
    let [below, above, _] = three();
    let bucket = Bucket::new(&[&below]);
    assert_eq!(bucket.says(&["pins"]), "nothing is pinned\n");
    let set = bucket.says(&["pin", "a", "--for", "30d", &below.path]);
    assert!(set.starts_with("a: pinned 0 s ago by ") && set.contains(", for 30 d more\n  "), "{set}");
    let json = bucket.says(&["pins", "--json"]);
    assert!(json.starts_with("[{\"name\":\"a\",\"roots\":[\"") && json.contains("\"until\":"), "{json}");
    let missing = bucket.run(&["pin", "b", &above.path]);
    let said = String::from_utf8(missing.stderr).unwrap();
    assert_eq!(missing.status.code(), Some(65));
    assert!(said.contains(&format!("{} is pinned, but not in the bucket", above.path)), "{said}");
    assert_eq!(bucket.says(&["unpin", "a"]), "a: removed\n");
    assert_eq!(bucket.run(&["unpin", "a"]).status.code(), Some(65));
    assert_eq!(bucket.run(&["gc", "--undo", "7"]).status.code(), Some(65));
    assert_eq!(bucket.run(&["pin", "../a", &below.path]).status.code(), Some(64));
}
