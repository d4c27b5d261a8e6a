//! Restarts of the server while fifty clients copy from it: none of them fails.
//!
//! That takes a socket that outlives the server. Otherwise connections are refused meanwhile, and Nix gives up after four
//! or five seconds.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::nix::client::Client;
use crate::nix::content::Content;
use crate::nix::daemon::Daemon;
use crate::nix::prefix::Prefix;
use crate::nix::release::Release;
use crate::support::keys;
use crate::support::metrics::{metrics, value};
use crate::support::scratch;
use crate::support::server::Harmonia;

const CLIENTS: usize = 50;
/// Releases of the clients. Nix 2.3 retries too, but sometimes waits for ever on a connection that the server has closed.
const RELEASES: [Release; 3] = [Release::Nix2_8, Release::Nix2_26, Release::Nix2_34];
/// Size of the path that each client copies, in bytes: large enough to be interrupted in the middle.
const SIZE: usize = 16 << 20;

/// Way to stop a server.
#[derive(Clone, Copy)]
enum End {
    /// SIGTERM: it completes running responses.
    Terminated,
    /// SIGKILL: it aborts running responses.
    Killed,
}

/// Starts a server on this socket of a service manager, where clients queue while no server runs.
fn start(socket: &TcpListener, config: &Path) -> Harmonia {
    let program = Harmonia::program();
    let mut activated = Command::new("sh");
    activated
        .args(["-c", r#"export LISTEN_PID=$$; exec "$0" "$@" 3<&0 </dev/null"#])
        .arg(program.get_program())
        .arg("--config")
        .arg(config)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LISTEN_FDS", "1")
        .stdin(OwnedFd::from(socket.try_clone().unwrap()));
    Harmonia::launch(activated)
}

/// Counts down on drop, also in a panic.
struct Copying<'c>(&'c AtomicUsize);

impl Drop for Copying<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Waits until a download is running; returns false if all clients have finished.
fn is_busy(server: &Harmonia, copying: &AtomicUsize) -> bool {
    while copying.load(Ordering::SeqCst) > 0 {
        // One of them is this.
        if value(&metrics(server.http()), "harmonia_http_requests_in_flight").is_some_and(|flying| flying > 1.0) {
            return true;
        }
    }
    false
}

/// Creates a store with one large content-addressed path.
fn daemon() -> (Daemon, String) {
    let prefix = Prefix::new(Release::Nix2_34, &["substitute = false".to_owned()]);
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()
    });
    let noise: Vec<u8> = noise.take(SIZE / 8).flatten().collect();
    fs::write(prefix.on_host("/nix/tmp/large"), noise).unwrap();
    let path = prefix.run(&["nix-store", "--add", "/nix/tmp/large"]).text();
    (Daemon::on(prefix, Content::default()), path)
}

/// Nix tries five times, so that no client may be met more often than four times. At the least the first two restarts are
/// while they copy: the first breaks off what the second then meets, whereas a server that is terminated may end the copies
/// of all of them.
#[test]
fn fifty_copies_survive_restarts_by_either_signal_behind_the_socket_of_a_service_manager() {
    let ends = [End::Killed, End::Terminated, End::Killed, End::Terminated, End::Killed];
    let (daemon, path) = daemon();
    let config = scratch::fresh_dir().join("config.toml");
    fs::write(
        &config,
        format!(
            "daemon_socket = \"{}\"\nsign_key_paths = [\"{}\"]\n",
            daemon.socket().display(),
            keys::OURS.secret.display()
        ),
    )
    .unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    let copying = AtomicUsize::new(CLIENTS);
    thread::scope(|scope| {
        let mut server = start(&socket, &config);
        for number in 0..CLIENTS {
            let (copying, path, url) = (Copying(&copying), path.as_str(), url.as_str());
            scope.spawn(move || {
                let _copying = copying;
                let client = Client::new(RELEASES[number % RELEASES.len()], url, &[&keys::OURS]);
                let _ = client.copy(&[path]).stdout();
                assert_eq!(client.verified_closure(&[path]), [path]);
            });
        }
        for (turn, end) in ends.iter().enumerate() {
            if !is_busy(&server, &copying) {
                assert!(turn >= 2, "all were done before restart {turn}");
                break;
            }
            match end {
                End::Terminated => {
                    server.terminate();
                    assert_eq!(server.ended().code(), Some(0));
                }
                // By the drop of the old one, before the new one starts.
                End::Killed => drop(server),
            }
            server = start(&socket, &config);
        }
        // The last one stays until all are done, which the scope waits for.
        while copying.load(Ordering::SeqCst) > 0 {
            thread::yield_now();
        }
    });
}
