//! Malformed messages, which no nix-daemon sends.

use std::pin::pin;

use harmonia_protocol::handshake::HandshakeError;
use harmonia_protocol::version::{Feature, UnsupportedVersion, Version};
use harmonia_protocol::wire::DecodeErrorKind;
use harmonia_protocol::{Client, ClientError, StoreDir};
use proptest::prelude::*;

use super::operations::{FIXED_F, HELLO, MISSING, PB_B, perform};
use super::script::{
    DAEMON_MAGIC, LAST, NEXT, READ, Script, error_frame, greet, numbers, path, poll_once, run, string,
};
use super::transcript::sessions;

fn handshake_error(words: impl AsRef<[u8]>) -> HandshakeError {
    let script = Script::new().replies(words);
    let record = script.record();
    let outcome = run(Client::connect(script, StoreDir::default()));
    assert!(record.lock().unwrap().closed);
    let Err(ClientError::Handshake(error)) = outcome else { panic!("{outcome:?}") };
    error
}

#[test]
fn peers_that_are_no_nix_daemon_are_refused_by_their_first_words() {
    assert_eq!(handshake_error(b"HTTP/1.1 400 Bad"), HandshakeError::Magic(u64::from_le_bytes(*b"HTTP/1.1")));
    assert_eq!(handshake_error(b"SSH-2.0-"), HandshakeError::Magic(u64::from_le_bytes(*b"SSH-2.0-")));
    let version = |wire| handshake_error(numbers(&[DAEMON_MAGIC, wire]));
    assert_eq!(version(0x163), UnsupportedVersion::Guix(99).into());
    assert_eq!(version(0x114), UnsupportedVersion::TooOld(20).into());
    assert_eq!(version(0x226), UnsupportedVersion::Foreign(0x226).into());
    assert_eq!(version(u64::MAX), UnsupportedVersion::Foreign(u64::MAX).into());
}

#[test]
fn a_peer_that_closes_at_once_has_not_greeted() {
    let outcome = run(Client::connect(Script::new().hangs_up(), StoreDir::default()));
    assert!(matches!(outcome, Err(ClientError::ClosedBeforeGreeting)), "{outcome:?}");
}

#[test]
fn a_greeting_that_ends_anywhere_is_an_error() {
    for transcript in sessions() {
        let whole: Vec<&[u8]> = transcript.sections[1..]
            .iter()
            .take_while(|section| section.operation() != "IsValidPath")
            .map(|section| &section.received[..])
            .collect();
        let (magic, rest) = (whole[0], whole[1..].concat());
        for cut in 0..magic.len() + rest.len() {
            let script = match cut.checked_sub(magic.len()) {
                None => Script::new().replies(&magic[..cut]),
                Some(0) => Script::new().replies(magic),
                Some(cut) => Script::new().replies(magic).replies(&rest[..cut]),
            };
            let outcome = run(greet(script.hangs_up(), Version::from_minor(transcript.claimed()), &[]));
            match outcome {
                Err(ClientError::ClosedBeforeGreeting) => assert_eq!(cut, 0),
                Err(ClientError::Closed { reply_begun: true, .. }) => assert_ne!(cut, 0),
                _ => panic!("{}, {cut}: {outcome:?}", transcript.name),
            }
        }
    }
}

#[test]
fn lengths_and_values_in_the_greeting_are_bounded() {
    let magic = numbers(&[DAEMON_MAGIC, 0x126]);
    let malformed = |rest: Vec<u8>| {
        let outcome = run(Client::connect(Script::new().replies(&magic).replies(rest), StoreDir::default()));
        let Err(ClientError::Handshake(HandshakeError::Malformed(error))) = outcome else { panic!("{outcome:?}") };
        (error.field, error.kind)
    };
    let huge = 1 << 62;
    assert_eq!(malformed(numbers(&[huge])), ("daemon features", DecodeErrorKind::TooMany { count: huge, max: 1024 }));
    assert_eq!(malformed(numbers(&[1, huge])), ("feature", DecodeErrorKind::TooLong { length: huge, max: 65536 }));
    assert_eq!(
        malformed(numbers(&[0, huge])),
        ("daemon release", DecodeErrorKind::TooLong { length: huge, max: 65536 })
    );
    assert_eq!(malformed(numbers(&[0, 1, 0x0178])), ("daemon release", DecodeErrorKind::Padding));
    assert_eq!(malformed(numbers(&[0, 0, 3])), ("trust", DecodeErrorKind::Range(3)));
    assert_eq!(malformed(numbers(&[0, 0, 1, 7])), ("daemon message", DecodeErrorKind::UnknownTag(7)));
    assert_eq!(malformed(numbers(&[0, 0, 1, READ, 8])), ("request for upload", DecodeErrorKind::Unexpected));
}

fn asked(reply: &[u8]) -> (Result<super::operations::Value, ClientError>, Client<Script>) {
    let (mut client, _) = Script::greeting(Version::NEWEST, &[]).replies(reply).client(Version::NEWEST);
    let outcome = run(perform(&mut client, &format!("QueryPathInfo {PB_B}")));
    (outcome, client)
}

fn problem_of(reply: &[u8]) -> DecodeErrorKind {
    let (outcome, mut client) = asked(reply);
    assert!(!client.is_idle());
    let Err(ClientError::Malformed { error, .. }) = outcome else { panic!("{outcome:?}") };
    error.kind
}

/// Returns the offsets of lengths and counts in a reply with a path info, and those of padding.
fn lengths_and_padding(reply: &[u8]) -> (Vec<usize>, Vec<usize>) {
    let (mut lengths, mut padding, mut at) = (Vec::new(), Vec::new(), 16);
    let word = |at: usize| usize::try_from(u64::from_le_bytes(reply[at..at + 8].try_into().unwrap())).unwrap();
    let mut strings = |count: usize, at: &mut usize| {
        for _ in 0..count {
            lengths.push(*at);
            let end = *at + 8 + word(*at);
            *at = end.next_multiple_of(8);
            padding.extend(end..*at);
        }
    };
    strings(2, &mut at); // deriver, hash
    let references = at;
    at += 8;
    strings(word(references), &mut at);
    at += 24; // time, size, ultimate
    let signatures = at;
    at += 8;
    strings(word(signatures), &mut at);
    strings(1, &mut at); // content address
    assert_eq!(at, reply.len());
    lengths.extend([references, signatures]);
    (lengths, padding)
}

fn path_info_replies() -> Vec<Vec<u8>> {
    let session = &sessions()[0];
    [PB_B, HELLO, FIXED_F].map(|full| session.section(&format!("QueryPathInfo {full}")).received.clone()).to_vec()
}

#[test]
fn a_huge_length_in_any_field_of_a_path_info_is_refused_before_more_is_awaited() {
    for reply in path_info_replies() {
        let (lengths, _) = lengths_and_padding(&reply);
        assert!(lengths.len() >= 5);
        for at in lengths {
            for huge in [1u64 << 62, u64::MAX, (1 << 32) + 8, 4 * 1024 * 1024 + 1] {
                let mut reply = reply[..at + 8].to_vec();
                reply[at..].copy_from_slice(&huge.to_le_bytes());
                let problem = problem_of(&reply);
                assert!(
                    matches!(problem, DecodeErrorKind::TooLong { .. } | DecodeErrorKind::TooMany { .. }),
                    "{at}: {problem:?}"
                );
            }
        }
    }
}

#[test]
fn padding_that_is_not_zero_is_refused_in_every_string() {
    let mut seen = 0;
    for reply in path_info_replies() {
        for at in lengths_and_padding(&reply).1 {
            let mut reply = reply.clone();
            reply[at] = 1;
            assert_eq!(problem_of(&reply), DecodeErrorKind::Padding, "{at}");
            seen += 1;
        }
    }
    assert!(seen > 10, "the recorded strings have {seen} bytes of padding");
}

#[test]
fn frames_that_no_version_knows_are_refused() {
    assert_eq!(problem_of(&numbers(&[0])), DecodeErrorKind::UnknownTag(0));
    assert_eq!(problem_of(&numbers(&[LAST + 1])), DecodeErrorKind::UnknownTag(LAST + 1));
    assert_eq!(problem_of(&numbers(&[READ, 512])), DecodeErrorKind::Unexpected);
    let activity = |tag| [numbers(&[0x5354_5254, 1, 2, 3]), string("text"), numbers(&[1, tag])].concat();
    assert_eq!(problem_of(&activity(2)), DecodeErrorKind::UnknownTag(2));
    let position =
        [numbers(&[super::script::ERROR]), string("Error"), numbers(&[0]), string("e"), string("m")].concat();
    assert_eq!(problem_of(&[position, numbers(&[1])].concat()), DecodeErrorKind::UnknownTag(1));
}

#[test]
fn a_daemon_that_logs_without_end_is_given_up_after_a_bounded_time_and_memory() {
    let line = [numbers(&[NEXT]), string(vec![b'x'; 100_000])].concat();
    let script = Script::greeting(Version::NEWEST, &[]).replies(line).without_end();
    let (mut client, record) = script.client(Version::NEWEST);
    let outcome = run(client.is_valid_path(&path(HELLO)));
    let Err(ClientError::Malformed { error, .. }) = outcome else { panic!("{outcome:?}") };
    assert!(matches!(error.kind, DecodeErrorKind::MessageTooLarge(_)));
    let record = record.lock().unwrap();
    assert!(record.closed);
    assert!(record.taken < 65 * 1024 * 1024, "{} bytes were read", record.taken);
    assert!(record.room < 1024 * 1024, "{} bytes were held ready", record.room);
}

#[test]
fn a_greeting_of_log_lines_without_end_is_given_up_as_well() {
    let line = [numbers(&[NEXT]), string(vec![b'x'; 100_000])].concat();
    let version = numbers(&[DAEMON_MAGIC, Version::from_minor(32).to_wire()]);
    let script = Script::new().replies(version).replies(line).without_end();
    let record = script.record();
    let outcome = run(Client::connect(script, StoreDir::default()));
    let Err(ClientError::Handshake(HandshakeError::Malformed(error))) = outcome else { panic!("{outcome:?}") };
    assert!(matches!(error.kind, DecodeErrorKind::MessageTooLarge(_)));
    let record = record.lock().unwrap();
    assert!(record.taken < 65 * 1024 * 1024, "{} bytes were read", record.taken);
    assert!(record.room < 1024 * 1024, "{} bytes were held ready", record.room);
}

#[test]
fn words_that_nobody_asked_for_are_never_taken_for_a_reply() {
    let reply = [numbers(&[LAST, 1]), numbers(&[LAST, 0])].concat();
    let script = || Script::greeting(Version::NEWEST, &[]).replies(&reply).replies(numbers(&[LAST, 1]));
    let (mut client, record) = script().client(Version::NEWEST);
    assert!(run(client.is_valid_path(&path(HELLO))).unwrap());
    let written = record.lock().unwrap().written.len();
    assert!(matches!(run(client.is_valid_path(&path(HELLO))), Err(ClientError::AlreadyClosed)));
    assert_eq!(record.lock().unwrap().written.len(), written);
    assert!(record.lock().unwrap().closed);

    let (mut client, record) = script().client(Version::NEWEST);
    assert!(run(client.is_valid_path(&path(HELLO))).unwrap());
    assert!(!client.is_idle());
    assert!(record.lock().unwrap().closed);
}

#[test]
fn a_stray_byte_that_comes_later_ends_the_client_for_good() {
    let script = Script::greeting(Version::NEWEST, &[]).replies(numbers(&[LAST, 1])).adds([0]);
    let (mut client, record) = script.client(Version::NEWEST);
    assert!(run(client.is_valid_path(&path(HELLO))).unwrap());
    assert!(!client.is_idle());
    assert!(!client.is_idle(), "the byte has been read, but it was there");
    assert!(record.lock().unwrap().closed);
    assert!(matches!(run(client.is_valid_path(&path(HELLO))), Err(ClientError::AlreadyClosed)));
}

#[test]
fn a_daemon_that_has_gone_is_seen_before_the_next_operation() {
    let script = Script::greeting(Version::NEWEST, &[]).replies(numbers(&[LAST, 1])).hangs_up();
    let (mut client, _) = script.client(Version::NEWEST);
    assert!(run(client.is_valid_path(&path(HELLO))).unwrap());
    assert!(!client.is_idle());
}

#[test]
fn a_call_that_is_dropped_closes_the_connection() {
    let (mut client, record) = Script::greeting(Version::NEWEST, &[]).client(Version::NEWEST);
    {
        let path = path(HELLO);
        let mut call = pin!(client.is_valid_path(&path));
        assert!(poll_once(&mut call).is_none());
        assert!(!record.lock().unwrap().closed);
    }
    assert!(record.lock().unwrap().closed);
    assert!(!client.is_idle());
    let outcome = run(client.is_valid_path(&path(HELLO)));
    assert!(matches!(&outcome, Err(error @ ClientError::AlreadyClosed) if error.is_retryable()));
}

#[test]
fn whether_a_byte_of_the_reply_had_come_is_told() {
    for (reply, begun) in [(vec![], false), (vec![b's'], true), (numbers(&[LAST]), true)] {
        let script = Script::greeting(Version::NEWEST, &[]).replies(reply).hangs_up();
        let (mut client, _) = script.client(Version::NEWEST);
        let error = run(client.is_valid_path(&path(MISSING))).unwrap_err();
        assert!(matches!(error, ClientError::Closed { reply_begun, .. } if reply_begun == begun), "{error:?}");
        assert_eq!(error.is_retryable(), !begun);
    }
}

#[test]
fn an_error_of_the_daemon_leaves_the_connection_as_it_is() {
    let script = Script::greeting(Version::NEWEST, &[]).replies(error_frame("no")).replies(numbers(&[LAST, 1]));
    let (mut client, _) = script.client(Version::NEWEST);
    let error = run(client.ensure_path(&path(MISSING))).unwrap_err();
    assert_eq!(error.to_string(), "nix-daemon failed EnsurePath: no");
    assert!(client.is_idle());
    assert!(run(client.is_valid_path(&path(HELLO))).unwrap());
}

proptest! {
    #[test]
    fn no_greeting_panics_or_makes_the_client_wait_for_what_cannot_come(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        honest in 0usize..3,
        piece in 1usize..40,
    ) {
        // As much of a valid greeting as the next step needs, then garbage.
        let good = [vec![], numbers(&[DAEMON_MAGIC, 0x126]), numbers(&[DAEMON_MAGIC, 0x123])][honest].clone();
        let script = Script::new().replies([good, bytes].concat()).in_pieces_of(piece).hangs_up();
        let record = script.record();
        let outcome = run(greet(script, Version::NEWEST, Feature::SUPPORTED));
        prop_assert!(outcome.is_err() || honest > 0);
        prop_assert!(record.lock().unwrap().room <= 1024 * 1024);
    }
}
