//! Addresses of both kinds: bound, told, and given up again.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;

fn address(text: &str) -> BindAddress {
    text.parse().unwrap()
}

fn unix_address(path: &Path) -> BindAddress {
    BindAddress::Unix(path.to_owned())
}

async fn bind(address: &BindAddress) -> Result<Listener, BindError> {
    Ok(Listener::bind(address, SocketMode::default()).await?.remove(0))
}

async fn accept(listener: &Listener) -> io::Result<Socket> {
    let (socket, _) = std::future::poll_fn(|cx| listener.poll_accept(cx)).await?;
    Ok(socket)
}

#[tokio::test]
async fn port_0_is_replaced_by_the_one_that_the_kernel_chose() {
    let listener = bind(&address("127.0.0.1:0")).await.unwrap();
    let url = listener.local_url(false);
    let port = url.strip_prefix("http://127.0.0.1:").unwrap();
    assert_ne!(port.parse::<u16>().unwrap(), 0);
    assert_eq!(listener.local_url(true), format!("https://127.0.0.1:{port}"));
}

#[tokio::test]
async fn every_interface_serves_ipv4_too() {
    let listener = bind(&address("[::]:0")).await.unwrap();
    let Bound::Tcp(_, bound) = &listener.0 else {
        panic!("not TCP");
    };
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, bound.port()));
    let (client, accepted) = tokio::join!(client, accept(&listener));
    assert!(client.is_ok() && accepted.is_ok());
}

#[tokio::test]
async fn accepted_connections_have_no_delay_and_are_kept_alive() {
    let listener = bind(&address("127.0.0.1:0")).await.unwrap();
    let Bound::Tcp(_, bound) = &listener.0 else {
        panic!("not TCP");
    };
    let (_client, accepted) = tokio::join!(TcpStream::connect(bound), accept(&listener));
    let Socket::Tcp(accepted) = accepted.unwrap() else {
        panic!("not TCP");
    };
    let accepted = socket2::SockRef::from(&accepted);
    assert!(accepted.tcp_nodelay().unwrap());
    assert!(accepted.keepalive().unwrap());
    assert_eq!(accepted.tcp_keepalive_time().unwrap(), KEEPALIVE.0);
}

#[tokio::test]
async fn all_addresses_of_a_name_are_listened_on_at_one_port() {
    let listeners = Listener::bind(&address("localhost:0"), SocketMode::default()).await.unwrap();
    let bound: Vec<_> = listeners.iter().filter_map(Listener::tcp_address).collect();
    assert!(bound.iter().all(|address| address.ip().is_loopback() && address.port() == bound[0].port()), "{bound:?}");
    // Which those are is for the machine to say.
    let ours = resolve("localhost:0").await.unwrap().into_iter().filter(|it| std::net::TcpListener::bind(it).is_ok());
    assert_eq!(bound.iter().map(SocketAddr::ip).collect::<Vec<_>>(), ours.map(|it| it.ip()).collect::<Vec<_>>());
}

#[tokio::test]
async fn addresses_of_a_name_that_are_not_here_are_left_out_and_taken_ones_are_an_error() {
    let here = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let elsewhere = SocketAddr::from(([192, 0, 2, 1], 0));
    let bound = tcp(&[here(0), elsewhere]).unwrap();
    assert_eq!(bound.len(), 1);
    assert_eq!(tcp(&[elsewhere]).unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
    let taken = bound[0].tcp_address().unwrap();
    let other = SocketAddr::from(([127, 0, 0, 2], taken.port()));
    let error = tcp(&[other, taken]).unwrap_err();
    assert!(error.kind() == io::ErrorKind::AddrInUse && error.to_string().starts_with(&taken.to_string()), "{error}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_with_help() {
    let first = bind(&address("127.0.0.1:0")).await.unwrap();
    let taken = first.local_url(false).replace("http://", "");
    let error = bind(&address(&taken)).await.unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with(&format!("cannot listen on {taken}: ")), "{message}");
    assert!(message.contains("\n  help: find the server"), "{message}");
}

/// A Unix socket as a killed server leaves it.
fn stale(path: &Path) {
    drop(std::os::unix::net::UnixListener::bind(path).unwrap());
}

#[tokio::test]
async fn a_stale_unix_socket_is_replaced_and_open_to_those_it_is_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    for mode in [SocketMode::default(), "0660".parse().unwrap()] {
        stale(&path);
        let listener = Listener::bind(&unix_address(&path), mode).await.unwrap().remove(0);
        assert_eq!(listener.local_url(true), format!("unix:{}", path.display()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode.bits());
        let (client, accepted) = tokio::join!(UnixStream::connect(&path), accept(&listener));
        assert!(client.is_ok() && accepted.is_ok());
    }
}

#[tokio::test]
async fn the_file_of_a_unix_socket_goes_with_its_listener_unless_it_is_anothers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    drop(bind(&unix_address(&path)).await.unwrap());
    assert!(!path.exists());
    let listener = bind(&unix_address(&path)).await.unwrap();
    // The old one keeps its inode until then, so that the new one has another.
    fs::rename(&path, directory.path().join("old")).unwrap();
    stale(&path);
    drop(listener);
    assert!(path.exists());
}

#[tokio::test]
async fn a_unix_socket_that_somebody_answers_on_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let first = bind(&unix_address(&path)).await.unwrap();
    let second = bind(&unix_address(&path)).await;
    assert!(matches!(second, Err(BindError::InUse(_))));
    // The probe waits in the queue; the next one is a client.
    accept(&first).await.unwrap();
    let (client, accepted) = tokio::join!(UnixStream::connect(&path), accept(&first));
    assert!(client.is_ok() && accepted.is_ok());
}

#[tokio::test]
async fn any_other_file_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    fs::write(&path, "precious").unwrap();
    let error = bind(&unix_address(&path)).await.unwrap_err();
    assert!(matches!(error, BindError::NotASocket(_)));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn a_missing_directory_is_named_with_help() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing/socket");
    let error = bind(&unix_address(&path)).await.unwrap_err();
    let message = error.to_string();
    assert!(message.contains("\n  help: create the directory"), "{message}");
}
