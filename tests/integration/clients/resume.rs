//! Real clients that resume interrupted downloads.

use crate::clients::faulty_proxy::{Fault, Proxy};
use crate::nix::client::Client;
use crate::nix::content::LARGE;
use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::nix::shared_server::{self, narinfo_url};
use crate::support::keys;
use crate::support::nar_cache::{nar_url_of, with_nar_cache};
use crate::support::scratch;
use crate::support::server::Harmonia;
use crate::support::store_item::{hash_part, noise};

const PIECE: u64 = 3 << 20;

/// Copies the large path through a proxy with these faults; returns the offsets at which the client resumed.
fn resumed_at(server: &Harmonia, release: Release, faults: &[Fault]) -> Vec<u64> {
    let proxy = Proxy::new(server.address(), faults);
    let client = Client::new(release, &proxy.url(), &[&keys::OURS]);
    let path = shared_server::content().path("large");
    let _ = client.copy(&[path]).stdout();
    assert_eq!(client.verified_closure(&[path]), [path]);
    let offset = |range: Option<String>| match range {
        None => 0,
        Some(range) => range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap(),
    };
    proxy.ranges().into_iter().map(offset).collect()
}

fn finishes(release: Release) {
    let server = shared_server::server();
    let offsets = resumed_at(server, release, &[Fault::Cut(PIECE); 4]);
    assert_eq!(offsets.len(), 5, "{offsets:?}");
    assert!(offsets[0] == 0 && offsets.windows(2).all(|two| two[0] < two[1]), "{offsets:?}");

    let offsets = resumed_at(server, release, &[Fault::Cut(PIECE), Fault::Unavailable]);
    let [0, at, again] = offsets[..] else { panic!("{offsets:?}") };
    assert!(at > 0 && at == again, "{offsets:?}");
}

#[test]
fn nix_2_8_finishes_a_nar_after_four_disconnects_and_a_502() {
    finishes(Release::Nix2_8);
}

#[test]
fn nix_2_34_finishes_a_nar_after_four_disconnects_and_a_502() {
    finishes(Release::Nix2_34);
}

fn config(daemon: &Daemon) -> String {
    let (socket, key) = (daemon.socket(), &keys::OURS.secret);
    format!("daemon_socket = \"{}\"\nsign_key_paths = [\"{}\"]\n", socket.display(), key.display())
}

/// The compressed form is resumed within its frames, while it is made and when it is there; what was sent is not sent again.
fn finishes_compressed(release: Release) {
    let dir = scratch::fresh_dir().join("nars");
    let daemon = config(Daemon::shared(Release::Nix2_34));
    let server = Harmonia::start(&with_nar_cache(&dir, &daemon));
    let size = {
        let url = nar_url_of(server.http(), &narinfo_url("large"));
        // Made by another server: this one begins when the client does.
        let other = Harmonia::start(&with_nar_cache(&scratch::fresh_dir().join("nars"), &daemon));
        other.http().get(&url).body.len() as u64
    };
    for _ in 0..2 {
        let offsets = resumed_at(&server, release, &[Fault::Cut(size / 6); 4]);
        assert_eq!(offsets.len(), 5, "{offsets:?} of {size}");
        assert!(offsets[0] == 0 && offsets.windows(2).all(|two| two[0] < two[1]), "{offsets:?} of {size}");
    }
}

#[test]
fn nix_2_8_finishes_a_compressed_nar_after_four_disconnects() {
    finishes_compressed(Release::Nix2_8);
}

#[test]
fn nix_2_26_finishes_a_compressed_nar_after_four_disconnects() {
    finishes_compressed(Release::Nix2_26);
}

#[test]
fn nix_2_34_finishes_a_compressed_nar_after_four_disconnects() {
    finishes_compressed(Release::Nix2_34);
}

/// A compressed NAR of about `size` bytes arrives complete although the connection breaks `cuts` times and the server is
/// killed and restarted after half of them; less than 2 % of it is sent twice.
fn finishes_after_a_restart(daemon: &Daemon, path: &str, size: usize, release: Release, cuts: usize) {
    let config = with_nar_cache(&scratch::fresh_dir().join("nars"), &config(daemon));
    let server = Harmonia::start(&config);
    let piece = size / (cuts + 2);
    let proxy = Proxy::new(server.address(), &vec![Fault::Cut(piece as u64); cuts]);
    let client = Client::new(release, &proxy.url(), &[&keys::OURS]);
    let server = std::thread::scope(|scope| {
        let copied = scope.spawn(|| client.copy_persistently(&[path]));
        // In the middle of a piece or between two of them, as it comes.
        proxy.wait_for_request(cuts / 2);
        drop(server);
        let server = Harmonia::start(&config);
        proxy.redirect(server.address());
        let _ = copied.join().unwrap().stdout();
        server
    });
    assert_eq!(client.verified_closure(&[path]), [path]);
    let url = nar_url_of(server.http(), &format!("/{}.narinfo", hash_part(path)));
    let (whole, sent) = (server.http().get(&url).body.len() as u64, proxy.sent());
    eprintln!("{release}: {sent} bytes sent of {whole}, by {} requests", proxy.ranges().len());
    assert!(proxy.ranges().len() > cuts && sent < whole + whole / 50, "{sent} bytes of {whole}: {:?}", proxy.ranges());
}

#[test]
fn a_compressed_nar_is_resumed_by_nix_2_8_from_a_server_that_was_restarted_meanwhile() {
    let path = shared_server::content().path("large");
    finishes_after_a_restart(Daemon::shared(Release::Nix2_34), path, LARGE, Release::Nix2_8, 3);
}

#[test]
fn a_compressed_nar_is_resumed_by_nix_2_34_from_a_server_that_was_restarted_meanwhile() {
    let path = shared_server::content().path("large");
    finishes_after_a_restart(Daemon::shared(Release::Nix2_34), path, LARGE, Release::Nix2_34, 3);
}

#[test]
#[ignore = "takes six minutes, of which Nix waits five"]
fn a_gibibyte_comes_whole_through_ten_cuts_and_a_restart() {
    const SIZE: usize = 1 << 30;
    let daemon = Daemon::start(Release::Nix2_34);
    let path = format!("/nix/store/{:032}-gibibyte", 1);
    std::fs::write(daemon.on_host(&path), noise(SIZE)).unwrap();
    daemon.register(&path);
    std::thread::scope(|scope| {
        for release in [Release::Nix2_8, Release::Nix2_26, Release::Nix2_34] {
            let (daemon, path) = (&daemon, &path);
            scope.spawn(move || finishes_after_a_restart(daemon, path, SIZE, release, 10));
        }
    });
}
