//! Behind nginx, by `docs/nginx.conf` as it is but for addresses and the place of the cache.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

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

/// What nginx needs besides the file that is tested. As root its workers stay root, since the scratch directory is closed
/// to others; without root the line is ignored.
const AROUND: &str = "daemon off;\nuser root;\npid @/pid;\nerror_log @/error.log;\nevents {}\nhttp {\naccess_log off;\n\
    client_body_temp_path @/body;\nproxy_temp_path @/proxy;\nfastcgi_temp_path @/fastcgi;\nuwsgi_temp_path @/uwsgi;\n\
    scgi_temp_path @/scgi;\ninclude @/harmonia.conf;\n}\n";
/// Stops nginx with its workers when standard input ends, which only the test binary holds.
const WATCHDOG: &str = r#"cat >/dev/null; kill -TERM "$0""#;
/// More than any buffer of nginx.
const LARGE: usize = 3_000_000;

/// A running nginx; stopped on drop, and when the test binary ends.
struct Nginx {
    program: Child,
    watchdog: Child,
    address: SocketAddr,
    log: PathBuf,
}

impl Nginx {
    /// Starts it before `upstream`, an address as nginx writes it, with an empty cache.
    fn before(upstream: &str) -> Self {
        let dir = scratch::fresh_dir();
        // The kernel's choice of port, handed to nginx as one nginx hands its sockets to the next: clients may come
        // before it is there.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/nginx.conf")).unwrap();
        for (written, here) in [
            ("/var/cache/nginx/harmonia", dir.join("cache").to_str().unwrap()),
            ("server 127.0.0.1:5000;", &format!("server {upstream};")),
            ("    listen 80;\n", &format!("    listen {address};\n")),
            ("    listen [::]:80;\n", ""),
            // The disk of a test machine may be nearly full, which would empty the cache.
            ("min_free=2g", "min_free=0"),
        ] {
            assert_eq!(text.matches(written).count(), 1, "{written} in docs/nginx.conf");
            text = text.replace(written, here);
        }
        fs::write(dir.join("harmonia.conf"), text).unwrap();
        fs::write(dir.join("nginx.conf"), AROUND.replace('@', dir.to_str().unwrap())).unwrap();
        let program = Command::new("sh")
            .args(["-c", r#"exec nginx -e "$0/error.log" -p "$0" -c "$0/nginx.conf" 3<&0 </dev/null"#])
            .arg(&dir)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("NGINX", "3;")
            .stdin(OwnedFd::from(listener))
            .spawn()
            .expect("cannot run sh");
        let watchdog = Command::new("bash")
            .args(["-c", WATCHDOG])
            .arg(program.id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("cannot run bash");
        Self { program, watchdog, address, log: dir.join("error.log") }
    }

    fn http(&self) -> Http {
        Http::new(self.address)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        self.watchdog.wait().unwrap();
        self.program.wait().unwrap();
        if thread::panicking() {
            eprintln!("nginx logged:\n{}", fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

/// nginx, harmonia, and a daemon that plays a script.
struct Chain {
    nginx: Nginx,
    daemon: ScriptedDaemon,
    _harmonia: Harmonia,
}

impl Chain {
    fn before(script: Script) -> Self {
        let daemon = ScriptedDaemon::start(script);
        let harmonia = Harmonia::start(&format!("{}enable_compression = true\n", daemon.config()));
        let nginx = Nginx::before(&harmonia.address().to_string());
        Self { nginx, daemon, _harmonia: harmonia }
    }

    /// How often the daemon was asked for a NAR.
    fn nars_read(&self) -> usize {
        self.daemon.seen().asked.iter().filter(|question| matches!(question, Question::Nar(_))).count()
    }
}

fn cache_status(response: &Response) -> &str {
    response.header("x-cache-status").expect("no X-Cache-Status")
}

/// The same for every client, which accepts what it likes.
const ZSTD: (&str, &str) = ("Accept-Encoding", "zstd, gzip");

#[test]
fn the_second_request_for_a_narinfo_and_for_a_nar_is_answered_from_the_cache_of_nginx() {
    let item = StoreItem::file_of(LARGE);
    let chain = Chain::before(item.script());
    let http = chain.nginx.http();
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
}

#[test]
fn ranges_pass_nginx_with_accept_ranges_whether_the_nar_is_in_its_cache_or_not() {
    let item = StoreItem::file_of(LARGE);
    let chain = Chain::before(item.script());
    let first = LARGE / 2;
    for status in ["MISS", "HIT"] {
        let response = chain.nginx.http().get_with(&item.nar_url(), &[ZSTD, ("Range", &format!("bytes={first}-"))]);
        assert_eq!((response.status, cache_status(&response)), (206, status));
        let expected = format!("bytes {first}-{}/{}", item.nar.len() - 1, item.nar.len());
        assert_eq!(response.header("content-range"), Some(&*expected), "{status}");
        assert_eq!(response.header("accept-ranges"), Some("bytes"), "{status}");
        assert!(response.body == item.nar[first..], "{status}");
    }
}

#[test]
fn a_head_of_a_nar_through_nginx_reads_none() {
    let item = StoreItem::file_of(LARGE);
    let chain = Chain::before(item.script());
    let response = chain.nginx.http().head(&item.nar_url());
    assert_eq!(response.header("content-length"), Some(&*item.nar.len().to_string()));
    assert_eq!(chain.nars_read(), 0);
}

#[test]
fn nginx_keeps_no_404_nor_503() {
    let item = StoreItem::file(b"comes later");
    let nothing = Script::answering(|question| match question {
        Question::PathFromHashPart(_) => Wire::new().number(LAST).string("").into(),
        other => panic!("{other:?}"),
    });
    let chain = Chain::before(nothing);
    let http = chain.nginx.http();
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
fn a_nar_that_was_cut_is_neither_whole_nor_kept_behind_nginx() {
    let item = StoreItem::file_of(LARGE);
    let half = item.nar[..LARGE / 2].to_vec();
    let cut = move || Answer::then_hang_up(Wire::new().number(LAST).raw(&half).done());
    let chain = Chain::before(item.script_with_nar(cut));
    let http = chain.nginx.http();
    let body = http.get_failing(&item.nar_url(), &[]);
    assert!(body.len() < item.nar.len());

    chain.daemon.play(item.script());
    let response = http.get(&item.nar_url());
    assert_eq!((response.status, cache_status(&response)), (200, "MISS"));
    assert!(response.body == item.nar);
}

#[test]
fn the_landing_page_names_the_host_that_nginx_was_asked_for_and_metrics_are_not_shown() {
    let chain = Chain::before(StoreItem::file(b"").script());
    let http = chain.nginx.http();
    for host in ["one.example", "two.example:8080"] {
        let raw = format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Host: evil.example\r\n\r\n");
        let page = http.request(raw.as_bytes()).unwrap();
        assert!(page.text().contains(&format!("http://{host}")) && !page.text().contains("evil"), "{}", page.text());
    }
    assert_eq!(http.get("/metrics").status, 404);
}

#[test]
fn nix_copies_a_closure_through_nginx_before_a_unix_socket() {
    let daemon = Daemon::shared(Release::Nix2_34);
    let dir = scratch::fresh_dir();
    let (socket, config) = (dir.join("http"), dir.join("config.toml"));
    let lines = format!(
        "bind = \"unix:{}\"\ndaemon_socket = \"{}\"\nsign_key_paths = [\"{}\"]\n",
        socket.display(),
        daemon.socket().display(),
        keys::OURS.secret.display()
    );
    fs::write(&config, lines).unwrap();
    let mut program = Harmonia::program();
    program.arg("--config").arg(config);
    let _harmonia = Harmonia::launch(program);
    let nginx = Nginx::before(&format!("unix:{}", socket.display()));

    let paths = ["many-references", "large"].map(|name| daemon.content().path(name));
    let mut closure = Vec::new();
    for _ in 0..2 {
        let client = Client::new(Release::Nix2_34, &format!("http://{}", nginx.address), &[&keys::OURS]);
        let _ = client.copy(&paths).stdout();
        closure = client.verified_closure(&paths);
        assert!(paths.iter().all(|path| closure.iter().any(|copied| copied == path)), "{closure:?}");
    }
    for path in closure {
        let response = nginx.http().get(&format!("/{}.narinfo", hash_part(&path)));
        assert_eq!(cache_status(&response), "HIT", "{path}");
    }
}
