//! Greetings of a daemon: session, error and what is said in return do not depend on how they come cut.

use std::sync::LazyLock;

use bytes::BytesMut;
use harmonia_protocol::StoreDir;
use harmonia_protocol::handshake::{Handshake, HandshakeError};
use harmonia_protocol::session::Session;
use harmonia_protocol::version::{Feature, Version};
use harmonia_protocol::wire::{put_bytes, put_strings, put_u64};

use super::stderr::{LAST, is_fit_for_a_log};
use super::{Parameters, ends};

const MAGIC: u64 = 0x6478_696f;

/// A session of every kind that layouts differ in.
pub(super) fn sessions() -> &'static [Session] {
    static SESSIONS: LazyLock<Vec<Session>> = LazyLock::new(|| {
        let none: &[Feature] = &[];
        let kinds = [(21, "", none), (28, "", none), (31, "", none), (35, "2.92.0", none), (38, "2.34.8", none)];
        kinds.into_iter().chain([(38, "2.35.0", Feature::SUPPORTED)]).map(session).collect()
    });
    &SESSIONS
}

fn session((minor, release, features): (u8, &str, &[Feature])) -> Session {
    let version = Version::from_minor(minor);
    let mut greeting = BytesMut::new();
    put_u64(&mut greeting, MAGIC);
    put_u64(&mut greeting, version.to_wire());
    if version >= Version::NEWEST {
        put_strings(&mut greeting, features.iter().map(|feature| feature.name()));
    }
    if version >= Version::DAEMON_RELEASE {
        put_bytes(&mut greeting, release.as_bytes());
    }
    if version >= Version::TRUST {
        put_u64(&mut greeting, 0);
    }
    for last in [LAST, LAST] {
        put_u64(&mut greeting, last);
    }
    let end = greeting.len();
    let (outcome, _, consumed) = greet(Version::NEWEST, &greeting, end);
    assert_eq!(consumed, end);
    outcome.expect("a greeting as daemons send it").expect("a whole greeting")
}

pub(super) fn property(input: &[u8]) {
    let mut parameters = Parameters(input);
    let (claimed, piece) = (parameters.byte(), parameters.piece());
    let claimed = Version::from_minor(21 + claimed % 18);
    let bytes = parameters.rest();
    let whole = greet(claimed, bytes, bytes.len().max(1));
    assert_eq!(greet(claimed, bytes, piece), whole, "in pieces of {piece}");
    if let Ok(Some(session)) = whole.0 {
        assert!(session.version <= claimed);
        assert!(session.release.is_none_or(|release| is_fit_for_a_log(&release, 64)));
    }
}

/// The outcome, what was said, and how many of the bytes were taken.
fn greet(claimed: Version, bytes: &[u8], piece: usize) -> (Result<Option<Session>, HandshakeError>, BytesMut, usize) {
    let (mut incoming, mut outgoing) = (BytesMut::new(), BytesMut::new());
    let mut handshake = Handshake::with_version(claimed, Feature::SUPPORTED, StoreDir::default(), &mut outgoing);
    let mut start = 0;
    for end in ends(bytes.len(), piece) {
        incoming.extend_from_slice(&bytes[start..end]);
        start = end;
        match handshake.advance(&mut incoming, &mut outgoing) {
            Ok(None) => {}
            Ok(session) => return (Ok(session), outgoing, end - incoming.len()),
            // How much lies there unread depends on the cut.
            Err(error) => return (Err(error), outgoing, 0),
        }
    }
    (Ok(None), outgoing, bytes.len() - incoming.len())
}
