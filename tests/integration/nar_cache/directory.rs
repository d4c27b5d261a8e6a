//! Directory of the NAR cache: which ones are accepted, which errors others cause, and that the one of the service is found.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::operations::unusual_environments::{after_mounts, config};
use crate::support::keys;
use crate::support::metrics::{await_value, metrics, value as series};
use crate::support::nar_cache::{multi_block_nar, nar_url_of, with_nar_cache};
use crate::support::scratch;
use crate::support::scripted_daemon::{Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;

fn file(text: &str) -> PathBuf {
    let file = scratch::fresh_dir().join("config.toml");
    fs::write(&file, format!("bind = \"127.0.0.1:0\"\n{text}")).unwrap();
    file
}

fn run(config: &Path, arguments: &[&str]) -> Output {
    let mut program = Harmonia::program();
    program.arg("--config").arg(config).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    program.output().unwrap()
}

/// Checks the exit status and that the output has this text; returns the output.
fn says(output: &Output, code: i32, text: &str) -> String {
    let all = [&*output.stdout, &*output.stderr].map(String::from_utf8_lossy).concat();
    assert!(output.status.code() == Some(code) && all.contains(text), "not {code} with {text:?}: {all}");
    all
}

const SUBCOMMANDS: [&[&str]; 6] = [
    &[],
    &["check"],
    &["cache", "stats"],
    &["cache", "verify"],
    &["cache", "clear"],
    &["cache", "warm", "/nix/store/00000000000000000000000000000000-a"],
];

#[test]
fn a_directory_with_files_of_others_is_refused_everywhere_and_nothing_in_it_is_touched() {
    let (_, daemon) = multi_block_nar();
    let used = scratch::fresh_dir();
    fs::create_dir(used.join("tmp")).unwrap();
    let theirs = used.join("tmp/12345");
    fs::write(&theirs, "theirs").unwrap();
    let link = scratch::fresh_dir().join("link");
    symlink(&used, &link).unwrap();
    let public = scratch::fresh_dir();
    fs::set_permissions(&public, fs::Permissions::from_mode(0o1777)).unwrap();
    for (dir, why) in [
        (&used, "it has files but no CACHEDIR.TAG of harmonia"),
        (&link, "it has files but no CACHEDIR.TAG"),
        (&PathBuf::from("/"), "it has files but no CACHEDIR.TAG"),
        (&public, "every user can write to it"),
        (&PathBuf::from("/nix/store"), "it is in the Nix store"),
    ] {
        let config = file(&with_nar_cache(dir, &daemon.config()));
        for arguments in SUBCOMMANDS {
            let said =
                says(&run(&config, arguments), 78, &format!("cannot use {} as the NAR cache: {why}", dir.display()));
            assert!(said.contains("\n  help: set nar_cache.dir to a "), "{said}");
        }
    }
    assert_eq!(fs::read_to_string(theirs).unwrap(), "theirs");
    assert_eq!(fs::read_dir(&used).unwrap().count(), 1);
}

#[test]
fn a_disabled_nar_cache_is_logged_at_start_and_by_check() {
    let (_, daemon) = multi_block_nar();
    let dir = scratch::fresh_dir().join("nars");
    let signed = format!("{}sign_key_paths = [{:?}]\n", daemon.config(), keys::OURS.secret);
    let kept = with_nar_cache(&dir, &signed);
    let off = "NARs are served uncompressed: enable_compression = false";
    for (config, warning, why) in [
        (format!("{kept}enable_compression = false\n"), "nar_cache.dir stores only NARs whose", off),
        (format!("{kept}nar_cache.max_size = 0\n"), "nar_cache.dir has no effect with nar_cache.max_size = 0", ""),
        (
            format!("{kept}nar_cache.max_size = \"1 MiB\"\n"),
            "nar_cache.max_size (1.0 MiB) is too small for any NAR",
            "",
        ),
        (format!("{kept}nar_cache.max_size = \"1000 T\"\n"), "nar_cache.max_size is 1000.0 TiB, but the file", ""),
        (
            format!("{signed}enable_compression = true\n"),
            "enable_compression has no effect",
            "no NAR cache is configured",
        ),
    ] {
        let harmonia = Harmonia::start(&config);
        assert!(harmonia.wait_for_log(warning).contains(" WARN "), "{warning}");
        harmonia.wait_for_log(why);
        assert_eq!(harmonia.log().matches(" WARN ").count(), 1, "{}", harmonia.log());
        drop(harmonia);
        let checked = run(&file(&config), &["check"]);
        says(&checked, 0, warning);
    }
}

#[test]
fn the_first_nar_that_does_not_fit_is_logged() {
    let (item, daemon) = multi_block_nar();
    let dir = scratch::fresh_dir().join("nars");
    let harmonia =
        Harmonia::start(&format!("{}nar_cache.max_size = \"2 MiB\"\n", with_nar_cache(&dir, &daemon.config())));
    assert_eq!(nar_url_of(harmonia.http(), &item.narinfo_url()), item.nar_url());
    let line = harmonia.wait_for_log("may not fit into the NAR cache (2.0 MiB)");
    assert!(
        line.contains(" INFO ") && line.contains(&format!("serving the NAR of {} (1.1 MiB) uncompressed", item.path)),
        "{line}"
    );
    let _ = harmonia.http().get(&item.narinfo_url());
    assert_eq!(harmonia.log().matches("may not fit").count(), 1);
}

/// Returns a NAR of half a megabyte that does not compress.
fn noise(number: u32) -> StoreItem {
    let mut state = number + 1;
    let noise = (0..500_000).map(|_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    });
    StoreItem { path: format!("/nix/store/{number:032}-item"), ..StoreItem::file(&noise.collect::<Vec<_>>()) }
}

/// Once it stayed full after the first few NARs, with an error for every other.
#[test]
fn the_oldest_nars_are_evicted_when_the_disk_is_smaller_than_max_size() {
    let items: Vec<_> = (0..12).map(noise).collect();
    let known = items.clone();
    let daemon = ScriptedDaemon::start(Script::replying(move |query| {
        StoreItem::reply_among(&known, query).unwrap_or_else(|| panic!("asked {query:?}"))
    }));
    // A third of it is full of other files.
    let around = scratch::fresh_dir();
    let dir = around.join("nars");
    let config = file(&format!("{}nar_cache.precompress = \"off\"\n", with_nar_cache(&dir, &daemon.config())));
    let at = around.display();
    let mount = format!("mount -t tmpfs -o size=6m,mode=755 none {at}; head -c 2000000 /dev/zero > {at}/theirs");
    let harmonia = Harmonia::launch(after_mounts(&mount, &config));
    let warning = harmonia.wait_for_log(&format!("the file system of {} has only 3.", dir.display()));
    assert!(warning.contains(" WARN nar_cache.max_size is 10.0 GiB"), "{warning}");
    let http = harmonia.http();
    for item in &items {
        let url = nar_url_of(http, &item.narinfo_url());
        let whole = http.get(&url).body;
        await_value(http, "harmonia_nar_cache_fills", 0.0);
        assert!(http.get_with(&url, &[("Range", "bytes=9-")]).body == whole[9..]);
    }
    let metrics = metrics(http);
    assert!(series(&metrics, "harmonia_nar_cache_removed_total{reason=\"space\"}") >= Some(4.0), "{metrics}");
    assert_eq!(series(&metrics, "harmonia_nar_cache_requests_total{result=\"hit\"}"), Some(12.0));
    assert!(!harmonia.log().contains(" ERROR "), "{}", harmonia.log());
}

/// Runs `harmonia cache stats` without a configuration, after these shell commands.
fn stats_after(script: &str) -> Output {
    let mut command = after_mounts(script, &config(Path::new("/s"), Path::new("/k"), ""));
    // All of it but `--config FILE`.
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let mut bare = Command::new(command.get_program());
    bare.args(&arguments[..arguments.len() - 2]).args(["cache", "stats"]).env_clear();
    bare.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdout(Stdio::piped()).stderr(Stdio::piped());
    command = bare;
    command.output().unwrap()
}

#[test]
fn the_directory_of_the_service_is_found_by_its_unit_or_at_the_usual_place() {
    let (item, daemon) = multi_block_nar();
    let dir = scratch::fresh_dir().join("nars");
    let text = with_nar_cache(&dir, &daemon.config());
    let harmonia = Harmonia::start(&text);
    let _ = harmonia.http().get(&nar_url_of(harmonia.http(), &item.narinfo_url()));
    await_value(harmonia.http(), "harmonia_nar_cache_entries", 1.0);
    let config = file(&text);
    // A systemctl that has such a unit, before all others.
    let systemctl = |answer: &str| {
        let bin = scratch::fresh_dir();
        fs::write(bin.join("systemctl"), format!("#!/bin/sh\ncat <<'END'\n{answer}END\n")).unwrap();
        fs::set_permissions(bin.join("systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
        format!("PATH={}:$PATH; mount -t tmpfs none /var/cache\n", bin.display())
    };
    let bind = format!("mkdir /var/cache/harmonia; mount --bind {} /var/cache/harmonia\n", dir.display());
    let unit = systemctl(&format!("LoadState=loaded\nEnvironment=CONFIG_FILE={}\n", config.display()));
    let said = says(&stats_after(&unit), 0, &format!("{}: 1 NAR, ", dir.display()));
    assert!(said.contains(&format!(" INFO using {}, the directory of harmonia.service", dir.display())), "{said}");
    let unit = systemctl("LoadState=loaded\nCacheDirectory=harmonia\nEnvironment=\n");
    let said = says(&stats_after(&format!("{unit}{bind}")), 0, "/var/cache/harmonia: 1 NAR, ");
    assert!(said.contains("the directory of harmonia.service"), "{said}");
    let none = systemctl("LoadState=not-found\n");
    let said = says(&stats_after(&format!("{none}{bind}")), 0, "/var/cache/harmonia: 1 NAR, ");
    assert!(said.contains(" INFO using /var/cache/harmonia, which has a CACHEDIR.TAG of harmonia"), "{said}");
    let said =
        says(&stats_after(&format!("{none}rm -rf /var/cache/harmonia\n")), 78, "no NAR cache directory is configured");
    assert!(said.contains("help: set nar_cache.dir"), "{said}");
}
