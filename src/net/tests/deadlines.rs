//! Ends of connections: by a deadline or by the drain.

use std::time::Duration;

use super::*;

const SHORT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn a_client_without_a_request_is_cut() {
    let limits = Limits { first_request: SHORT, ..Limits::default() };
    let server = Running::start(limits, None, echo).await;
    for begun in [
        "",
        "GET /half HTTP/1.1\r\nhost: ca",
        "PRI * HTTP/2.0\r\n\r\nSM",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    ] {
        let mut client = server.connect().await;
        client.write_all(begun.as_bytes()).await.unwrap();
        let answer = read_to_close(&mut client).await;
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{begun}");
    }
}

#[tokio::test]
async fn a_tls_handshake_that_does_not_come_is_cut() {
    let limits = Limits { handshake: SHORT, ..Limits::default() };
    let (acceptor, _) = tls("h2");
    let server = Running::start(limits, Some(acceptor), echo).await;
    let mut client = server.connect().await;
    assert!(read_to_close(&mut client).await.is_empty());
}

#[tokio::test]
async fn an_idle_connection_is_closed_even_with_half_a_head() {
    let limits = Limits { idle: SHORT, ..Limits::default() };
    let server = Running::start(limits, None, echo).await;
    for half in ["", "GET /half HTTP/1.1\r\n"] {
        let mut client = server.connect().await;
        let begun = get("/idle") + half;
        client.write_all(begun.as_bytes()).await.unwrap();
        read_until(&mut client, "/idle").await;
        assert!(read_to_close(&mut client).await.is_empty());
    }
}

#[tokio::test]
async fn an_idle_http2_connection_is_closed() {
    let limits = Limits { idle: SHORT, ..Limits::default() };
    let server = Running::start(limits, None, echo).await;
    let stream = TokioIo::new(server.connect().await);
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("http://cache/idle").body(Empty::<Bytes>::new());
    client.send_request(request.unwrap()).await.unwrap();
    // GOAWAY, not a cut.
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_in_the_end() {
    let limits = Limits { idle: SHORT, stall: 2 * SHORT, ..Limits::default() };
    let (mut bodies, service) = streaming();
    let server = Running::start(limits, None, service).await;
    let mut client = server.connect().await;
    client.write_all(get("/").as_bytes()).await.unwrap();
    let body = bodies.recv().await.unwrap();
    while body.send(vec![0; 256 * 1024].into()).await.is_ok() {}
    drop(client);
}

/// Preface, empty SETTINGS and `GET /` on stream 1 (RFC 9113; RFC 7541, appendix A): a client that
/// answers no PING.
const HTTP2_REQUEST: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
    \x00\x00\x00\x04\x00\x00\x00\x00\x00\
    \x00\x00\x0a\x01\x05\x00\x00\x00\x01\x82\x86\x84\x41\x05cache";

#[tokio::test]
async fn statement_52_a_client_that_pauses_is_not_cut_as_an_idle_one() {
    // More than the buffers of both sockets hold, and one chunk: hyper has all of it, the body is
    // gone.
    const LENGTH: usize = 32 * 1024 * 1024;
    let limits = Limits { idle: SHORT, ..Limits::default() };
    let service = |client, request: Request<RequestBody>| async move {
        if request.uri().path() != "/large" {
            return echo(client, request).await;
        }
        let body = Full::new(Bytes::from(vec![0; LENGTH]));
        Response::new(body.map_err(|never| match never {}).boxed_unsync())
    };
    let server = Running::start(limits, None, service).await;
    let mut paused = server.connect().await;
    paused.write_all(get("/large").as_bytes()).await.unwrap();
    paused.readable().await.unwrap();
    // In the meantime one that is idle goes the whole way to its end: it is told to leave and does
    // not.
    let mut idle = server.connect().await;
    idle.write_all(HTTP2_REQUEST).await.unwrap();
    assert!(!read_to_close(&mut idle).await.is_empty());
    let mut answer = Vec::new();
    while answer.len() < LENGTH {
        assert_ne!(paused.read_buf(&mut answer).await.unwrap(), 0, "cut");
    }
}

#[tokio::test]
async fn a_drain_finishes_the_response_that_is_running() {
    let (mut bodies, service) = streaming();
    let server = Running::start(Limits::default(), None, service).await;
    let (mut busy, mut idle) = (server.connect().await, server.connect().await);
    busy.write_all(get("/").as_bytes()).await.unwrap();
    let body = bodies.recv().await.unwrap();
    body.send("begun".into()).await.unwrap();
    read_until(&mut busy, "begun\r\n").await;
    server.stop.send(()).unwrap();
    // The idle connection ends at once.
    assert!(read_to_close(&mut idle).await.is_empty());
    assert!(!server.serving.is_finished());
    body.send("ended".into()).await.unwrap();
    drop(body);
    let rest = read_to_close(&mut busy).await;
    assert_eq!(rest, b"5\r\nended\r\n0\r\n\r\n");
    server.serving.await.unwrap();
    let refused = TcpStream::connect(&server.address).await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn a_drain_cuts_what_takes_too_long() {
    let limits = Limits { drain: SHORT, ..Limits::default() };
    let (mut bodies, service) = streaming();
    let server = Running::start(limits, None, service).await;
    let mut client = server.connect().await;
    client.write_all(get("/").as_bytes()).await.unwrap();
    let body = bodies.recv().await.unwrap();
    body.send("begun".into()).await.unwrap();
    server.stop.send(()).unwrap();
    server.serving.await.unwrap();
    body.closed().await;
    let answer = read_to_close(&mut client).await;
    assert!(answer.ends_with(b"begun\r\n"), "the framing was ended");
}
