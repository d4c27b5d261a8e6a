//! Streams of NARs: complete, truncated, interrupted by an error, larger than the path info says.

use bytes::Bytes;
use harmonia_protocol::client::NarStream;
use harmonia_protocol::nar::NarError;
use harmonia_protocol::version::Version;
use harmonia_protocol::{Client, ClientError};

use super::operations::{HELLO, MISSING, TREE, perform};
use super::script::{ERROR, LAST, Script, error_frame, numbers, path, run, string};
use super::transcript::sessions;

/// Returns the recorded reply to NarFromPath, which begins with LAST.
fn recorded(full: &str) -> Vec<u8> {
    sessions()[0].section(&format!("NarFromPath {full}")).received.clone()
}

fn client(script: Script) -> Client<Script> {
    script.client(Version::NEWEST).0
}

fn script(reply: &[u8]) -> Script {
    Script::greeting(Version::NEWEST, &[]).replies(reply)
}

/// Reads everything up to the end or an error.
fn read(client: &mut Client<Script>, nar_size: u64) -> (Vec<u8>, Result<(), ClientError>) {
    let mut nar = Vec::new();
    let outcome = run(async {
        let mut stream = NarStream::open(client, &path(HELLO), nar_size).await?;
        loop {
            match stream.chunk().await {
                Ok(Some(bytes)) => nar.extend_from_slice(&bytes),
                Ok(None) => {
                    assert_eq!(stream.chunk().await.unwrap(), None, "the end is told again");
                    return Ok(());
                }
                Err(error) => {
                    let again = stream.chunk().await;
                    assert!(matches!(again, Err(ClientError::AlreadyClosed)), "after {error}: {again:?}");
                    return Err(error);
                }
            }
        }
    });
    (nar, outcome)
}

#[test]
fn a_nar_arrives_whole_in_any_pieces_and_leaves_the_client_usable() {
    let tree = recorded(TREE);
    for piece in [1, 3, 7, 8, 9, 64, 1000] {
        let mut client = client(script(&tree).in_pieces_of(piece).replies(numbers(&[LAST, 1])));
        let (nar, outcome) = read(&mut client, 888);
        outcome.unwrap();
        assert_eq!(nar, tree[8..]);
        assert!(client.is_idle());
        assert!(run(client.is_valid_path(&path(HELLO))).unwrap());
    }
}

#[test]
fn a_nar_stream_that_is_dropped_before_its_end_closes_the_connection() {
    let hello = recorded(HELLO);
    let (mut client, record) =
        script(&hello[..60]).adds(&hello[60..]).replies(numbers(&[LAST, 1])).client(Version::NEWEST);
    let mut stream = run(NarStream::open(&mut client, &path(HELLO), 128)).unwrap();
    assert!(run(stream.chunk()).unwrap().is_some());
    drop(stream);
    assert!(record.lock().unwrap().closed);
    assert!(!client.is_idle());
    assert!(matches!(run(client.is_valid_path(&path(HELLO))), Err(ClientError::AlreadyClosed)));
}

#[test]
fn the_client_is_usable_as_soon_as_the_last_byte_was_taken() {
    let (mut client, record) = script(&recorded(HELLO)).client(Version::NEWEST);
    let mut stream = run(NarStream::open(&mut client, &path(HELLO), 128)).unwrap();
    while run(stream.chunk()).unwrap().map(|bytes: Bytes| bytes.len()) != Some(128) {}
    drop(stream);
    assert!(client.is_idle());
    assert!(!record.lock().unwrap().closed);
}

#[test]
fn an_error_frame_at_any_token_of_a_nar_is_the_daemons_own_error() {
    let hello = recorded(HELLO);
    let mut at = 8;
    let mut tokens = 0;
    while at < hello.len() {
        for piece in [1, 5, usize::MAX] {
            let reply = [&hello[..at], &error_frame("i/o error")].concat();
            let mut client = client(script(&reply).in_pieces_of(piece));
            let (nar, outcome) = read(&mut client, 128);
            let Err(ClientError::Daemon { error, .. }) = outcome else { panic!("{at}, {piece}: {outcome:?}") };
            assert_eq!(error.message(), "i/o error");
            // Bytes of the error's tag that arrived in pieces were returned.
            assert!(nar.len() < at && hello[8..at].starts_with(&nar[..nar.len().min(at - 8)]), "{at}, {piece}");
            assert!(!client.is_idle());
        }
        let length = u64::from_le_bytes(hello[at..at + 8].try_into().unwrap());
        at += 8 + usize::try_from(length).unwrap().next_multiple_of(8);
        tokens += 1;
    }
    assert_eq!((at, tokens), (hello.len(), 7));
}

#[test]
fn the_tag_of_an_error_inside_contents_is_contents() {
    let head = [string("nix-archive-1"), string("("), string("type"), string("regular"), string("contents")].concat();
    let nar = [head, string(error_frame("no")), string(")")].concat();
    let mut client = client(script(&[numbers(&[LAST]), nar.clone()].concat()));
    let (read, outcome) = read(&mut client, nar.len() as u64);
    outcome.unwrap();
    assert_eq!(read, nar);
}

#[test]
fn an_error_frame_that_breaks_off_is_an_error() {
    let frame = error_frame("i/o error");
    for cut in 0..frame.len() {
        let reply = [&recorded(HELLO)[..32], &frame[..cut]].concat();
        let mut client = client(script(&reply).hangs_up());
        let (_, outcome) = read(&mut client, 128);
        assert!(matches!(outcome, Err(ClientError::Closed { .. })), "{cut}: {outcome:?}");
    }
}

#[test]
fn a_nar_longer_than_its_path_info_says_is_refused() {
    for limit in 1..128 {
        let mut client = client(script(&recorded(HELLO)));
        let (nar, outcome) = read(&mut client, limit);
        assert!(matches!(outcome, Err(ClientError::Nar(NarError::PastEnd { .. }))), "{limit}: {outcome:?}");
        assert!(nar.len() as u64 <= limit);
        assert!(!client.is_idle());
    }
}

#[test]
fn lengths_of_tokens_are_bounded() {
    for at in [8, 32, 48] {
        let mut reply = recorded(HELLO);
        reply.truncate(at);
        reply.extend(numbers(&[1 << 62]));
        let (mut client, record) = script(&reply).client(Version::NEWEST);
        let (_, outcome) = read(&mut client, u64::MAX);
        assert!(matches!(outcome, Err(ClientError::Nar(_))), "{at}: {outcome:?}");
        assert!(record.lock().unwrap().room < 1024 * 1024);
    }
}

#[test]
fn words_after_a_nar_are_an_error_that_is_not_followed_by_a_good_end() {
    let mut client = client(script(&[recorded(HELLO), vec![0]].concat()));
    let (_, outcome) = read(&mut client, 128);
    assert!(matches!(outcome, Err(ClientError::Malformed { .. })), "{outcome:?}");
    assert!(!client.is_idle());
}

#[test]
fn a_refusal_comes_from_open_or_after_the_first_token() {
    let refused = [error_frame("no"), error_frame("no")].concat();
    let late = [numbers(&[LAST]), refused.clone()].concat();
    for reply in [refused, late] {
        let mut client = client(script(&reply).hangs_up());
        let error = run(perform(&mut client, &format!("NarFromPath {MISSING}"))).unwrap_err();
        assert_eq!(error.to_string(), "nix-daemon failed NarFromPath: no");
        assert!(!client.is_idle());
    }
}

#[test]
fn garbage_in_place_of_a_nar_is_an_error() {
    for garbage in [numbers(&[0]), numbers(&[13, ERROR]), string("nix-archive-2"), numbers(&[u64::MAX])] {
        let mut client = client(script(&[numbers(&[LAST]), garbage].concat()).hangs_up());
        let (_, outcome) = read(&mut client, u64::MAX);
        assert!(outcome.is_err());
        assert!(!client.is_idle());
    }
}
