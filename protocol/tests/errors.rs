//! Recorded errors: their texts, and which of them leave a connection usable.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use harmonia_protocol::handshake::HandshakeError;
use harmonia_protocol::version::Version;
use harmonia_protocol::{Client, ClientError, StoreDir};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::operations::{HELLO, MISSING, PB_B, Value, perform};
use super::replay::greeting;
use super::script::{Script, greet, path, run};
use super::transcript::{Section, Transcript, all};

const RELEASES: usize = 10;

fn releases() -> Vec<Transcript> {
    let releases = all("errors-nix-");
    assert_eq!(releases.len(), RELEASES, "a recording was lost or is not read");
    releases
}

/// Returns the sections of the connection whose heading begins with this text, without the heading.
fn case<'a>(transcript: &'a Transcript, heading: &str) -> &'a [Section] {
    let is_heading = |section: &Section| section.name.starts_with("== ");
    let start =
        transcript.sections.iter().position(|s| s.name.strip_prefix("== ").is_some_and(|n| n.starts_with(heading)));
    let rest = &transcript.sections[start.unwrap_or_else(|| panic!("{}: no {heading}", transcript.name)) + 1..];
    &rest[..rest.iter().position(is_heading).unwrap_or(rest.len())]
}

/// Returns whether nix-daemon closed the connection in the recording.
fn was_closed(case: &[Section]) -> bool {
    case.iter().any(|section| section.name.starts_with("-> EOF"))
}

/// Connects a client to a script of that release, which sends the replies of the case.
fn client(transcript: &Transcript, case: &[Section]) -> Client<Script> {
    let mut script = greeting(&transcript.sections);
    for section in case.iter().filter(|section| !section.sent.is_empty()) {
        script = script.replies(&section.received);
    }
    let script = if was_closed(case) { script.hangs_up() } else { script };
    run(greet(script, Version::NEWEST, &[])).unwrap()
}

fn message(outcome: Result<Value, ClientError>) -> String {
    let Err(ClientError::Daemon { error, .. }) = outcome else { panic!("{outcome:?}") };
    error.message().to_owned()
}

#[test]
fn a_nar_of_a_path_that_is_nowhere_fails_with_the_daemons_own_words_and_is_fatal() {
    for transcript in releases() {
        let case = case(&transcript, "NarFromPath of a missing path");
        assert!(was_closed(case), "{}", transcript.name);
        let mut client = client(&transcript, case);
        let words = message(run(perform(&mut client, &format!("NarFromPath {MISSING}"))));
        let known = ["is not a valid store path", "is not valid", "No such file or directory", "does not exist"];
        assert!(words.contains(MISSING), "{}: {words}", transcript.name);
        assert!(known.iter().any(|known| words.contains(known)), "{}: {words}", transcript.name);
        assert!(!words.contains('\u{1b}') && !words.starts_with("error"), "{}: {words}", transcript.name);
        assert!(!client.is_idle(), "{}", transcript.name);
    }
}

#[test]
fn both_forms_of_a_failed_nar_are_recorded() {
    let is_late = |transcript: &Transcript| {
        let reply = &case(transcript, "NarFromPath of a missing path")[0].received;
        reply.windows(13).any(|window| window == b"nix-archive-1")
    };
    let late = releases().iter().filter(|transcript| is_late(transcript)).count();
    assert!((1..RELEASES).contains(&late), "{late} of {RELEASES} releases fail after the first token");
}

#[test]
fn a_nar_of_an_unregistered_path_is_whole_or_refused() {
    let unregistered = "/nix/store/11111111111111111111111111111111-unreg";
    let mut refused = 0;
    for transcript in releases() {
        let case = case(&transcript, "NarFromPath of an on-disk but unregistered path");
        let mut client = client(&transcript, case);
        let outcome = run(perform(&mut client, &format!("NarFromPath {unregistered}")));
        if was_closed(case) {
            assert!(message(outcome).contains(unregistered), "{}", transcript.name);
            assert!(!client.is_idle(), "{}", transcript.name);
            refused += 1;
        } else {
            let nar = outcome.unwrap().nar();
            assert!(nar.windows(20).any(|window| window == b"unregistered content"), "{}", transcript.name);
            assert!(run(client.is_valid_path(&path(HELLO))).unwrap(), "{}", transcript.name);
        }
    }
    assert!((1..RELEASES).contains(&refused), "{refused}");
}

#[test]
fn an_error_during_work_leaves_the_connection_usable() {
    for transcript in releases() {
        // This client cannot send a hash part of three letters; the recorded reply fits any.
        for (heading, question) in [
            ("QueryPathFromHashPart wrong length", format!("QueryPathFromHashPart {}", &HELLO[11..43])),
            ("EnsurePath missing", format!("EnsurePath {MISSING}")),
        ] {
            let case = case(&transcript, heading);
            assert!(!was_closed(case), "{}", transcript.name);
            let mut client = client(&transcript, case);
            let words = message(run(perform(&mut client, &question)));
            assert!(words.contains("invalid hash part") || words.contains(MISSING), "{}: {words}", transcript.name);
            assert!(client.is_idle(), "{}", transcript.name);
            assert!(run(client.is_valid_path(&path(HELLO))).unwrap(), "{}", transcript.name);
        }
    }
}

#[test]
fn an_error_before_work_is_fatal() {
    for transcript in releases() {
        for heading in ["QueryPathInfo malformed path", "unknown opcode 99"] {
            let case = case(&transcript, heading);
            assert!(was_closed(case), "{}", transcript.name);
            let mut client = client(&transcript, case);
            // This client cannot send these; the recorded replies are sent twice, and nothing after them.
            let words = message(run(perform(&mut client, &format!("QueryPathInfo {PB_B}"))));
            assert!(!words.is_empty());
            assert!(!client.is_idle(), "{}: {heading}", transcript.name);
            let again = run(perform(&mut client, &format!("QueryPathInfo {PB_B}")));
            assert!(matches!(again, Err(ClientError::AlreadyClosed)), "{}: {heading}: {again:?}", transcript.name);
        }
    }
}

#[test]
fn a_daemon_that_aborts_has_closed_before_its_reply() {
    let mut aborted = 0;
    for transcript in releases() {
        let case = case(&transcript, "QueryPathInfo empty string");
        if !case[0].received.is_empty() {
            continue;
        }
        let outcome = run(perform(&mut client(&transcript, case), &format!("QueryPathInfo {PB_B}")));
        assert!(outcome.is_err_and(|error| error.is_retryable()), "{}", transcript.name);
        aborted += 1;
    }
    assert!(aborted > 0);
}

/// A connection that nix-daemon closed before the client wrote.
#[derive(Debug)]
struct Refused {
    /// Bytes that it sent before.
    said: &'static [u8],
    write: Option<io::ErrorKind>,
}

impl AsyncRead for Refused {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        into.put_slice(std::mem::take(&mut self.said));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Refused {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.write.map_or(Ok(bytes.len()), |kind| Err(kind.into())))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_user_who_is_not_allowed_sees_the_connection_closed_before_the_greeting() {
    let auth = &all("auth-nix-")[0];
    assert!(auth.sections.iter().any(|section| section.name.starts_with("send -> BrokenPipe")));
    assert!(auth.sections.iter().any(|section| section.name == "recv -> EOF, 0 bytes"));
    for write in [Some(io::ErrorKind::BrokenPipe), Some(io::ErrorKind::ConnectionReset), None] {
        let outcome = run(Client::connect(Refused { said: b"", write }, StoreDir::default()));
        assert!(matches!(outcome, Err(ClientError::ClosedBeforeGreeting)), "{write:?}");
    }
}

#[test]
fn what_a_peer_said_before_it_closed_is_read_though_nothing_can_be_written() {
    for write in [Some(io::ErrorKind::BrokenPipe), Some(io::ErrorKind::ConnectionReset), None] {
        let outcome = run(Client::connect(Refused { said: b"SSH-2.0-OpenSSH", write }, StoreDir::default()));
        let magic = u64::from_le_bytes(*b"SSH-2.0-");
        assert!(
            matches!(outcome, Err(ClientError::Handshake(HandshakeError::Magic(found))) if found == magic),
            "{write:?}: {outcome:?}"
        );
    }
}

#[test]
fn a_user_who_is_not_trusted_is_told_so_and_may_read() {
    let auth = &all("auth-nix-")[0];
    let start = auth.sections.iter().position(|section| section.name == "connect").unwrap();
    let sections = &auth.sections[start..];
    let question = format!("QueryPathInfo {PB_B}");
    let script = greeting(sections).replies(&auth.section(&question).received);
    let mut client = run(greet(script, Version::NEWEST, &[])).unwrap();
    assert_eq!(client.session().trusted, Some(false));
    assert_eq!(client.session().release.as_deref(), Some("2.34.8"));
    assert_eq!(run(perform(&mut client, &question)).unwrap().info().nar_size, 168);
}

#[test]
fn features_that_the_daemon_does_not_have_are_not_agreed_on() {
    let transcript = &all("nix-2.34.8-features-offered")[0];
    let script = greeting(&transcript.sections);
    let client = run(greet(script, Version::NEWEST, harmonia_protocol::version::Feature::SUPPORTED)).unwrap();
    assert!(!client.session().has_feature(harmonia_protocol::version::Feature::RealisationWithPathNotHash));
}

#[test]
fn what_a_daemon_has_beside_the_features_that_are_offered_is_not_agreed_on() {
    let transcript = &all("nix-determinate-3.22.2-client1.38-all-features")[0];
    let script = greeting(&transcript.sections).replies(&transcript.section(&format!("QueryPathInfo {PB_B}")).received);
    let offered = harmonia_protocol::version::Feature::SUPPORTED;
    let mut client = run(greet(script, Version::NEWEST, offered)).unwrap();
    assert!(client.session().has_feature(harmonia_protocol::version::Feature::RealisationWithPathNotHash));
    assert_eq!(run(perform(&mut client, &format!("QueryPathInfo {PB_B}"))).unwrap().info().nar_size, 168);
}
