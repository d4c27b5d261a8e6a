//! Connecting to the daemon: bounded in number and time, patient with a daemon that is just starting.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use harmonia_protocol::StoreDir;
use harmonia_protocol::client::Client;
use harmonia_protocol::error::Step as ClientStep;
use harmonia_protocol::signature_set::KnownKeys;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::error::outcome;
use super::transport::{LastWords, Transport};
use super::{Step, StoreError};
use crate::config::DaemonAddress;
use crate::metrics::Metrics;

/// Daemons up to 2.8 have a listen backlog of 5, and a non-blocking connect fails when it is full.
const CONCURRENT_DIALS: usize = 4;
/// The pauses between attempts: the first, doubled up to the last, each lengthened by up to as much at random.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LAST_PAUSE: Duration = Duration::from_millis(200);

/// Makes connections to one daemon.
#[derive(Debug)]
pub(super) struct Dialer {
    address: DaemonAddress,
    directory: StoreDir,
    metrics: Arc<Metrics>,
    permits: Semaphore,
    /// When the last attempt failed, and how.
    last_failure: Mutex<Option<(Instant, StoreError)>>,
    /// Why the last attempt to connect failed, within a dial too.
    trouble: Mutex<Option<StoreError>>,
    /// Whose signatures are kept before those of others.
    known_keys: Mutex<Arc<KnownKeys>>,
}

impl Dialer {
    pub(super) fn new(address: DaemonAddress, directory: StoreDir, metrics: Arc<Metrics>) -> Self {
        let permits = Semaphore::new(CONCURRENT_DIALS);
        Self {
            address,
            directory,
            metrics,
            permits,
            last_failure: Mutex::default(),
            trouble: Mutex::default(),
            known_keys: Mutex::default(),
        }
    }

    /// The keys whose signatures are kept before those of others.
    pub(super) fn known_keys(&self) -> Arc<KnownKeys> {
        Arc::clone(&locked(&self.known_keys))
    }

    /// Keeps signatures of these keys before those of others from now on.
    pub(super) fn know_keys(&self, keys: Arc<KnownKeys>) {
        *locked(&self.known_keys) = keys;
    }

    /// Connects and greets. Those who wait behind a dial that fails share its failure, so that a daemon that is down
    /// costs each request one deadline and not as many as there are requests.
    pub(super) async fn dial(&self) -> Result<Client<Transport>, StoreError> {
        let since = Instant::now();
        let permit = self.permits.acquire().await.map_err(|_| StoreError::Late(Step::Connect))?;
        if let Some(failure) = self.failure_since(since) {
            return Err(failure);
        }
        let result = self.connect_and_greet().await;
        self.metrics.dial(outcome(&result));
        if let Err(error) = &result {
            *locked(&self.last_failure) = Some((Instant::now(), error.clone()));
        }
        drop(permit);
        result
    }

    /// Why the last attempt to connect failed; none if it did not.
    pub(super) fn trouble(&self) -> Option<StoreError> {
        locked(&self.trouble).clone()
    }

    fn failure_since(&self, since: Instant) -> Option<StoreError> {
        let last = locked(&self.last_failure);
        last.as_ref().filter(|(at, _)| *at >= since).map(|(_, error)| error.clone())
    }

    async fn connect_and_greet(&self) -> Result<Client<Transport>, StoreError> {
        let (transport, last_words) = self.connect().await?;
        let greeted = Client::connect(transport, self.directory.clone());
        let result = Step::Daemon(ClientStep::Handshake).bound(greeted).await;
        match (result, last_words) {
            // A program says why it fails on its standard error, and then closes its output.
            (Err(StoreError::Refused { .. }), Some(last_words)) => {
                let reason = last_words.read().await;
                Err(StoreError::Unreachable { daemon: self.address.clone(), kind: io::ErrorKind::Other, reason })
            }
            (result, _) => result,
        }
    }

    /// Tries until the deadline while the reasons are those of a daemon that is starting or swamped.
    async fn connect(&self) -> Result<(Transport, Option<LastWords>), StoreError> {
        let deadline = Instant::now() + Step::Connect.deadline();
        let mut pause = FIRST_PAUSE;
        loop {
            let attempt = tokio::time::timeout_at(deadline, Transport::open(&self.address)).await;
            let error = match attempt {
                Ok(Ok(opened)) => {
                    *locked(&self.trouble) = None;
                    return Ok(opened);
                }
                Ok(Err(error)) => error,
                Err(_) => return Err(StoreError::Late(Step::Connect)),
            };
            let failure = StoreError::unreachable(&self.address, &error);
            *locked(&self.trouble) = Some(failure.clone());
            if !self.is_passing(&error) || Instant::now() + pause * 2 >= deadline {
                return Err(failure);
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// A full backlog, a socket between two daemons, a socket not there yet. A program that is not there stays away.
    fn is_passing(&self, error: &io::Error) -> bool {
        use io::ErrorKind::{ConnectionRefused, NotFound, WouldBlock};
        matches!(self.address, DaemonAddress::Socket(_))
            && matches!(error.kind(), ConnectionRefused | NotFound | WouldBlock)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Between one and two pauses, so that many who failed together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness the pause is merely regular.
    let _ = SystemRandom::new().fill(&mut byte);
    pause + pause * u32::from(byte[0]) / 256
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn dialer(socket: &std::path::Path) -> Arc<Dialer> {
        Arc::new(Dialer::new(DaemonAddress::Socket(socket.to_owned()), StoreDir::default(), Arc::default()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_is_not_there_is_waited_for_until_the_deadline() {
        let directory = tempfile::tempdir().unwrap();
        let start = Instant::now();
        let error = dialer(&directory.path().join("socket")).dial().await.unwrap_err();
        assert!(matches!(&error, StoreError::Unreachable { reason, .. } if reason == "no such file or directory"));
        assert!(error.to_string().contains("\n  help: is nix-daemon running?"));
        assert!(start.elapsed() <= Step::Connect.deadline());
    }

    #[tokio::test]
    async fn a_daemon_that_appears_meanwhile_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let dialer = dialer(&socket);
        let connecting = tokio::spawn(async move { dialer.connect().await });
        // The dial has begun when it has been polled once; its first attempts fail.
        tokio::task::yield_now().await;
        let _listener = UnixListener::bind(&socket).unwrap();
        assert!(matches!(connecting.await.unwrap(), Ok((Transport::Socket(_), None))));
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_behind_a_failed_dial_share_its_failure() {
        let directory = tempfile::tempdir().unwrap();
        let dialer = dialer(&directory.path().join("socket"));
        let start = Instant::now();
        let dials: Vec<_> = (0..10 * CONCURRENT_DIALS)
            .map(|_| {
                let dialer = Arc::clone(&dialer);
                tokio::spawn(async move { dialer.dial().await.map(drop) })
            })
            .collect();
        for dial in dials {
            assert!(matches!(dial.await.unwrap(), Err(StoreError::Unreachable { .. })));
        }
        assert!(start.elapsed() <= Step::Connect.deadline());
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_never_greets_is_late_with_the_handshake() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        let error = dialer(&socket).dial().await.unwrap_err();
        assert_eq!(error.to_string(), "the nix daemon is late: the handshake took more than 10 seconds");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_fails_at_once() {
        let command = "/nonexistent/nix-daemon --stdio".parse().unwrap();
        let dialer = Dialer::new(DaemonAddress::Command(command), StoreDir::default(), Arc::default());
        let error = dialer.dial().await.unwrap_err();
        assert!(error.to_string().contains("help: does the program exist"), "{error}");
    }

    #[tokio::test]
    async fn a_program_that_fails_is_quoted() {
        let words = ["sh", "-c", "echo warning >&2; echo 'host key \u{7} unknown' >&2"].map(str::to_owned);
        let command = crate::config::DaemonCommand::from_words(words).unwrap();
        let dialer = Dialer::new(DaemonAddress::Command(command), StoreDir::default(), Arc::default());
        let error = dialer.dial().await.unwrap_err();
        assert!(matches!(&error, StoreError::Unreachable { reason, .. } if reason == "host key   unknown"), "{error}");
    }
}
