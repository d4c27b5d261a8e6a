//! The handshake of client and nix-daemon, as a state machine without I/O.
//!
//! Covers everything up to the first operation: magic numbers and versions, features, the release of nix-daemon, trust,
//! and SetOptions. It takes at most two round trips: the client sends its version, and all the rest at once when it has
//! that of nix-daemon.
//!
//! Source: Nix `src/libstore/worker-protocol-connection.cc`.

use std::sync::Arc;

use bytes::{Buf, BytesMut};

use crate::session::Session;
use crate::stderr::{DaemonError, Message, StderrLoop, printable};
use crate::store_path::StoreDir;
use crate::version::{Feature, UnsupportedVersion, Version};
use crate::wire::{DecodeError, DecodeErrorKind, Reader, STRING, Scanner, Schema, Shape, field, put_strings, put_u64};

const CLIENT_MAGIC: u64 = 0x6e69_7863;
const DAEMON_MAGIC: u64 = 0x6478_696f;
const SET_OPTIONS: u64 = 19;

/// Largest message of nix-daemon in a handshake, in bytes: a list of features and the name of a release.
const MAX_HANDSHAKE: usize = 1024 * 1024;
/// Most features that nix-daemon may list. Determinate Nix lists eight, the most known.
const MAX_FEATURES: usize = 1024;
/// Longest name of a release that is kept, in bytes.
const MAX_RELEASE: usize = 64;

const MAGIC_AND_VERSION: Schema = &[field("daemon magic", Shape::U64), field("daemon version", Shape::U64)];
const FEATURES: crate::wire::Field =
    field("daemon features", Shape::Repeat { max: MAX_FEATURES, item: &[field("feature", STRING)] });
const RELEASE: crate::wire::Field = field("daemon release", STRING);
const TRUST: crate::wire::Field = field("trust", Shape::U64);

/// Error of a [`Handshake`].
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The first eight bytes, as a little-endian number, are not those of nix-daemon.
    #[error(
        "the peer is not nix-daemon: it greets with {0:#018x}\n  help: check that this is the socket of nix-daemon"
    )]
    Magic(u64),
    /// The protocol version is not supported.
    #[error(transparent)]
    Version(#[from] UnsupportedVersion),
    /// nix-daemon reported an error, for example that it cannot open its store.
    #[error("nix-daemon refused the connection: {0}")]
    Refused(DaemonError),
    /// A message of the handshake cannot be decoded.
    #[error("cannot decode nix-daemon's greeting: {0}")]
    Malformed(#[from] DecodeError),
}

#[derive(Debug)]
enum State {
    Magic(Scanner),
    Greeting { version: Version, scanner: Scanner },
    Stderr { session: Session, stderr: StderrLoop, remaining: u8 },
    Over,
}

/// The client's side of a handshake.
///
/// [`Client::connect`](crate::client::Client::connect) runs one over a stream.
#[derive(Debug)]
pub struct Handshake {
    store: StoreDir,
    claimed: Version,
    offered: &'static [Feature],
    state: State,
}

impl Handshake {
    /// Starts a handshake that claims [`Version::NEWEST`] and offers [`Feature::SUPPORTED`], and appends its first bytes
    /// to `outgoing`.
    #[must_use]
    pub fn new(store: StoreDir, outgoing: &mut BytesMut) -> Self {
        Self::with_version(Version::NEWEST, Feature::SUPPORTED, store, outgoing)
    }

    /// Starts a handshake that claims an older version or offers fewer features, and appends its first bytes to
    /// `outgoing`. nix-daemon speaks the version that the client claims.
    #[must_use]
    pub fn with_version(
        claimed: Version,
        offered: &'static [Feature],
        store: StoreDir,
        outgoing: &mut BytesMut,
    ) -> Self {
        put_u64(outgoing, CLIENT_MAGIC);
        put_u64(outgoing, claimed.to_wire());
        Self { store, claimed, offered, state: State::Magic(Scanner::new(MAGIC_AND_VERSION, MAX_HANDSHAKE)) }
    }

    /// Consumes complete messages at the front of `incoming`, appends bytes to send to `outgoing`, and returns the session
    /// when nix-daemon is ready for the first operation. Call it again after more bytes arrived.
    pub fn advance(
        &mut self,
        incoming: &mut BytesMut,
        outgoing: &mut BytesMut,
    ) -> Result<Option<Session>, HandshakeError> {
        loop {
            match &mut self.state {
                State::Magic(scanner) => {
                    check_magic(incoming)?;
                    let Some(length) = scanner.advance(incoming)? else { return Ok(None) };
                    let mut reader = Reader::new(&incoming[8..length]);
                    let version = Version::from_daemon(reader.u64("daemon version")?)?.min(self.claimed);
                    incoming.advance(length);
                    self.answer(version, outgoing);
                    self.state = State::Greeting { version, scanner: Scanner::new(greeting(version), MAX_HANDSHAKE) };
                }
                State::Greeting { version, scanner } => {
                    let Some(length) = scanner.advance(incoming)? else { return Ok(None) };
                    let version = *version;
                    let session = self.session(version, &incoming[..length])?;
                    incoming.advance(length);
                    // One list of messages ends the handshake, a second one SetOptions.
                    self.state = State::Stderr { session, stderr: StderrLoop::new(version), remaining: 2 };
                }
                State::Stderr { session, stderr, remaining } => match stderr.advance(incoming)? {
                    None => return Ok(None),
                    Some(Message::Last) if *remaining == 1 => {
                        let session = session.clone();
                        self.state = State::Over;
                        return Ok(Some(session));
                    }
                    Some(Message::Last) => {
                        *remaining -= 1;
                        *stderr = StderrLoop::new(session.version);
                    }
                    Some(Message::Error(error)) => return Err(HandshakeError::Refused(error)),
                    Some(Message::Read(_)) => {
                        return Err(DecodeErrorKind::Unexpected.in_field("request for upload").into());
                    }
                    Some(Message::Log) => {}
                },
                State::Over => return Ok(None),
            }
        }
    }

    fn answer(&self, version: Version, outgoing: &mut BytesMut) {
        if version >= Version::NEWEST {
            put_strings(outgoing, self.offered.iter().map(|feature| feature.name()));
        }
        // No CPU affinity, no reserved space: obsolete, but still read.
        put_u64(outgoing, 0);
        put_u64(outgoing, 0);
        put_set_options(outgoing);
    }

    fn session(&self, version: Version, greeting: &[u8]) -> Result<Session, DecodeError> {
        let mut reader = Reader::new(greeting);
        let mut features = Vec::new();
        if version >= Version::NEWEST {
            let daemons = reader.repeat("daemon features", |reader| reader.bytes("feature"))?;
            features.extend(self.offered.iter().filter(|feature| daemons.contains(&feature.name().as_bytes())));
        }
        let release = if version >= Version::DAEMON_RELEASE { Some(reader.bytes("daemon release")?) } else { None };
        let trusted = match if version >= Version::TRUST { reader.u64("trust")? } else { 0 } {
            0 => None,
            1 => Some(true),
            2 => Some(false),
            value => return Err(DecodeErrorKind::Range(value).in_field("trust")),
        };
        Ok(Session {
            store: self.store.clone(),
            version,
            release: release.map(|bytes| printable(bytes, MAX_RELEASE)),
            trusted,
            features,
            known_keys: Arc::default(),
        })
    }
}

/// Rejects another peer by its first eight bytes, since it may never send sixteen.
fn check_magic(incoming: &[u8]) -> Result<(), HandshakeError> {
    match incoming.first_chunk::<8>().map(|magic| u64::from_le_bytes(*magic)) {
        Some(magic) if magic != DAEMON_MAGIC => Err(HandshakeError::Magic(magic)),
        _ => Ok(()),
    }
}

const fn greeting(version: Version) -> Schema {
    const WITH_FEATURES: Schema = &[FEATURES, RELEASE, TRUST];
    const WITH_TRUST: Schema = &[RELEASE, TRUST];
    const WITH_RELEASE: Schema = &[RELEASE];
    match version.to_wire() {
        v if v >= Version::NEWEST.to_wire() => WITH_FEATURES,
        v if v >= Version::TRUST.to_wire() => WITH_TRUST,
        v if v >= Version::DAEMON_RELEASE.to_wire() => WITH_RELEASE,
        _ => &[],
    }
}

/// Appends the options of a client that only reads: no builds, no substitution, no log output, no overrides.
fn put_set_options(out: &mut BytesMut) {
    const QUIET: u64 = 7;
    let keep_failed_to_max_silent_time = [0; 6];
    let use_build_hook = [1];
    let build_verbosity = [QUIET];
    let log_type_to_use_substitutes = [0; 4];
    let no_overrides = [0];
    put_u64(out, SET_OPTIONS);
    for option in [
        &keep_failed_to_max_silent_time[..],
        &use_build_hook,
        &build_verbosity,
        &log_type_to_use_substitutes,
        &no_overrides,
    ] {
        option.iter().copied().for_each(|value| put_u64(out, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stderr::ERROR;
    use crate::wire::put_bytes;

    const LAST: u64 = 0x616c_7473;

    fn greet(version: u64, rest: impl FnOnce(&mut BytesMut)) -> BytesMut {
        let mut daemon = BytesMut::new();
        put_u64(&mut daemon, DAEMON_MAGIC);
        put_u64(&mut daemon, version);
        rest(&mut daemon);
        put_u64(&mut daemon, LAST);
        put_u64(&mut daemon, LAST);
        daemon
    }

    fn run(mut daemon: BytesMut) -> Result<Option<Session>, HandshakeError> {
        let mut outgoing = BytesMut::new();
        Handshake::new(StoreDir::default(), &mut outgoing).advance(&mut daemon, &mut outgoing)
    }

    fn newest(release: &str, features: &[&str]) -> BytesMut {
        greet(0x126, |out| {
            put_strings(out, features.iter());
            put_bytes(out, release.as_bytes());
            put_u64(out, 2);
        })
    }

    #[test]
    fn a_new_daemons_greeting_gives_release_trust_and_shared_features() {
        let session = run(newest("2.35.1", &["provenance", "realisation-with-path-not-hash"])).unwrap().unwrap();
        assert_eq!((session.version, session.trusted), (Version::NEWEST, Some(false)));
        assert_eq!(session.release.as_deref(), Some("2.35.1"));
        assert!(session.has_feature(Feature::RealisationWithPathNotHash));
        assert!(!run(newest("2.34.8", &[])).unwrap().unwrap().has_feature(Feature::RealisationWithPathNotHash));
    }

    #[test]
    fn every_strict_prefix_waits_for_more() {
        let whole = newest("2.35.1", &["provenance"]);
        for cut in 0..whole.len() {
            assert_eq!(run(BytesMut::from(&whole[..cut])), Ok(None), "{cut}");
        }
    }

    #[test]
    fn everything_after_the_daemons_version_goes_out_at_once() {
        let mut outgoing = BytesMut::new();
        let mut handshake = Handshake::new(StoreDir::default(), &mut outgoing);
        assert_eq!(outgoing.split().len(), 16);
        let mut daemon = newest("x", &[]);
        let mut version_only = daemon.split_to(16);
        assert_eq!(handshake.advance(&mut version_only, &mut outgoing), Ok(None));
        assert!(!outgoing.split().is_empty());
        assert!(handshake.advance(&mut daemon, &mut outgoing).unwrap().is_some());
        assert!(outgoing.is_empty());
    }

    #[test]
    fn peers_that_are_no_nix_daemon_are_named() {
        let http = BytesMut::from(&b"HTTP/1.1 400 Bad Request\r\n"[..]);
        assert!(matches!(run(http), Err(HandshakeError::Magic(_))));
        assert_eq!(run(greet(0x163, |_| ())), Err(UnsupportedVersion::Guix(99).into()));
        assert_eq!(run(greet(0x10a, |_| ())), Err(UnsupportedVersion::TooOld(10).into()));
    }

    #[test]
    fn a_store_that_cannot_be_opened_is_the_daemons_own_error() {
        let mut daemon = BytesMut::new();
        for number in [DAEMON_MAGIC, 0x115, ERROR] {
            put_u64(&mut daemon, number);
        }
        put_bytes(&mut daemon, b"cannot open database");
        put_u64(&mut daemon, 1);
        let error = run(daemon).unwrap_err();
        assert_eq!(error.to_string(), "nix-daemon refused the connection: cannot open database");
    }

    #[test]
    fn lix_is_told_by_its_release_and_its_protocol() {
        let lix = |release: &str| {
            run(greet(0x123, |out| {
                put_bytes(out, release.as_bytes());
                put_u64(out, 1);
            }))
            .unwrap()
            .unwrap()
        };
        assert!(lix("2.94.2").is_lix_since(94) && lix("2.96.0-dev").is_lix_since(94));
        assert!(lix("2.93.0").is_lix_since(90) && !lix("2.93.0").is_lix_since(94));
        assert!(!lix("2.18.1").is_lix_since(90));
    }
}
