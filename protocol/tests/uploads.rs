//! Uploads: the exact bytes in every version, and messages and errors that arrive meanwhile.

use std::time::Duration;

use harmonia_protocol::client::Upload;
use harmonia_protocol::nar::Node;
use harmonia_protocol::path_info::PathInfo;
use harmonia_protocol::version::{Feature, Version};
use harmonia_protocol::wire::DecodeErrorKind;
use harmonia_protocol::{Client, ClientError};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::operations::{HELLO, PB_B, perform};
use super::script::{LAST, NEXT, READ, Script, error_frame, greet, numbers, path, run, string};
use super::transcript::sessions;

/// Timeout of a test that deadlocks; nothing here takes a second.
const WATCHDOG: Duration = Duration::from_secs(60);

/// Returns a recorded path info and its bytes, which an upload must reproduce.
fn recorded(full: &str) -> (PathInfo, Vec<u8>) {
    let question = format!("QueryPathInfo {full}");
    let reply = sessions()[0].section(&question).received.clone();
    let (mut client, _) = Script::greeting(Version::NEWEST, &[]).replies(&reply).client(Version::NEWEST);
    let info = run(perform(&mut client, &question)).unwrap().info();
    (info, reply[16..].to_vec())
}

fn nar(size: usize) -> Vec<u8> {
    let mut nar = bytes::BytesMut::new();
    let contents: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();
    Node::Regular { executable: false, contents: contents.into() }.encode(&mut nar);
    nar.to_vec()
}

/// Returns the concatenated payloads of frames of at most 64 KiB, up to the empty one, and the bytes after it.
fn unframed(mut bytes: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut payload = Vec::new();
    loop {
        let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap();
        assert!(length <= 64 * 1024, "a frame of {length} bytes");
        if length == 0 {
            return (payload, rest);
        }
        payload.extend_from_slice(&rest[..length]);
        bytes = &rest[length..];
    }
}

#[test]
fn a_framed_upload_is_the_path_info_as_recorded_and_the_nar_in_frames() {
    for version in [Version::FRAMED_UPLOAD, Version::NEWEST] {
        for (full, check_signatures) in [(PB_B, true), (HELLO, false)] {
            let (info, wire) = recorded(full);
            let (mut client, record) = Script::greeting(version, &[]).replies(numbers(&[LAST])).client(version);
            let nar = nar(200_000);
            let (path, source) = (path(full), &nar[..]);
            run(client.add_to_store_nar(Upload { path: &path, info: &info, nar: source }, check_signatures)).unwrap();
            let written = std::mem::take(&mut record.lock().unwrap().written);
            let head = [numbers(&[39]), string(full), wire, numbers(&[0, u64::from(!check_signatures)])].concat();
            assert_eq!(written[..head.len()], head);
            assert_eq!(unframed(&written[head.len()..]), (nar, &[][..]));
            assert!(client.is_idle());
        }
    }
}

#[test]
fn an_old_daemon_pulls_the_nar_in_pieces_of_its_choice() {
    for version in [Version::OLDEST, Version::DERIVATION_OUTPUT_MAP] {
        let (info, wire) = recorded(PB_B);
        let script = Script::greeting(version, &[])
            .replies(numbers(&[READ, 100]))
            .replies([numbers(&[NEXT]), string("adding"), numbers(&[READ, 1])].concat())
            .replies(numbers(&[READ, 1 << 62]))
            .replies(numbers(&[LAST]));
        let (mut client, record) = script.client(version);
        let nar = nar(50_000);
        let (path, source) = (path(PB_B), &nar[..]);
        run(client.add_to_store_nar(Upload { path: &path, info: &info, nar: source }, true)).unwrap();
        let head = [numbers(&[39]), string(PB_B), wire, numbers(&[0, 0])].concat();
        let pieces = [string(&nar[..100]), string(&nar[100..101]), string(&nar[101..])];
        assert_eq!(record.lock().unwrap().written, [head, pieces.concat()].concat());
        assert!(client.is_idle());
    }
}

#[test]
fn many_paths_go_in_one_framed_stream() {
    let (first, second) = (recorded(HELLO), recorded(PB_B));
    let (hello, pb_b) = (path(HELLO), path(PB_B));
    let (small, big) = (nar(12), nar(100_000));
    let uploads = vec![
        Upload { path: &hello, info: &first.0, nar: &small[..] },
        Upload { path: &pb_b, info: &second.0, nar: &big[..] },
    ];
    let (mut client, record) = Script::greeting(Version::NEWEST, &[]).replies(numbers(&[LAST])).client(Version::NEWEST);
    run(client.add_multiple_to_store(uploads, false)).unwrap();
    let written = std::mem::take(&mut record.lock().unwrap().written);
    assert_eq!(written[..24], numbers(&[44, 0, 1]));
    let expected = [numbers(&[2]), string(HELLO), first.1, small.clone(), string(PB_B), second.1, big.clone()].concat();
    assert_eq!(unframed(&written[24..]), (expected, &[][..]));
    assert!(client.is_idle());
}

#[test]
fn no_paths_are_a_count_of_none() {
    let (mut client, record) = Script::greeting(Version::NEWEST, &[]).replies(numbers(&[LAST])).client(Version::NEWEST);
    run(client.add_multiple_to_store(Vec::<Upload<'_, &[u8]>>::new(), true)).unwrap();
    assert_eq!(record.lock().unwrap().written, numbers(&[44, 0, 0, 8, 0, 0]));
}

#[test]
fn many_paths_are_refused_by_old_daemons_without_a_byte() {
    let (mut client, record) = Script::greeting(Version::from_minor(31), &[]).client(Version::from_minor(31));
    let outcome = run(client.add_multiple_to_store(Vec::<Upload<'_, &[u8]>>::new(), true));
    assert!(matches!(outcome, Err(ClientError::Unsupported(_))));
    assert!(record.lock().unwrap().written.is_empty());
    assert!(client.is_idle());
}

#[test]
fn a_source_that_fails_ends_the_client() {
    let (info, _) = recorded(PB_B);
    let path = path(PB_B);
    for version in [Version::OLDEST, Version::NEWEST] {
        let script = Script::greeting(version, &[]).replies(numbers(&[READ, 100]));
        let (mut client, record) = script.client(version);
        let broken = broken_source(std::io::ErrorKind::Other);
        let outcome = run(client.add_to_store_nar(Upload { path: &path, info: &info, nar: broken }, true));
        assert!(matches!(outcome, Err(ClientError::Source(_))), "{outcome:?}");
        assert!(record.lock().unwrap().closed);
    }
}

/// A reader that only fails with this error.
fn broken_source(kind: std::io::ErrorKind) -> impl tokio::io::AsyncRead + Unpin {
    struct Broken(std::io::ErrorKind);
    impl tokio::io::AsyncRead for Broken {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::task::Poll::Ready(Err(self.0.into()))
        }
    }
    Broken(kind)
}

/// Connects over a pipe that buffers `capacity` bytes in each direction.
async fn piped(capacity: usize) -> (Client<DuplexStream>, DuplexStream) {
    let (near, mut daemon) = tokio::io::duplex(capacity);
    let greeting = async {
        let mut hello = [0; 16];
        daemon.read_exact(&mut hello).await.unwrap();
        daemon
            .write_all(&numbers(&[super::script::DAEMON_MAGIC, Version::from_minor(32).to_wire(), LAST]))
            .await
            .unwrap();
        let mut options = [0; 16 + 112];
        daemon.read_exact(&mut options).await.unwrap();
        daemon.write_all(&numbers(&[LAST])).await.unwrap();
    };
    let (client, ()) = tokio::join!(greet(near, Version::NEWEST, Feature::SUPPORTED), greeting);
    (client.unwrap(), daemon)
}

#[tokio::test]
async fn a_daemon_that_fails_and_reads_no_more_does_not_stop_the_client() {
    let (info, _) = recorded(PB_B);
    let (path, nar) = (path(PB_B), nar(4_000_000));
    for many in [false, true] {
        let (mut client, mut daemon) = piped(1000).await;
        let upload = Upload { path: &path, info: &info, nar: &nar[..] };
        let fails = async {
            daemon.read_exact(&mut [0; 5000]).await.unwrap();
            daemon.write_all(&error_frame("disk full")).await.unwrap();
        };
        let uploads = async {
            if many {
                client.add_multiple_to_store(vec![upload], true).await
            } else {
                client.add_to_store_nar(upload, true).await
            }
        };
        let (outcome, ()) = tokio::time::timeout(WATCHDOG, async { tokio::join!(uploads, fails) }).await.unwrap();
        let Err(ClientError::Daemon { error, .. }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(error.message(), "disk full");
        assert!(!client.is_idle());
        let mut rest = Vec::new();
        tokio::time::timeout(WATCHDOG, daemon.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert!(rest.len() <= 1000, "the connection is closed, with {} bytes on their way", rest.len());
    }
}

#[tokio::test]
async fn a_daemon_that_logs_before_it_reads_on_is_listened_to() {
    let (info, wire) = recorded(PB_B);
    let (path, nar) = (path(PB_B), nar(300_000));
    let (mut client, mut daemon) = piped(1000).await;
    let head = 8 + string(PB_B).len() + wire.len() + 16;
    let talks = async {
        let mut received = vec![0; head];
        daemon.read_exact(&mut received).await.unwrap();
        loop {
            // Nothing is read meanwhile: they exceed the capacity of the pipe.
            let line = [numbers(&[NEXT]), string(vec![b'x'; 5000])].concat();
            daemon.write_all(&line).await.unwrap();
            let length = daemon.read_u64_le().await.unwrap();
            if length == 0 {
                break;
            }
            let mut frame = vec![0; usize::try_from(length).unwrap()];
            daemon.read_exact(&mut frame).await.unwrap();
            received.extend(frame);
        }
        daemon.write_all(&numbers(&[LAST])).await.unwrap();
        received.split_off(head)
    };
    let upload = client.add_to_store_nar(Upload { path: &path, info: &info, nar: &nar[..] }, true);
    let (outcome, received) = tokio::time::timeout(WATCHDOG, async { tokio::join!(upload, talks) }).await.unwrap();
    outcome.unwrap();
    assert!(received == nar, "the nar has arrived changed");
    assert!(client.is_idle());
}

#[tokio::test]
async fn a_result_before_the_end_of_an_upload_is_refused() {
    let (info, _) = recorded(PB_B);
    let (path, nar) = (path(PB_B), nar(300_000));
    for words in [numbers(&[LAST]), numbers(&[READ, 9])] {
        let (mut client, mut daemon) = piped(1000).await;
        let upload = client.add_to_store_nar(Upload { path: &path, info: &info, nar: &nar[..] }, true);
        let (outcome, ()) = tokio::time::timeout(WATCHDOG, async {
            tokio::join!(upload, async { daemon.write_all(&words).await.unwrap() })
        })
        .await
        .unwrap();
        let Err(ClientError::Malformed { error, .. }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(error.kind, DecodeErrorKind::Unexpected);
        assert!(!client.is_idle());
    }
}

#[tokio::test]
async fn a_daemon_that_says_why_and_closes_is_heard() {
    let (info, _) = recorded(PB_B);
    let (path, nar) = (path(PB_B), nar(300_000));
    let (mut client, mut daemon) = piped(1000).await;
    let upload = client.add_to_store_nar(Upload { path: &path, info: &info, nar: &nar[..] }, true);
    let refuse = async move {
        daemon.write_all(&error_frame("disk full")).await.unwrap();
        drop(daemon);
    };
    let (outcome, ()) = tokio::time::timeout(WATCHDOG, async { tokio::join!(upload, refuse) }).await.unwrap();
    let Err(ClientError::Daemon { error, .. }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(error.message(), "disk full");
}
