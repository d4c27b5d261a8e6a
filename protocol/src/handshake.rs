//! The greeting between client and daemon, as a state machine without I/O.
//!
//! Owns the order of the bytes up to the first operation: magics and versions, features, the daemon's release, trust,
//! and SetOptions. At most two round trips: everything that does not depend on the daemon's version is sent at once,
//! everything else together after its first answer. (Nix `src/libstore/worker-protocol-connection.cc`.)

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

/// The cap of the greeting in bytes: a feature list and a release name.
const MAX_GREETING: usize = 1024 * 1024;
/// The cap of the daemon's features. Determinate Nix, the longest known, lists eight.
const MAX_FEATURES: usize = 1024;
/// How much of the release's name is kept, in bytes.
const MAX_RELEASE: usize = 64;

const MAGIC_AND_VERSION: Schema = &[field("daemon magic", Shape::U64), field("daemon version", Shape::U64)];
const FEATURES: crate::wire::Field =
    field("daemon features", Shape::Repeat { max: MAX_FEATURES, item: &[field("feature", STRING)] });
const RELEASE: crate::wire::Field = field("daemon release", STRING);
const TRUST: crate::wire::Field = field("trust", Shape::U64);

/// Why there is no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The first eight bytes are not a daemon's.
    #[error(
        "the peer is no nix daemon: it greets with {0:#018x}\n  help: is daemon_socket the socket of a nix daemon?"
    )]
    Magic(u64),
    /// A version that cannot be talked to.
    #[error(transparent)]
    Version(#[from] UnsupportedVersion),
    /// The daemon refuses, e.g. because it cannot open its store.
    #[error("the nix daemon refuses the connection: {0}")]
    Refused(DaemonError),
    /// A greeting that does not parse.
    #[error("the nix daemon's greeting is malformed: {0}")]
    Malformed(#[from] DecodeError),
}

#[derive(Debug)]
enum State {
    Magic(Scanner),
    Greeting { version: Version, scanner: Scanner },
    Stderr { session: Session, stderr: StderrLoop, remaining: u8 },
    Over,
}

/// The client's side of the greeting.
#[derive(Debug)]
pub struct Handshake {
    store: StoreDir,
    claimed: Version,
    offered: &'static [Feature],
    state: State,
}

impl Handshake {
    /// Begins a greeting that claims protocol 1.38 and offers every feature that is decoded; its first bytes go to
    /// `outgoing`.
    #[must_use]
    pub fn new(store: StoreDir, outgoing: &mut BytesMut) -> Self {
        Self::with_version(Version::NEWEST, &Feature::SUPPORTED, store, outgoing)
    }

    /// The same, for an older client than this one is: daemons answer the version that they are told.
    #[must_use]
    pub fn with_version(
        claimed: Version,
        offered: &'static [Feature],
        store: StoreDir,
        outgoing: &mut BytesMut,
    ) -> Self {
        put_u64(outgoing, CLIENT_MAGIC);
        put_u64(outgoing, claimed.to_wire());
        Self { store, claimed, offered, state: State::Magic(Scanner::new(MAGIC_AND_VERSION, MAX_GREETING)) }
    }

    /// Takes what has come off the front of `incoming`, appends what is to be sent to `outgoing`, and returns the
    /// session once the daemon awaits the first operation.
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
                    self.state = State::Greeting { version, scanner: Scanner::new(greeting(version), MAX_GREETING) };
                }
                State::Greeting { version, scanner } => {
                    let Some(length) = scanner.advance(incoming)? else { return Ok(None) };
                    let version = *version;
                    let session = self.session(version, &incoming[..length])?;
                    incoming.advance(length);
                    // One loop ends the greeting, a second one SetOptions.
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
                        return Err(DecodeErrorKind::OutOfPlace.in_field("request for upload").into());
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

/// A foreign greeting is refused by its first eight bytes: a peer that is no daemon may never send sixteen.
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

/// Options of a client that only reads: no builds, no substitution, no log output, no overrides.
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
        assert_eq!(error.to_string(), "the nix daemon refuses the connection: cannot open database");
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
