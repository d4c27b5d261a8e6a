//! HTTP/2 by prior knowledge: concurrent streams, and the reset of a stream whose NAR fails.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;

use crate::sample::{self, nar_url, narinfo_url};
use crate::support::scripted_daemon::{Reply, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;
use crate::support::wire::{LAST, Wire};

const STREAMS: usize = 100;

#[derive(Clone)]
struct Client(SendRequest<Empty<Bytes>>);

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn get(&self, path: &str) -> hyper::Result<Response<Incoming>> {
        let request = Request::get(format!("http://cache{path}")).body(Empty::new()).unwrap();
        self.0.clone().send_request(request).await
    }
}

#[test]
fn a_connection_may_have_at_least_100_streams() {
    let mut stream = TcpStream::connect(sample::server().address()).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).unwrap();
    let (length, kind) = (usize::from(head[1]) << 8 | usize::from(head[2]), head[3]);
    assert_eq!((head[0], kind), (0, 4), "the first frame is no SETTINGS");
    let mut settings = vec![0; length];
    stream.read_exact(&mut settings).unwrap();
    let streams = settings.chunks(6).find(|setting| setting[..2] == [0, 3]);
    let streams = streams.map(|setting| u32::from_be_bytes(setting[2..].try_into().unwrap()));
    assert!(streams.is_none_or(|streams| streams as usize >= STREAMS), "{streams:?}");
}

#[tokio::test]
async fn a_hundred_concurrent_streams_are_answered() {
    let client = Client::connect(sample::server().address()).await;
    let url = narinfo_url("many-references");
    let expected = sample::narinfo("many-references");
    let mut streams = JoinSet::new();
    for _ in 0..STREAMS {
        let (client, url) = (client.clone(), url.clone());
        streams.spawn(async move {
            let response = client.get(&url).await.unwrap();
            (response.status(), response.into_body().collect().await.unwrap().to_bytes())
        });
    }
    for (status, body) in streams.join_all().await {
        assert_eq!((status, body), (StatusCode::OK, expected.clone().into()));
    }
}

#[tokio::test]
async fn a_nar_arrives_whole() {
    let client = Client::connect(sample::server().address()).await;
    let response = client.get(&nar_url("large")).await.unwrap();
    let plain = sample::http().get(&nar_url("large"));
    assert_eq!(response.headers()["content-length"], *plain.body.len().to_string());
    assert!(response.into_body().collect().await.unwrap().to_bytes() == plain.body);
}

#[tokio::test]
async fn a_nar_that_fails_resets_only_its_stream() {
    let item = StoreItem::file_of(300_000);
    let cut = item.nar[..200_000].to_vec();
    let reply = move || Reply::then_disconnect(Wire::new().number(LAST).raw(&cut).done());
    let daemon = ScriptedDaemon::start(item.script_with_nar(reply));
    let harmonia = Harmonia::start(&daemon.config());
    let client = Client::connect(harmonia.address()).await;
    // The reset may overtake the head.
    let error = match client.get(&item.nar_url()).await {
        Ok(response) => response.into_body().collect().await.unwrap_err(),
        Err(error) => error,
    };
    assert!(format!("{error:?}").contains("Reset("), "{error:?}");
    let response = client.get(&item.narinfo_url()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.into_body().collect().await.is_ok());
}
