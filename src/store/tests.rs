//! Timeouts and retries, with a scripted nix-daemon and mostly in paused time.

pub(crate) mod numbered_paths;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use harmonia_protocol::StorePath;
use harmonia_protocol::error::Phase;
use harmonia_protocol::hash::NarHash;
use harmonia_protocol::operation::Opcode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::store::nar::expected::ExpectedNar;
use crate::store::nar::quarantine::Origin;
use crate::store::nar::verified::VerifiedNars;
use crate::store::nar::verifying::{Expectation, Source};
use harmonia_protocol::path_info::PathInfo;

use super::*;
use crate::config::{CliOverrides, Config, Environment};
use crate::fairness::ClientId;
use crate::metrics::Metrics;

pub(crate) const LAST: u64 = 0x616c_7473;
/// Server's part of the handshake of Nix 2.3: magic, protocol 1.21, the ends of two message loops.
pub(crate) const GREETING: [u64; 4] = [0x6478_696f, 0x115, LAST, LAST];
/// Length of the client's part, in bytes: magic, version, two obsolete numbers, and SetOptions.
const GREETED: usize = 4 * 8 + 14 * 8;
pub(crate) const HASH: &str = "lq7lf2dg0c05ibn8r201m1cgdcj5i60a";

pub(crate) fn bytes(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// Returns a store, and its store directory, which is empty. Its nix-daemon runs `connection` with the number of each
/// connection after the handshake.
pub(crate) fn store<F>(connection: impl Fn(usize, UnixStream) -> F + Send + 'static) -> (tempfile::TempDir, Store)
where
    F: Future<Output = ()> + Send + 'static,
{
    store_after(GREETING, |_| (), connection)
}

/// Returns a store as [`store`] does, with another handshake and a changed configuration, by default without GC
/// protection.
pub(crate) fn store_after<F>(
    greeting: [u64; 4],
    change: impl FnOnce(&mut Config),
    connection: impl Fn(usize, UnixStream) -> F + Send + 'static,
) -> (tempfile::TempDir, Store)
where
    F: Future<Output = ()> + Send + 'static,
{
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        let count = AtomicUsize::new(0);
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(&bytes(&greeting)).await.unwrap();
            stream.read_exact(&mut [0; GREETED]).await.unwrap();
            tokio::spawn(connection(count.fetch_add(1, Ordering::Relaxed), stream));
        }
    });
    let overrides = CliOverrides { daemon_socket: Some(socket), ..CliOverrides::default() };
    let (mut config, _) = Config::load(overrides, &Environment::default()).unwrap();
    config.real_nix_store = Some(directory.path().to_owned());
    config.gc_protection = None;
    change(&mut config);
    (directory, Store::new(&config, &Arc::new(Metrics::default())))
}

/// Returns a valid path whose NAR has 120 bytes.
pub(crate) fn valid(path: StorePath) -> ValidPath {
    let info = PathInfo {
        deriver: None,
        nar_hash: NarHash::from_digest([0; 32]),
        references: Vec::new(),
        registration_time: 0,
        nar_size: 120,
        ultimate: false,
        signatures: Vec::new(),
        content_address: None,
    };
    ValidPath::new(path, &info)
}

/// Reads until the peer closes.
pub(crate) async fn listen(mut stream: UnixStream) {
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_timeout_names_the_operation() {
    let (_directory, store) = store(|_, stream| listen(stream));
    let error = store.valid_path(HASH.parse().unwrap(), ClientId::Server).await.unwrap_err();
    let step = Deadline::Daemon(Phase::Operation(Opcode::QueryPathFromHashPart));
    assert!(matches!(error, StoreError::Timeout(deadline) if deadline == step), "{error}");
}

#[tokio::test]
async fn a_query_on_a_dead_connection_is_retried_on_a_new_one() {
    let (_directory, store) = store(|count, mut stream| async move {
        if count == 0 {
            // Closed after the query, like the connections of a restarted nix-daemon.
            stream.read_exact(&mut [0; 8]).await.unwrap();
            return;
        }
        stream.write_all(&bytes(&[LAST, 0])).await.unwrap();
        listen(stream).await;
    });
    assert!(store.valid_path(HASH.parse().unwrap(), ClientId::Server).await.unwrap().is_none());
}

#[tokio::test]
async fn a_query_is_retried_once() {
    let (_directory, store) = store(|_, mut stream| async move {
        stream.read_exact(&mut [0; 8]).await.unwrap();
    });
    let error = store.valid_path(HASH.parse().unwrap(), ClientId::Server).await.unwrap_err();
    assert!(matches!(error, StoreError::Client { before_reply: true, .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_nar_that_stalls_times_out() {
    let (_directory, store) = store(|_, mut stream| async move {
        stream.write_all(&bytes(&[LAST, 13])).await.unwrap();
        listen(stream).await;
    });
    let path = StorePath::from_base_name(&format!("{HASH}-hello")).unwrap();
    let mut stream = store.pool.nar(ClientId::Server, &path, 120).await.unwrap();
    assert!(stream.chunk().await.unwrap().is_some());
    let expectation = Expectation {
        expected: ExpectedNar::from_valid_path(&valid(path)),
        path_infos: Arc::clone(&store.path_infos),
        verified: Arc::new(VerifiedNars::disabled()),
        quarantine: Arc::clone(&store.quarantine),
        origin: Origin::Daemon,
        stamp: None,
        is_verified: false,
    };
    let mut nar = VerifyingNar::new(Source::Daemon(Box::new(stream)), expectation);
    assert!(matches!(nar.chunk().await, Err(StoreError::Timeout(Deadline::NarBytes))));
}

#[tokio::test(start_paused = true)]
async fn queries_without_a_free_connection_time_out() {
    let (_directory, store) = store(|_, stream| listen(stream));
    let store = Arc::new(store);
    let queries: Vec<_> = (0..20)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(
                async move { store.valid_path(format!("{number:032}").parse().unwrap(), ClientId::Server).await },
            )
        })
        .collect();
    let mut refused = 0;
    for query in queries {
        if matches!(query.await.unwrap(), Err(StoreError::Timeout(Deadline::FreeConnection))) {
            refused += 1;
        }
    }
    // Eight connections by default, none of which replies.
    assert_eq!(refused, 12);
}

#[tokio::test]
async fn another_store_directory_is_reported_with_help() {
    let (_directory, store) = store(|_, mut stream| async move {
        // 42 bytes of a path in /other, padded to 48.
        let path = format!("/other/{HASH}-hi\0\0\0\0\0\0\0");
        stream.write_all(&[&bytes(&[LAST, 42])[..], &path.as_bytes()[..48]].concat()).await.unwrap();
        listen(stream).await;
    });
    let error = store.valid_path(HASH.parse().unwrap(), ClientId::Server).await.unwrap_err().to_string();
    assert!(error.contains("not in the store directory\n  help: set virtual_nix_store"), "{error}");
}

#[test]
fn errors_tell_a_forbidden_socket_from_a_stopped_nix_daemon() {
    let message = |errno: rustix::io::Errno| {
        StoreError::unreachable(&crate::config::DaemonAddress::Socket("/s".into()), &errno.into()).to_string()
    };
    let denied = message(rustix::io::Errno::ACCESS);
    assert!(denied.contains("/s: permission denied\n  help: check that this user may enter"), "{denied}");
    let refused = message(rustix::io::Errno::CONNREFUSED);
    assert!(refused.contains("/s: connection refused\n  help: check that nix-daemon is running"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_lookup_of_debug_info_times_out_during_a_long_scan() {
    let (_directory, store) = store(|_, stream| listen(stream));
    let id: BuildId = "00d3adbeef".parse().unwrap();
    let lookup = async {
        tokio::select! {
            found = store.find_debug_info(&id, |_| true, |_| true, ClientId::Server) => found,
            () = store.index_debug_info() => panic!("the scan task returned"),
        }
    };
    assert!(matches!(lookup.await, Err(StoreError::IndexNotReady { .. })));
}
