//! `harmonia cache list`, `warm` and `remove`: with a running server, by its admin socket, and without one.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::nix::content;
use crate::nix::daemon::Daemon;
use crate::nix::prefix::Prefix;
use crate::nix::release::Release;
use crate::nix::shared_server;
use crate::support::metrics::{await_value, metrics};
use crate::support::nar_cache::{multi_block_nar, nar_url_of, with_nar_cache};
use crate::support::scratch;
use crate::support::scripted_daemon::Script;
use crate::support::server::Harmonia;
use crate::support::store_item::hash_part;
use crate::support::wire::{LAST, Wire};

const ABSENT: &str = "/nix/store/00000000000000000000000000000000-absent";

/// Server, and the files that its commands need.
struct Place {
    socket: PathBuf,
    config: PathBuf,
}

impl Place {
    /// Creates the configuration of a server with this daemon and these further lines.
    fn new(daemon: &str, more: &str) -> Self {
        let (dir, socket) = (scratch::fresh_dir().join("nars"), scratch::fresh_dir().join("admin.sock"));
        let config = scratch::fresh_dir().join("config.toml");
        // Less than the default, of which a nearly full disk has a warning.
        let cache = "nar_cache.precompress = \"off\"\nnar_cache.max_size = \"256 MiB\"\n";
        let text = with_nar_cache(&dir, &format!("bind = \"127.0.0.1:0\"\n{cache}{daemon}{more}"));
        fs::write(&config, format!("{text}admin_socket = \"{}\"\n", socket.display())).unwrap();
        Self { socket, config }
    }

    fn serve(&self) -> Harmonia {
        let mut program = Harmonia::program();
        program.arg("--config").arg(&self.config);
        Harmonia::launch(program)
    }

    fn cache(&self, arguments: &[&str]) -> Output {
        self.cache_with_input(arguments, "")
    }

    fn cache_with_input(&self, arguments: &[&str], input: &str) -> Output {
        let mut program = Harmonia::program();
        program.arg("--config").arg(&self.config).arg("cache").args(arguments);
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = program.spawn().unwrap();
        running.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        running.wait_with_output().unwrap()
    }

    fn list(&self) -> Value {
        let output = self.cache(&["list", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }
}

/// Checks the exit status and that the output has this text.
fn says(output: &Output, code: i32, text: &str) {
    let all = [&*output.stdout, &*output.stderr].map(String::from_utf8_lossy).concat();
    assert!(output.status.code() == Some(code) && all.contains(text), "not {code} with {text:?}: {all}");
}

fn shared() -> String {
    format!("daemon_socket = \"{}\"\n", Daemon::shared(Release::Nix2_34).socket().display())
}

fn entries(server: &Harmonia) -> usize {
    let text = metrics(server.http());
    let line = text.lines().find_map(|line| line.strip_prefix("harmonia_nar_cache_entries "));
    line.unwrap().parse().unwrap()
}

#[test]
fn warm_and_remove_work_alike_with_and_without_a_server() {
    let (root, closure) = (shared_server::content().path("many-references"), 1 + content::MANY);
    let place = Place::new(&shared(), "");
    // A link is as good.
    let link = scratch::fresh_dir().join("result");
    symlink(root, &link).unwrap();
    let link = link.to_str().unwrap();
    for runs in [false, true] {
        let server = runs.then(|| place.serve());
        says(&place.cache(&["warm", root]), 0, "compressed 1 NAR, 0 already cached, 0 too large");
        says(&place.cache(&["warm", link, root]), 0, "compressed 0 NARs, 1 already cached");
        let made = format!("compressed {} NARs, 1 already cached", closure - 1);
        let warmed = place.cache(&["warm", "--recursive", root]);
        says(&warmed, 0, &made);
        // On a pipe there is nothing but that line.
        assert_eq!((warmed.stdout.split(|byte| *byte == b'\n').count(), &*warmed.stderr), (2, &b""[..]));
        says(&place.cache(&["warm", "/etc"]), 65, "/etc is neither a store path nor a link to one");
        says(&place.cache(&["warm", ABSENT]), 65, "no valid path has the hash part 00000000000000000000000000000000");
        if let Some(server) = &server {
            assert_eq!(entries(server), closure);
            let known = server.http().get(&format!("/{}.narinfo", hash_part(root)));
            assert!(known.text().contains("FileSize: "), "{}", known.text());
        }
        says(&place.cache(&["remove", root, ABSENT]), 0, "removed 1 NAR");
        says(&place.cache(&["remove", root]), 0, "removed 0 NARs");
        if let Some(server) = &server {
            assert_eq!(entries(server), closure - 1);
            let unknown = server.http().get(&format!("/{}.narinfo", hash_part(root)));
            assert!(!unknown.text().contains("FileSize: "), "{}", unknown.text());
        }
        says(&place.cache(&["remove", "-r", root]), 0, &format!("removed {} NARs", closure - 1));
        says(&place.cache(&["stats"]), 0, " 0 NARs, ");
    }
}

#[test]
fn cached_nars_are_listed_and_found_by_store_paths_that_are_gone() {
    let (item, daemon) = multi_block_nar();
    let place = Place::new(&daemon.config_without_cache(), "");
    let server = place.serve();
    let whole = server.http().get(&nar_url_of(server.http(), &item.narinfo_url())).body;
    await_value(server.http(), "harmonia_nar_cache_entries", 1.0);
    let list = place.list();
    let [kept] = &list.as_array().unwrap()[..] else { panic!("{list}") };
    assert_eq!(kept["path"], *item.path);
    assert_eq!(kept["nar_hash"], format!("sha256:{}", item.nar_hash_in_nix32()));
    assert_eq!(
        (kept["nar_size"].as_u64(), kept["file_size"].as_u64()),
        (Some(item.nar.len() as u64), Some(whole.len() as u64))
    );
    assert!(kept["last_used"].as_u64() > Some(1_700_000_000), "{kept}");
    let table = place.cache(&["list", "--sort", "used"]);
    says(&table, 0, &format!("  just now     {}\n", item.path));
    // The path is no longer valid.
    daemon.play(Script::replying(|_| Wire::new().number(LAST).string("").into()));
    says(&place.cache(&["remove", &item.path]), 0, "removed 1 NAR, 1.");
    assert_eq!(place.list(), Value::Array(vec![]));
}

#[test]
fn list_and_remove_need_neither_server_nor_daemon() {
    let (item, daemon) = multi_block_nar();
    let place = Place::new(&daemon.config(), "");
    says(&place.cache(&["warm", &item.path]), 0, "compressed 1 NAR");
    drop(daemon);
    assert_eq!(place.list()[0]["path"], *item.path);
    says(&place.cache(&["remove", "-r", &item.path]), 69, "cannot reach nix-daemon");
    says(&place.cache(&["remove", ABSENT, &item.path]), 0, "removed 1 NAR, 1.");
    assert_eq!(place.list(), Value::Array(vec![]));
}

#[test]
fn a_server_with_tls_is_reached_and_one_that_is_unreachable_is_named() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (scratch::fresh_dir().join("cert.pem"), scratch::fresh_dir().join("key.pem"));
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let path = shared_server::content().path("regular");
    let place = Place::new(&shared(), &format!("tls_cert_path = {cert:?}\ntls_key_path = {key:?}\n"));
    let server = place.serve();
    says(&place.cache(&["warm", path]), 0, "compressed 1 NAR");
    says(&place.cache(&["warm", "--background", path]), 0, "queued 1 path");
    // Its socket is lost, and the directory still in use.
    fs::remove_file(&place.socket).unwrap();
    let why = format!(
        "is in use by another harmonia process, which does not respond: no harmonia server is listening on {}",
        place.socket.display()
    );
    says(&place.cache(&["warm", path]), 69, &why);
    says(&place.cache(&["warm", "--background", path]), 69, "no harmonia server is listening on ");
    drop(server);
    says(&place.cache(&["warm", path]), 0, "compressed 0 NARs, 1 already cached");
}

#[test]
fn paths_on_standard_input_are_queued_by_the_server() {
    let (item, daemon) = multi_block_nar();
    let place = Place::new(&daemon.config(), "");
    let server = place.serve();
    let input = format!("{} {}\n\n\t{}\n", item.path, item.path, ABSENT);
    // Nothing of them is asked for yet: it is done when it is handed over.
    says(&place.cache_with_input(&["warm", "--stdin", "--background"], &input), 0, "queued 2 paths");
    await_value(server.http(), "harmonia_nar_cache_entries", 1.0);
    let line = server.wait_for_log("cannot compress queued path");
    assert!(
        line.contains(" WARN ") && line.contains(" path 00000000000000000000000000000000: no valid path"),
        "{line}"
    );
    says(&place.cache_with_input(&["warm", "--stdin"], "\n"), 0, "compressed 0 NARs");
    says(&place.cache_with_input(&["remove", "--stdin"], &item.path), 0, "removed 1 NAR");
}

/// The hook of the guide.
fn hook() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide/nar-cache.md");
    let page = fs::read_to_string(page).unwrap();
    let lines: Vec<_> = page.lines().skip_while(|line| *line != "    #!/bin/sh").take(2).map(str::trim).collect();
    assert!(lines.len() == 2 && lines[1].contains("$OUT_PATHS"), "{lines:?}");
    lines.join("\n") + "\n"
}

#[test]
fn what_a_daemon_has_built_is_compressed_by_the_hook_of_the_guide() {
    let prefix =
        Prefix::new(Release::Nix2_34, &["substitute = false".to_owned(), "post-build-hook = /nix/tmp/hook".to_owned()]);
    // What the daemon has started sees nothing of this machine but what is below its /nix.
    let program = prefix.on_host("/nix/tmp/harmonia");
    fs::copy(Harmonia::program().get_program(), &program).unwrap();
    let socket = prefix.on_host("/nix/tmp/admin.sock");
    let asks = "/nix/tmp/harmonia --admin-socket /nix/tmp/admin.sock cache";
    let hook_file = prefix.on_host("/nix/tmp/hook");
    let hook = hook();
    assert!(hook.contains("/usr/bin/harmonia cache"), "{hook}");
    // It has another shell, which its tests have no other use for.
    let hook = hook.replace("/usr/bin/harmonia cache", asks).replace("/bin/sh", "/bin/bash-static");
    fs::write(&hook_file, hook).unwrap();
    fs::set_permissions(&hook_file, fs::Permissions::from_mode(0o755)).unwrap();
    let content = content::Content::populate(&prefix);
    let daemon = Daemon::on(prefix, content);
    let place = Place::new(&format!("daemon_socket = {:?}\n", daemon.socket()), "");
    let text = fs::read_to_string(&place.config).unwrap();
    fs::write(&place.config, text.replace(place.socket.to_str().unwrap(), socket.to_str().unwrap())).unwrap();
    let build = |name: &str| {
        let expression = format!(
            "derivation {{ name = \"{name}\"; system = builtins.currentSystem; builder = \"/bin/bash-static\"; outputs = \
             [ \"out\" \"doc\" ]; args = [ \"-c\" \"echo {name} > $out; echo of {name} > $doc\" ]; }}"
        );
        let command = ["nix-build", "--store", "daemon", "--no-out-link", "--expr", &expression];
        daemon.run(&command).text()
    };
    let server = place.serve();
    let output = build("built");
    await_value(server.http(), "harmonia_nar_cache_entries", 2.0);
    let list = place.list();
    let paths: Vec<_> = list.as_array().unwrap().iter().map(|nar| nar["path"].as_str().unwrap()).collect();
    assert!(paths.contains(&&*output) && paths.iter().any(|path| path.ends_with("-built-doc")), "{paths:?}");
    // Nobody who builds has to wait for a server, nor fails for want of one.
    drop(server);
    assert!(build("without-a-server").ends_with("-without-a-server"));
}
