//! A spool on a disk that is full.

use std::fs;
use std::process::Command;

use super::source::Source;
use super::{Cache, config_of, put, put_with};
use crate::nix::release::Release;
use crate::support::scratch;
use crate::support::server::Harmonia;

#[test]
fn a_full_disk_refuses_what_does_not_fit_and_nothing_else() {
    let cache = Cache::start(Release::Nix2_34);
    let (state, file) = (scratch::fresh_dir(), scratch::fresh_dir().join("config.toml"));
    let config = config_of(&cache.daemon, &state.display().to_string());
    fs::write(&file, format!("bind = \"127.0.0.1:0\"\n{config}")).unwrap();
    let program = Harmonia::program();
    let script = format!(
        "mount -t tmpfs -o size=4m tmpfs {} && exec {} --config {}",
        state.display(),
        program.get_program().to_string_lossy(),
        file.display()
    );
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--mount", "sh", "-c", &script]).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let harmonia = Harmonia::launch(command);

    let source = Source::new(Release::Nix2_34, '3', 8 << 20);
    let [nar, _] = source.files(&source.leaf);
    let refused = put(harmonia.http(), &nar);
    assert_eq!(refused.status, 507, "{}", refused.text());
    assert!(refused.text().contains("make space"), "{}", refused.text());
    // Without a length it is found out later.
    let body = [format!("{:x}\r\n", nar.content.len()).as_bytes(), &nar.content, b"\r\n0\r\n\r\n"].concat();
    let refused = put_with(harmonia.http(), &nar.target, "Transfer-Encoding: chunked", &body);
    assert!(matches!(refused.status, 503 | 507), "{}: {}", refused.status, refused.text());

    for file in source.files(&source.addressed) {
        assert_eq!(put(harmonia.http(), &file).status, 200);
    }
    assert!(cache.is_valid(&source.addressed) && !cache.is_valid(&source.leaf));
}
