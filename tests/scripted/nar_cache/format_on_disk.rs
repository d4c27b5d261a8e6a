//! `docs/reference/format-on-disk.md`: its commands find the NAR in a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::metrics::await_value;
use crate::support::nar_cache::{decoded, multi_block_nar, nar_url_of, with_nar_cache};
use crate::support::scratch;
use crate::support::server::Harmonia;

const PAGE: &str = include_str!("../../../docs/reference/format-on-disk.md");

/// Returns the only entry of a directory that is itself a directory, or a file of a NAR.
fn only_child(dir: &Path) -> PathBuf {
    let children = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let is_ours = |path: &PathBuf| !["CACHEDIR.TAG", "lock", "tmp"].iter().any(|name| path.ends_with(name));
    let children: Vec<_> = children.filter(is_ours).collect();
    assert_eq!(children.len(), 1, "{children:?}");
    children[0].clone()
}

#[test]
fn the_documented_commands_read_a_file_of_the_nar_cache() {
    let (item, daemon) = multi_block_nar();
    let dir = scratch::fresh_dir().join("nars");
    let harmonia = Harmonia::start(&with_nar_cache(&dir, &daemon.config()));
    let http = harmonia.http();
    let served = http.get(&nar_url_of(http, &format!("/{}.narinfo", item.hash_part()))).body;
    await_value(http, "harmonia_nar_cache_entries", 1.0);

    let file = only_child(&only_child(&only_child(&dir)));
    let commands = PAGE.split_once("\n## Read a file without harmonia\n").unwrap().1;
    let mut commands = commands.lines().filter_map(|line| line.strip_prefix("    ")).skip(1);
    let length = commands.next().unwrap();
    let (head, _) = commands.next().unwrap().split_once(" | zstd -d ").unwrap();
    let script = format!("file=$0\n{length}\n{head}");
    let printed = Command::new("bash").args(["-euc", &script]).arg(&file).output().unwrap();
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    assert!(printed.stdout == served);
    assert!(decoded(&printed.stdout) == item.nar);

    let bytes = fs::read(&file).unwrap();
    let footer = &bytes[bytes.len() - 112..];
    assert_eq!(&footer[..8], b"harmnar2");
    let name = item.path.strip_prefix("/nix/store/").unwrap();
    assert!(bytes[..bytes.len() - 112].ends_with(name.as_bytes()));
    let expected = served.len() + served.len().div_ceil(128 << 10) * 8 + name.len() + 112;
    assert_eq!(bytes.len(), expected);
}
