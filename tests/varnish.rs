//! Behind Varnish, by `docs/varnish.vcl` as it is but for the backend's port.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::client::Client;
use crate::support::content::hash_part;
use crate::support::daemon::Daemon;
use crate::support::http::{Http, Response};
use crate::support::keys;
use crate::support::release::Release;
use crate::support::scratch;
use crate::support::scripted_daemon::{Answer, Question, Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;
use crate::support::wire::{LAST, Wire};

/// Stops the process of the file when standard input ends, which only the test binary holds.
const WATCHDOG: &str = r#"cat >/dev/null; kill -TERM "$(cat "$0")""#;
/// More than any buffer of Varnish.
const LARGE: usize = 3_000_000;

/// A running varnishd; stopped on drop, and when the test binary ends.
struct Varnish {
    watchdog: Child,
    address: SocketAddr,
}

impl Varnish {
    /// Starts it before `upstream`, with an empty cache.
    fn before(upstream: SocketAddr) -> Self {
        let dir = scratch::fresh_dir();
        let written = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/varnish.vcl")).unwrap();
        assert_eq!(written.matches("\"5000\"").count(), 1, "the port in docs/varnish.vcl");
        let (vcl, pid) = (dir.join("harmonia.vcl"), dir.join("pid"));
        fs::write(&vcl, written.replace("\"5000\"", &format!("\"{}\"", upstream.port()))).unwrap();
        // It goes into the background when it serves.
        run(Command::new("varnishd")
            .args(["-j", "none", "-a", "127.0.0.1:0", "-s", "malloc,256m", "-n"])
            .arg(&dir)
            .arg("-P")
            .arg(&pid)
            .arg("-f")
            .arg(&vcl));
        let watchdog = Self::watchdog(&pid);
        let listens = run(Command::new("varnishadm").arg("-n").arg(&dir).arg("debug.listen_address"));
        let [_, host, port] = listens.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{listens}") };
        Self { watchdog, address: format!("{host}:{port}").parse().unwrap() }
    }

    fn watchdog(pid: &PathBuf) -> Child {
        Command::new("bash")
            .args(["-c", WATCHDOG])
            .arg(pid)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("cannot run bash")
    }

    fn http(&self) -> Http {
        Http::new(self.address)
    }
}

impl Drop for Varnish {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        self.watchdog.wait().unwrap();
    }
}

/// Runs it to its end, and gives its standard output.
fn run(command: &mut Command) -> String {
    let output =
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Varnish, harmonia, and a daemon that plays a script.
struct Chain {
    varnish: Varnish,
    daemon: ScriptedDaemon,
    harmonia: Harmonia,
}

impl Chain {
    fn before(script: Script) -> Self {
        let daemon = ScriptedDaemon::start(script);
        let harmonia = Harmonia::start(&format!("{}enable_compression = true\n", daemon.config()));
        let varnish = Varnish::before(harmonia.address());
        Self { varnish, daemon, harmonia }
    }
}

fn cache_status(response: &Response) -> &str {
    response.header("x-cache-status").expect("no X-Cache-Status")
}

/// What clients accept makes no difference.
const ZSTD: (&str, &str) = ("Accept-Encoding", "zstd, gzip");

#[test]
fn the_second_request_for_a_narinfo_and_for_a_nar_is_answered_from_the_cache_of_varnish() {
    let item = StoreItem::file_of(LARGE);
    let chain = Chain::before(item.script());
    let http = chain.varnish.http();
    for url in [item.narinfo_url(), item.nar_url()] {
        let first = http.get_with(&url, &[ZSTD]);
        assert_eq!((first.status, cache_status(&first)), (200, "MISS"), "{url}");
        let asked = chain.daemon.seen().asked.len();
        let second = http.get(&url);
        assert_eq!((second.status, cache_status(&second)), (200, "HIT"), "{url}");
        assert_eq!(chain.daemon.seen().asked.len(), asked, "{url}");
        assert!(first.body == second.body, "{url}");
        for response in [first, second] {
            for header in ["content-length", "etag", "cache-control"] {
                assert!(response.header(header).is_some(), "{url}: no {header}");
            }
            assert_eq!(response.header("accept-ranges"), Some("bytes"), "{url}");
            assert_eq!(response.header("content-encoding"), None, "{url}");
        }
    }
    assert!(http.get(&item.nar_url()).body == item.nar);
    assert_eq!(http.get("/metrics").status, 404);
}

#[test]
fn ranges_pass_varnish_with_accept_ranges_whether_the_nar_is_in_its_cache_or_not() {
    let item = StoreItem::file_of(LARGE);
    let chain = Chain::before(item.script());
    let first = LARGE / 2;
    for status in ["MISS", "HIT"] {
        let range = format!("bytes={first}-");
        let response = chain.varnish.http().get_with(&item.nar_url(), &[ZSTD, ("Range", &range)]);
        assert_eq!((response.status, cache_status(&response)), (206, status));
        let expected = format!("bytes {first}-{}/{}", item.nar.len() - 1, item.nar.len());
        assert_eq!(response.header("content-range"), Some(&*expected), "{status}");
        assert_eq!(response.header("accept-ranges"), Some("bytes"), "{status}");
        assert!(response.body == item.nar[first..], "{status}");
    }
}

#[test]
fn a_head_of_a_nar_through_varnish_reads_none() {
    let item = StoreItem::file_of(LARGE);
    let chain = Chain::before(item.script());
    let response = chain.varnish.http().head(&item.nar_url());
    assert_eq!(response.header("content-length"), Some(&*item.nar.len().to_string()));
    assert!(!chain.daemon.seen().asked.iter().any(|question| matches!(question, Question::Nar(_))));
}

#[test]
fn varnish_keeps_no_404_nor_503() {
    let item = StoreItem::file(b"comes later");
    let nothing = Script::answering(|question| match question {
        Question::PathFromHashPart(_) => Wire::new().number(LAST).string("").into(),
        other => panic!("{other:?}"),
    });
    let chain = Chain::before(nothing);
    let http = chain.varnish.http();
    let urls = [item.narinfo_url(), item.nar_url()];
    for url in &urls {
        assert_eq!(http.get(url).status, 404, "{url}");
    }
    chain.daemon.play(Script::answering(|_| Answer::then_hang_up([])));
    for url in &urls {
        let response = http.get_with(url, &[("Range", "bytes=1-")]);
        assert_eq!((response.status, response.header("accept-ranges")), (503, Some("bytes")), "{url}");
    }
    chain.daemon.play(item.script());
    for url in &urls {
        assert_eq!(http.get(url).status, 200, "{url}");
    }
}

#[test]
fn without_harmonia_varnish_says_503_so_that_downloads_are_resumed_later() {
    let item = StoreItem::file(b"not now");
    let Chain { varnish, daemon: _daemon, harmonia } = Chain::before(item.script());
    drop(harmonia);
    let response = varnish.http().get_with(&item.nar_url(), &[("Range", "bytes=1-")]);
    assert_eq!((response.status, response.header("accept-ranges")), (503, Some("bytes")));
    assert_eq!((response.header("content-encoding"), response.body.len()), (None, 0));
}

#[test]
fn a_nar_that_was_cut_is_neither_whole_nor_kept_behind_varnish() {
    let item = StoreItem::file_of(LARGE);
    let half = item.nar[..LARGE / 2].to_vec();
    let cut = move || Answer::then_hang_up(Wire::new().number(LAST).raw(&half).done());
    let chain = Chain::before(item.script_with_nar(cut));
    let http = chain.varnish.http();
    let body = http.get_failing(&item.nar_url(), &[]);
    assert!(body.len() < item.nar.len());

    chain.daemon.play(item.script());
    let response = http.get(&item.nar_url());
    assert_eq!((response.status, cache_status(&response)), (200, "MISS"));
    assert!(response.body == item.nar);
}

#[test]
fn nix_copies_a_closure_through_varnish() {
    let daemon = Daemon::shared(Release::Nix2_34);
    let harmonia = Harmonia::before(daemon);
    let varnish = Varnish::before(harmonia.address());
    let paths = ["many-references", "large"].map(|name| daemon.content().path(name));
    let mut closure = Vec::new();
    for _ in 0..2 {
        let client = Client::new(Release::Nix2_34, &format!("http://{}", varnish.address), &[&keys::OURS]);
        let _ = client.copy(&paths).stdout();
        closure = client.verified_closure(&paths);
        assert!(paths.iter().all(|path| closure.iter().any(|copied| copied == path)), "{closure:?}");
    }
    for path in closure {
        let response = varnish.http().get(&format!("/{}.narinfo", hash_part(&path)));
        assert_eq!(cache_status(&response), "HIT", "{path}");
    }
}
