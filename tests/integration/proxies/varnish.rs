//! harmonia behind Varnish, with `docs/guide/varnish.vcl` unchanged but for the backend's port.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::proxies::caching_proxy::{self, Chain, Proxy};
use crate::support::scratch;
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;
use crate::support::watchdog;

/// Running varnishd; stopped on drop, and when the test binary ends.
pub(super) struct Varnish {
    watchdog: Child,
    address: SocketAddr,
}

impl Proxy for Varnish {
    fn before(upstream: SocketAddr) -> Self {
        let dir = scratch::fresh_dir();
        let written = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide/varnish.vcl")).unwrap();
        assert_eq!(written.matches("\"5000\"").count(), 1, "the port in docs/guide/varnish.vcl");
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
        let watchdog = watchdog::at_the_end(r#"kill -TERM "$(cat "$0")""#, &pid);
        let listens = run(Command::new("varnishadm").arg("-n").arg(&dir).arg("debug.listen_address"));
        let [_, host, port] = listens.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{listens}") };
        Self { watchdog, address: format!("{host}:{port}").parse().unwrap() }
    }

    fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Varnish {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        self.watchdog.wait().unwrap();
    }
}

/// Runs a command until it exits; returns its standard output.
fn run(command: &mut Command) -> String {
    let output =
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_second_request_for_a_narinfo_and_for_a_nar_is_answered_from_the_cache_of_varnish() {
    caching_proxy::keeps_narinfos_and_nars::<Varnish>();
}

#[test]
fn ranges_pass_varnish_with_accept_ranges_whether_the_nar_is_in_its_cache_or_not() {
    caching_proxy::passes_ranges::<Varnish>();
}

#[test]
fn a_head_of_a_nar_through_varnish_reads_none() {
    caching_proxy::reads_no_nar_for_a_head::<Varnish>();
}

#[test]
fn varnish_caches_neither_404_nor_502() {
    caching_proxy::keeps_no_404_nor_502::<Varnish>();
}

#[test]
fn varnish_neither_completes_nor_caches_a_truncated_nar() {
    caching_proxy::keeps_no_nar_that_was_cut::<Varnish>();
}

#[test]
fn without_harmonia_varnish_says_502_so_that_downloads_are_resumed_later() {
    let item = StoreItem::file(b"not now");
    let Chain { proxy: varnish, daemon: _daemon, harmonia } = Chain::<Varnish>::before(item.script());
    drop(harmonia);
    let response = varnish.http().get_with(&item.nar_url(), &[("Range", "bytes=1-")]);
    assert_eq!((response.status, response.header("accept-ranges")), (502, Some("bytes")));
    assert_eq!((response.header("content-encoding"), response.body.len()), (None, 0));
}

#[test]
fn nix_copies_a_closure_through_varnish() {
    let daemon = Daemon::shared(Release::Nix2_34);
    let harmonia = Harmonia::for_daemon(daemon);
    let varnish = Varnish::before(harmonia.address());
    caching_proxy::copies_a_closure(&varnish, daemon);
}

#[test]
fn metrics_are_not_shown_through_varnish() {
    let chain = Chain::<Varnish>::before(StoreItem::file(b"").script());
    assert_eq!(chain.proxy.http().get("/metrics").status, 404);
}
