//! Recorded replies in pieces, truncated and garbled: pieces change nothing, and the others are an error at once.

use std::sync::LazyLock;

use harmonia_protocol::version::Version;
use harmonia_protocol::{Client, ClientError};
use proptest::prelude::*;

use super::operations::{Value, perform};
use super::replay::{is_unsupported, negotiated, questions};
use super::script::{Script, run};
use super::transcript::{Section, sessions};

/// Returns the distinct replies of the recordings, with the versions of their sessions.
static REPLIES: LazyLock<Vec<(Version, Section)>> = LazyLock::new(|| {
    let mut replies: Vec<(Version, Section)> = Vec::new();
    for transcript in sessions() {
        let version = negotiated(transcript);
        for section in questions(transcript).filter(|section| !is_unsupported(version, section.operation())) {
            let same_layout = |seen: Version| {
                [Version::STRUCTURED_ERRORS, Version::JSON_REALISATIONS].iter().all(|v| (seen < *v) == (version < *v))
            };
            if !replies.iter().any(|(seen, other)| same_layout(*seen) && other == section) {
                replies.push((version, section.clone()));
            }
        }
    }
    replies
});

fn client(version: Version, section: &Section, script: impl FnOnce(Script) -> Script) -> Client<Script> {
    script(daemon(version, section)).client(version).0
}

/// Returns a script of this version that replies to the operation of the section.
fn daemon(version: Version, section: &Section) -> Script {
    let is_by_path = section.name.contains('^');
    Script::greeting(version, if is_by_path { &["realisation-with-path-not-hash"] } else { &[] })
}

fn ask(client: &mut Client<Script>, section: &Section) -> Result<Value, String> {
    match run(perform(client, &section.name)) {
        Ok(value) => Ok(value),
        Err(ClientError::Daemon { error, .. }) => Err(error.message().to_owned()),
        Err(error) => panic!("{}: {error}", section.name),
    }
}

#[test]
fn a_reply_in_any_pieces_is_the_same_value() {
    assert!(REPLIES.len() > 60, "{}", REPLIES.len());
    for (version, section) in REPLIES.iter() {
        let reply = &section.received;
        let expected = ask(&mut client(*version, section, |script| script.replies(reply)), section);
        for cut in 1..reply.len() {
            let mut client = client(*version, section, |script| script.replies(&reply[..cut]).adds(&reply[cut..]));
            assert_eq!(ask(&mut client, section), expected, "{}, cut at {cut}", section.name);
            assert!(client.is_idle());
        }
        let mut client = client(*version, section, |script| script.replies(reply).in_pieces_of(1));
        assert_eq!(ask(&mut client, section), expected, "{}, byte by byte", section.name);
    }
}

#[test]
fn every_strict_prefix_of_every_reply_is_an_error_that_ends_the_client() {
    for (version, section) in REPLIES.iter() {
        for cut in 0..section.received.len() {
            let mut client = client(*version, section, |script| script.replies(&section.received[..cut]).hangs_up());
            let outcome = run(perform(&mut client, &section.name));
            assert!(matches!(outcome, Err(ClientError::Closed { .. })), "{}, {cut}: {outcome:?}", section.name);
            assert!(!client.is_idle());
            let again = run(perform(&mut client, &section.name));
            assert!(matches!(again, Err(ClientError::AlreadyClosed)), "{}, {cut}: {again:?}", section.name);
        }
    }
}

/// Replaces one aligned word: half of the interesting mutations.
fn mutation() -> impl Strategy<Value = (prop::sample::Index, u64)> {
    let word = prop_oneof![
        any::<u64>(),
        0u64..300,
        Just(1 << 62),
        Just(u64::MAX),
        Just(4 * 1024 * 1024),
        Just(64 * 1024),
        Just(1024 * 1024),
    ];
    (any::<prop::sample::Index>(), word)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn garbled_replies_neither_panic_nor_hang_nor_make_the_client_reserve_much(
        reply in any::<prop::sample::Index>(),
        words in prop::collection::vec(mutation(), 0..3),
        bytes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        piece in prop_oneof![Just(usize::MAX), 1usize..100],
    ) {
        let (version, section) = reply.get(&REPLIES);
        let mut garbled = section.received.clone();
        for (at, word) in words {
            let at = at.index(garbled.len() / 8) * 8;
            garbled[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        for (at, byte) in bytes {
            let at = at.index(garbled.len());
            garbled[at] = byte;
        }
        let script = daemon(*version, section).replies(&garbled).in_pieces_of(piece).hangs_up();
        let (mut client, record) = script.client(*version);
        let outcome = run(perform(&mut client, &section.name));
        prop_assert!(record.lock().unwrap().room <= 1024 * 1024);
        match outcome {
            Ok(_) | Err(ClientError::Daemon { .. }) => {}
            Err(error) => {
                prop_assert!(record.lock().unwrap().closed, "{} after {}", section.name, error);
                prop_assert!(matches!(run(perform(&mut client, &section.name)), Err(ClientError::AlreadyClosed)));
            }
        }
    }
}
