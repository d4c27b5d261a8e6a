//! Unusual environments: the program works or reports why it cannot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::nix::client::Client;
use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::nix::shared_server;
use crate::support::http::Connection;
use crate::support::keys;
use crate::support::scratch;
use crate::support::server::Harmonia;
use crate::support::store_item::hash_part;

/// Mount points of the tests' and the program's directories, since another user may not enter the real ones.
const SCRATCH: &str = "/srv";
const PROGRAM: &str = "/mnt";

fn daemon() -> &'static Daemon {
    Daemon::shared(Release::Nix2_34)
}

/// Returns a configuration for the shared daemon, with a signing key.
pub(crate) fn config(daemon_socket: &Path, key: &Path, more: &str) -> PathBuf {
    let file = scratch::fresh_dir().join("config.toml");
    let (socket, key) = (daemon_socket.display(), key.display());
    let text = format!("bind = \"127.0.0.1:0\"\ndaemon_socket = \"{socket}\"\nsign_key_paths = [\"{key}\"]\n{more}");
    fs::write(&file, text).unwrap();
    file
}

/// Returns a command that starts the program in a shell after `script`.
fn after(script: &str, config: &Path) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-ec", &format!("{script}\nexec \"$0\" \"$@\"")]).arg(Harmonia::program().get_program());
    shell.arg("--config").arg(config).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdout(Stdio::null());
    shell
}

/// Returns a command that starts the program in a mount namespace of its own, after `script`.
pub(crate) fn after_mounts(script: &str, config: &Path) -> Command {
    let inner = after(script, config);
    let mut outer = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        outer.arg("--map-root-user");
    }
    outer.arg("--mount").arg(inner.get_program()).args(inner.get_args());
    outer.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdout(Stdio::null());
    outer
}

/// Checks that it serves narinfos and NARs.
fn serves(harmonia: &Harmonia) {
    for name in ["regular", "odd-entries"] {
        let narinfo = harmonia.http().get(&shared_server::narinfo_url(name));
        assert_eq!((narinfo.status, narinfo.text()), (200, &*shared_server::narinfo(name)), "{name}");
        let nar = shared_server::nar_url(name);
        assert!(harmonia.http().get(&nar).body == shared_server::http().get(&nar).body, "{name}");
        let listing = format!("/{}.ls", hash_part(shared_server::content().path(name)));
        let (here, there) = (harmonia.http().get(&listing), shared_server::http().get(&listing));
        assert_eq!((here.status, here.body), (there.status, there.body), "{name}");
    }
}

#[test]
fn with_64_descriptors_clients_wait_and_the_log_says_for_what() {
    let config = config(&daemon().socket(), &keys::OURS.secret, "");
    let harmonia = Harmonia::launch(after("ulimit -n 64", &config));
    serves(&harmonia);
    let crowd: Vec<_> = (0..100).map(|_| Connection::open(harmonia.address()).unwrap()).collect();
    harmonia.wait_for_log("limiting connections to 32 instead of 8192: the limit of open files is 64");
    harmonia.wait_for_log("  help: raise it (LimitNOFILE= in the unit, ulimit -Hn), or lower max_connections");
    // Those that ask nothing make way for those that do.
    serves(&harmonia);
    assert!(!harmonia.log().contains("cannot accept"), "{}", harmonia.log());
    drop(crowd);
    serves(&harmonia);
    let client = Client::new(Release::Nix2_34, harmonia.url(), &[&keys::OURS]);
    let path = shared_server::content().path("many-references");
    let _ = client.copy(&[path]).stdout();
    assert!(client.has(path));
}

#[test]
fn a_read_only_file_system_disables_the_cache_and_nothing_else() {
    let dir = scratch::fresh_dir().join("nars");
    let more = format!("enable_compression = true\nnar_cache.dir = \"{}\"\n", dir.display());
    let config = config(&daemon().socket(), &keys::OURS.secret, &more);
    let harmonia = Harmonia::launch(after_mounts("mount -o remount,bind,ro /", &config));
    let error = harmonia.wait_for_log(&dir.display().to_string());
    assert!(error.contains(" ERROR ") && error.contains("Read-only file system"), "{error}");
    let client = Client::new(Release::Nix2_26, harmonia.url(), &[&keys::OURS]);
    let paths = ["regular", "odd-entries"].map(|name| shared_server::content().path(name));
    let _ = client.copy(&paths).stdout();
    assert_eq!(client.verified_closure(&paths).len(), paths.len());
}

/// Returns the location of a path of the tests' directory in the namespace of [`after_moving`].
fn moved(path: &Path) -> PathBuf {
    let fresh = scratch::fresh_dir();
    Path::new(SCRATCH).join(path.strip_prefix(fresh.parent().unwrap()).unwrap())
}

/// The program, its configuration, its key and the daemon's store by ways that everybody may go and that are not below
/// `/tmp`.
fn after_moving(script: &str, config: &Path, key: &Path) -> Command {
    let program = PathBuf::from(Harmonia::program().get_program());
    let (directory, name) = (program.parent().unwrap().display(), program.file_name().unwrap().to_str().unwrap());
    let binds = [config, key, &daemon().on_host("/nix/store")].map(|path| {
        let from = path.parent().unwrap();
        let (from, to) = (from.display(), moved(from));
        let to = to.display();
        format!("mkdir {to}; mount --bind '{from}' {to}")
    });
    let steps = format!(
        "mount --bind '{directory}' {PROGRAM}; mount -t tmpfs none {SCRATCH}; {}; set -- {PROGRAM}/{name} \"$@\"\n\
         {script}\nexec \"$@\"",
        binds.join("; ")
    );
    after_mounts(&steps, &moved(config))
}

#[test]
fn no_directory_for_temporary_files_is_needed() {
    let key = &keys::OURS.secret;
    let config = config(&moved(&daemon().socket()), &moved(key), "");
    let harmonia = Harmonia::launch(after_moving("mount -t tmpfs -o ro none /tmp", &config, key));
    serves(&harmonia);
}

#[test]
fn as_nobody_it_serves_and_a_key_that_it_may_not_read_is_named() {
    // Who is not root is nobody already.
    let is_root = rustix::process::geteuid().is_root();
    let become_nobody = if is_root { "set -- setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"" } else { "" };
    let key = scratch::fresh_dir().join("secret");
    fs::copy(&keys::OURS.secret, &key).unwrap();
    if is_root {
        rustix::fs::chown(&key, Some(rustix::process::Uid::from_raw(65534)), None).unwrap();
    }
    let readable = config(&moved(&daemon().socket()), &moved(&key), "");
    serves(&Harmonia::launch(after_moving(become_nobody, &readable, &key)));

    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    let output = after_moving(become_nobody, &readable, &key).output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{log}");
    assert!(
        log.contains(&format!("cannot read the signing key {}: Permission denied", moved(&key).display())),
        "{log}"
    );
}

#[test]
fn in_the_locale_c_and_in_one_that_does_not_exist_names_are_bytes() {
    for locale in ["C", "tlh_QO.ISO-8859-1"] {
        let config = config(&daemon().socket(), &keys::OURS.secret, "");
        serves(&Harmonia::launch(after(&format!("export LC_ALL={locale} LANG={locale}"), &config)));
    }
}

/// The clock jumps back and forth by thirty years at each read.
const JUMPING: &str = r"
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static _Atomic unsigned looks;
int clock_gettime(clockid_t clock, struct timespec *now) {
    long failed = syscall(SYS_clock_gettime, clock, now);
    if (failed == 0 && clock == CLOCK_REALTIME)
        now->tv_sec += (looks++ % 3 - 1L) * 30 * 365 * 24 * 3600;
    return failed;
}
";

#[test]
fn while_the_clock_jumps_by_decades_nothing_changes() {
    let dir = scratch::fresh_dir();
    let (source, library) = (dir.join("jumping.c"), dir.join("jumping.so"));
    fs::write(&source, JUMPING).unwrap();
    let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status().unwrap();
    assert!(made.success());
    let more = format!("narinfo_cache.ttl = 1\nreal_nix_store = \"{}\"\n", daemon().on_host("/nix/store").display());
    let config = config(&daemon().socket(), &keys::OURS.secret, &more);
    let harmonia = Harmonia::launch(after(&format!("export LD_PRELOAD='{}'", library.display()), &config));
    harmonia.wait_for_log("nix-daemon at ");
    let log = harmonia.log();
    let decades: std::collections::BTreeSet<_> = log.lines().filter_map(|line| line.get(..3)).collect();
    assert!(decades.len() > 2, "the clock does not jump:\n{log}");
    for _ in 0..3 {
        serves(&harmonia);
        assert_eq!(harmonia.http().get(&format!("/debuginfo/{}", "ab".repeat(20))).status, 404);
        assert_eq!(harmonia.http().get("/ready").status, 200);
    }
}
