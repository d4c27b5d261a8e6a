//! harmonia behind nginx, with `docs/guide/nginx.conf` unchanged but for addresses and the cache directory.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;

use crate::nix::client::Client;
use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::proxies::caching_proxy::{self, Chain, Proxy};
use crate::support::keys;
use crate::support::scratch;
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;
use crate::support::watchdog;

/// Main configuration around the tested file. Workers stay root, since the scratch directory is closed to other users;
/// without root nginx ignores that line.
const AROUND: &str = "daemon off;\nuser root;\npid @/pid;\nerror_log @/error.log;\nevents {}\nhttp {\naccess_log off;\n\
    client_body_temp_path @/body;\nproxy_temp_path @/proxy;\nfastcgi_temp_path @/fastcgi;\nuwsgi_temp_path @/uwsgi;\n\
    scgi_temp_path @/scgi;\ninclude @/harmonia.conf;\n}\n";

/// Running nginx; stopped on drop, and when the test binary ends.
pub(crate) struct Nginx {
    program: Child,
    watchdog: Child,
    address: SocketAddr,
    log: PathBuf,
}

impl Nginx {
    /// Starts nginx with an empty cache in front of `upstream`, an address in nginx's notation.
    pub(crate) fn before_address(upstream: &str) -> Self {
        Self::with(upstream, &[])
    }

    /// Starts nginx with these replacements in the file, in which `ADDRESS` is its listening address.
    pub(crate) fn with(upstream: &str, changes: &[(&str, &str)]) -> Self {
        let dir = scratch::fresh_dir();
        // The kernel's choice of port, handed to nginx as one nginx hands its sockets to the next: clients may come
        // before it is there.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide/nginx.conf")).unwrap();
        for (written, here) in [
            ("/var/cache/nginx-harmonia", dir.join("cache").to_str().unwrap()),
            ("server 127.0.0.1:5000;", &format!("server {upstream};")),
            ("    listen 80;\n", "    listen ADDRESS;\n"),
            ("    listen [::]:80;\n", ""),
            // The disk of a test machine may be nearly full, which would empty the cache.
            ("min_free=2g", "min_free=0"),
        ]
        .into_iter()
        .chain(changes.iter().copied())
        {
            assert_eq!(text.matches(written).count(), 1, "{written} in docs/guide/nginx.conf");
            text = text.replace(written, here);
        }
        text = text.replace("ADDRESS", &address.to_string());
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
        let watchdog = watchdog::at_the_end(r#"kill -TERM "$0""#, program.id().to_string());
        Self { program, watchdog, address, log: dir.join("error.log") }
    }
}

impl Proxy for Nginx {
    fn before(upstream: SocketAddr) -> Self {
        Self::before_address(&upstream.to_string())
    }

    fn address(&self) -> SocketAddr {
        self.address
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

#[test]
fn the_second_request_for_a_narinfo_and_for_a_nar_is_answered_from_the_cache_of_nginx() {
    caching_proxy::keeps_narinfos_and_nars::<Nginx>();
}

#[test]
fn ranges_pass_nginx_with_accept_ranges_whether_the_nar_is_in_its_cache_or_not() {
    caching_proxy::passes_ranges::<Nginx>();
}

#[test]
fn a_head_of_a_nar_through_nginx_reads_none() {
    caching_proxy::reads_no_nar_for_a_head::<Nginx>();
}

#[test]
fn nginx_caches_neither_404_nor_502() {
    caching_proxy::keeps_no_404_nor_502::<Nginx>();
}

#[test]
fn nginx_neither_completes_nor_caches_a_truncated_nar() {
    caching_proxy::keeps_no_nar_that_was_cut::<Nginx>();
}

#[test]
fn the_landing_page_names_the_host_that_nginx_was_asked_for_and_metrics_are_not_shown() {
    let chain = Chain::<Nginx>::before(StoreItem::file(b"").script());
    let http = chain.proxy.http();
    for host in ["one.example", "two.example:8080"] {
        let raw = format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Host: evil.example\r\n\r\n");
        let page = http.request(raw.as_bytes()).unwrap();
        assert!(page.text().contains(&format!("http://{host}")) && !page.text().contains("evil"), "{}", page.text());
    }
    assert_eq!(http.get("/metrics").status, 404);
}

#[test]
fn nix_copies_a_closure_from_a_subpath_of_a_proxy() {
    let daemon = Daemon::shared(Release::Nix2_34);
    let harmonia = Harmonia::for_daemon(daemon);
    let below =
        [("location / {", "location /below/this/ {"), ("proxy_pass http://harmonia;", "proxy_pass http://harmonia/;")];
    let nginx = Nginx::with(&harmonia.address().to_string(), &below);
    let path = daemon.content().path("many-references");
    // A slash at the end is one too many for some.
    for (release, end) in
        [(Release::Nix2_3, ""), (Release::Nix2_8, "/"), (Release::Nix2_26, ""), (Release::Nix2_34, "/")]
    {
        let client = Client::new(release, &format!("http://{}/below/this{end}", nginx.address()), &[&keys::OURS]);
        let _ = client.copy(&[path]).stdout();
        assert!(client.verified_closure(&[path]).len() > 300, "{release}");
    }
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
    let nginx = Nginx::before_address(&format!("unix:{}", socket.display()));
    caching_proxy::copies_a_closure(&nginx, daemon);
}
