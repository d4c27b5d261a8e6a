//! Clients by libraries and by Nix itself: HTTP/2 streams, and `nix copy` of any release.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::World;
use super::clients::{PAUSE, count};
use super::truth::TruePath;
use crate::nix::client::Client;
use crate::nix::release::Release;
use crate::support::dice::Dice;
use crate::support::keys;

/// Number of concurrent streams on one connection.
const STREAMS: usize = 8;
/// Number of paths in one copy.
const MOST_PATHS: usize = 4;

type Sender = SendRequest<Empty<Bytes>>;

/// Downloads NARs concurrently over one connection, until all of them have ended.
pub(super) fn streams(world: &World, dice: &mut Dice) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let Some(sender) = connect(world).await else {
            count(&world.tally.unreachable);
            return tokio::time::sleep(PAUSE).await;
        };
        let mut streams = JoinSet::new();
        for _ in 0..STREAMS {
            let index = dice.below(world.paths.len());
            let request = Request::get(format!("http://cache{}", world.paths[index].nar_url())).body(Empty::new());
            let answer = sender.clone().send_request(request.unwrap());
            let then = world.paths[index].now();
            streams.spawn(async move {
                let (head, body) = answer.await?.into_parts();
                Ok::<_, hyper::Error>((index, then, head.status.as_u16(), body.collect().await?.to_bytes()))
            });
            // A stream that is reset.
            if dice.one_in(4) {
                streams.abort_all();
            }
        }
        while let Some(ended) = streams.join_next().await {
            match ended {
                Ok(Ok((index, then, status, body))) => is_right(world, &world.paths[index], then, status, &body),
                Ok(Err(_)) => count(&world.tally.cut),
                Err(left) => {
                    assert!(left.is_cancelled(), "{left}");
                    count(&world.tally.left);
                }
            }
        }
    });
}

async fn connect(world: &World) -> Option<Sender> {
    let stream = TcpStream::connect(world.address).await.ok()?;
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    Some(sender)
}

fn is_right(world: &World, path: &TruePath, then: super::truth::Then, status: u16, body: &Bytes) {
    match status {
        200 => {
            assert!(*body == path.nar, "a wrong body of {}", path.nar_url());
            count(&world.tally.right);
            world.tally.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        }
        404 => {
            assert!(!path.valid_since(then), "{} is 404, but valid", path.nar_url());
            count(&world.tally.not_found);
        }
        502 | 503 => count(&world.tally.unavailable),
        other => panic!("{}: {other}", path.nar_url()),
    }
}

/// Copies some of the paths that stay into a new store. All copied paths must be correct, even if the copy fails.
pub(super) fn copy(world: &World, dice: &mut Dice) {
    let release = *dice.pick(&Release::ALL);
    let wanted: Vec<_> = (0..=dice.below(MOST_PATHS)).map(|_| dice.pick(world.staying()).path.as_str()).collect();
    let client = Client::new(release, &format!("http://{}", world.address), &[&keys::OURS]);
    let counter: &AtomicU64 = if client.copy(&wanted).succeeded() {
        client.verified_closure(&wanted);
        &world.tally.copies
    } else {
        let had: Vec<_> = wanted.into_iter().filter(|path| client.has(path)).collect();
        if !had.is_empty() {
            client.verified_closure(&had);
        }
        &world.tally.failed_copies
    };
    count(counter);
}
