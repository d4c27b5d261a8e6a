//! Garbage collections of the bucket on servers: what nobody needs goes, and old uploads with it.

use std::fs;
use std::process::{Command, Output};

use harmonia_protocol::nix32;
use ring::digest::{SHA256, digest};

use crate::support::engine::{Engine, Kind};
use crate::support::scratch;

fn harmonia(engine: &Engine, folder: &str, arguments: &[&str]) -> Output {
    let config = scratch::fresh_dir().join("config.toml");
    let text = format!(
        "[bucket]\nurl = \"s3://{}/{folder}\"\nendpoint = {:?}\nregion = {:?}\nallow_http = true\nhost = \"a\"\n",
        engine.bucket(),
        engine.endpoint(),
        engine.region()
    );
    fs::write(&config, text).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_harmonia"));
    program.env("AWS_ACCESS_KEY_ID", engine.access_key()).env("AWS_SECRET_ACCESS_KEY", engine.secret_key());
    program.arg("--config").arg(&config).arg("bucket").args(arguments).output().unwrap()
}

fn says(engine: &Engine, folder: &str, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = harmonia(engine, folder, arguments);
    assert!(status.success(), "{folder}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// Returns the path of this number, and puts its NAR and its narinfo.
fn put(engine: &Engine, folder: &str, number: u32, references: &[&str]) -> String {
    let (s3, nar, path) = (engine.s3(), format!("NAR {number}"), format!("/nix/store/{number:032}-item"));
    let hash = nix32::encode(digest(&SHA256, nar.as_bytes()).as_ref());
    let names: Vec<_> = references.iter().map(|path| &path["/nix/store/".len()..]).collect();
    assert_eq!(s3.put(&format!("{folder}/nar/{hash}.nar.zst"), nar.as_bytes()).status, 200);
    let narinfo = format!(
        "StorePath: {path}\nURL: nar/{hash}.nar.zst\nCompression: zstd\nFileHash: sha256:{hash}\nFileSize: {}\nNarHash: sha256:{hash}\n\
         NarSize: 120\nReferences: {}\n",
        nar.len(),
        names.join(" ")
    );
    assert_eq!(s3.put(&format!("{folder}/{number:032}.narinfo"), narinfo.as_bytes()).status, 200);
    path
}

fn collects(kind: Kind) {
    let Some(engine) = Engine::start(kind) else { return };
    let (s3, folder) = (engine.s3(), "collected");
    let below = put(&engine, folder, 1, &[]);
    let above = put(&engine, folder, 2, &[&below]);
    let alone = put(&engine, folder, 3, &[]);
    let _ = put(&engine, folder, 4, &[&alone]);
    let _ = says(&engine, folder, &["pin", "release", &above]);
    // Whatever was put in this second is not older than none.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let planned = says(&engine, folder, &["gc", "--keep", "0s", "--dry-run"]);
    assert!(planned.contains("would delete 2 paths and 0 NARs, and keep 2 paths\n"), "{planned}");
    let said = says(&engine, folder, &["gc", "--keep", "0s"]);
    assert!(said.starts_with("garbage collection 00000001: deleted 2 paths and 0 NARs, kept 2 paths\n"), "{said}");
    let there = |number: u32| s3.get(&format!("{folder}/{number:032}.narinfo")).status == 200;
    assert_eq!([1, 2, 3, 4].map(there), [true, true, false, false]);
    assert_eq!(s3.list(&format!("{folder}/nar/"), 9, &[]).keys.len(), 4);
    assert_eq!(s3.list(&format!("{folder}/harmonia/v1/index/a/"), 9, &[]).keys.len(), 1, "one segment of all paths");
    let undone = says(&engine, folder, &["gc", "--undo", "1"]);
    assert_eq!(undone, "put back 2 paths; 0 were there\n");
    assert_eq!([1, 2, 3, 4].map(there), [true; 4]);
}

#[test]
#[ignore = "takes minutes"]
fn what_nobody_needs_is_deleted_from_swift() {
    collects(Kind::Swift);
}

#[test]
#[ignore = "takes minutes"]
fn what_nobody_needs_is_deleted_from_rclone() {
    collects(Kind::Rclone);
}

#[test]
#[ignore = "takes minutes"]
fn what_nobody_needs_is_deleted_from_moto() {
    collects(Kind::Moto);
}
