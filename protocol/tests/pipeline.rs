//! Pipelined operations: their order, errors among them, and the bound on requests without a reply.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use harmonia_protocol::client::Client;
use harmonia_protocol::derivation_output::DerivationOutput;
use harmonia_protocol::operation::{IsValidPath, QueryPathInfo, QueryRealisation};
use harmonia_protocol::stderr::DaemonError;
use harmonia_protocol::version::{Feature, Version};
use harmonia_protocol::{ClientError, StorePath};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::operations::{HELLO, MISSING, PB_B};
use super::script::{LAST, Script, error_frame, greet, numbers, path, run, string};

/// Most bytes of requests without a reply, in addition to the request that is about to be sent.
const WINDOW: usize = 32 * 1024;
/// IsValidPath of [`HELLO`]: opcode, length, 49 bytes padded.
const REQUEST: usize = 8 + 8 + 56;

/// A nix-daemon that reads as much as it can before it sends a reply, as if the kernel buffered everything.
struct Greedy {
    greeting: Script,
    /// Bytes of requests without a reply.
    unanswered: usize,
    answered: u64,
    seen: Arc<Mutex<Seen>>,
}

/// Record of what a client did.
#[derive(Default)]
struct Seen {
    /// Most bytes of requests without a reply.
    most: usize,
    writes: usize,
}

impl AsyncRead for Greedy {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.greeting.is_over() {
            return Pin::new(&mut this.greeting).poll_read(context, buffer);
        }
        if this.unanswered < REQUEST {
            return Poll::Pending;
        }
        this.unanswered -= REQUEST;
        // Every third path is not valid, so that a reply out of order shows.
        buffer.put_slice(&numbers(&[LAST, u64::from(this.answered % 3 != 2)]));
        this.answered += 1;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Greedy {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !this.greeting.is_over() {
            return Pin::new(&mut this.greeting).poll_write(context, bytes);
        }
        this.unanswered += bytes.len();
        let mut seen = this.seen.lock().unwrap();
        seen.most = this.unanswered.max(seen.most);
        seen.writes += 1;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

async fn greedy() -> (Client<Greedy>, Arc<Mutex<Seen>>) {
    let seen = Arc::default();
    let greeting = Script::greeting(Version::NEWEST, &[]);
    let greedy = Greedy { greeting, unanswered: 0, answered: 0, seen: Arc::clone(&seen) };
    let client = greet(greedy, Version::NEWEST, Feature::SUPPORTED).await.unwrap();
    (client, seen)
}

#[test]
fn no_more_than_the_window_is_unanswered_and_the_answers_keep_their_order() {
    let (mut client, seen) = run(greedy());
    let paths: Vec<StorePath> = std::iter::repeat_n(path(HELLO), 5000).collect();
    let operations: Vec<IsValidPath<'_>> = paths.iter().map(IsValidPath).collect();
    let replies = run(client.pipeline(&operations)).unwrap();
    assert_eq!(replies.len(), 5000);
    for (index, reply) in replies.into_iter().enumerate() {
        assert_eq!(reply, Ok(index % 3 != 2), "{index}");
    }
    let Seen { most, writes } = *seen.lock().unwrap();
    assert!(most > WINDOW / 2, "only {most} bytes at once: this is no pipeline");
    assert!(most <= WINDOW + REQUEST, "{most} bytes were unanswered");
    // The kernel accounts more for a small write than its bytes: with one for each request both sides would block.
    assert!(writes <= 5000 * REQUEST / (WINDOW / 2) + 1, "{writes} writes");
    assert!(client.is_idle());
}

#[test]
fn nothing_asked_is_nothing_sent() {
    let (mut client, record) = Script::greeting(Version::NEWEST, &[]).client(Version::NEWEST);
    assert_eq!(run(client.pipeline::<IsValidPath<'_>>(&[])).unwrap(), []);
    assert!(record.lock().unwrap().written.is_empty());
    assert!(client.is_idle());
}

#[test]
fn an_error_in_the_middle_is_one_operations_alone() {
    let replies = [numbers(&[LAST, 1]), error_frame("busy"), numbers(&[LAST, 0])].concat();
    for piece in [1, usize::MAX] {
        let script = Script::greeting(Version::NEWEST, &[]).replies(&replies).replies(numbers(&[LAST, 1]));
        let (mut client, record) = script.in_pieces_of(piece).client(Version::NEWEST);
        let (hello, missing, pb_b) = (path(HELLO), path(MISSING), path(PB_B));
        let outcome = run(client.pipeline(&[IsValidPath(&hello), IsValidPath(&pb_b), IsValidPath(&missing)])).unwrap();
        let outcome: Vec<_> = outcome.iter().map(|reply| reply.as_ref().map_err(DaemonError::message)).collect();
        assert_eq!(outcome, [Ok(&true), Err("busy"), Ok(&false)]);
        let one = |full: &str| [numbers(&[1]), string(full)].concat();
        assert_eq!(record.lock().unwrap().written, [one(HELLO), one(PB_B), one(MISSING)].concat());
        assert!(client.is_idle());
        assert!(run(client.is_valid_path(&hello)).unwrap());
    }
}

#[test]
fn a_pipeline_that_breaks_off_ends_the_client() {
    let (hello, missing) = (path(HELLO), path(MISSING));
    let replies = [numbers(&[LAST, 0]), numbers(&[LAST, 0])].concat();
    for cut in 0..replies.len() {
        let script = Script::greeting(Version::NEWEST, &[]).replies(&replies[..cut]).hangs_up();
        let (mut client, record) = script.client(Version::NEWEST);
        let outcome = run(client.pipeline(&[QueryPathInfo(&hello), QueryPathInfo(&missing)]));
        let error = outcome.unwrap_err();
        assert!(matches!(error, ClientError::Closed { .. }), "{cut}: {error}");
        assert_eq!(error.is_retryable(), cut == 0);
        assert!(record.lock().unwrap().closed);
    }
}

#[test]
fn an_operation_that_may_lose_the_step_ends_the_client_with_its_error() {
    let output: DerivationOutput = DerivationOutput::Hashed(format!("sha256:{}!out", "0".repeat(64)).parse().unwrap());
    let script = Script::greeting(Version::NEWEST, &[]).replies([error_frame("no"), numbers(&[LAST, 0])].concat());
    let (mut client, record) = script.client(Version::NEWEST);
    let outcome = run(client.pipeline(&[QueryRealisation(&output), QueryRealisation(&output)])).unwrap();
    assert!(matches!(outcome[..], [Err(_), Ok(None)]), "{outcome:?}");
    assert!(record.lock().unwrap().closed);
    assert!(!client.is_idle());
}

#[test]
fn a_pipeline_that_the_daemon_does_not_have_is_refused_without_a_byte() {
    let output: DerivationOutput = DerivationOutput::Hashed(format!("sha256:{}!out", "0".repeat(64)).parse().unwrap());
    let (mut client, record) = Script::greeting(Version::OLDEST, &[]).client(Version::OLDEST);
    let outcome = run(client.pipeline(&[QueryRealisation(&output)]));
    assert!(matches!(outcome, Err(ClientError::Unsupported(_))), "{outcome:?}");
    assert!(record.lock().unwrap().written.is_empty());
    assert!(client.is_idle());
}
