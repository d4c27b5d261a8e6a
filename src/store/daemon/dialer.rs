//! Connecting to nix-daemon, bounded in number and time.
//!
//! The first attempt that fails begins an outage. For as long as a restart takes, all callers wait for its end
//! together. After that they fail at once, but each new caller makes one attempt, so that the next request finds a
//! nix-daemon that is back. A slow attempt continues in the background, and nobody waits for it.

use crate::sync::Mutex;
use std::io;
use std::mem::discriminant;
use std::sync::Arc;
use std::time::Duration;

use harmonia_protocol::StoreDir;
use harmonia_protocol::client::Client;
use harmonia_protocol::error::Phase;
use harmonia_protocol::signature_set::KnownKeys;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use crate::config::DaemonAddress;
use crate::metrics::Metrics;
use crate::store::daemon::deadline::Deadline;
use crate::store::daemon::outage::{Outage, Uptime};
use crate::store::daemon::transport::{StderrTail, Transport};
use crate::store::error::StoreError;
use crate::store::error::outcome;

/// Upper bound of concurrent dials. nix-daemon up to 2.8 has a listen backlog of 5, and a non-blocking connect fails
/// when it is full.
const CONCURRENT_DIALS: usize = 4;
/// First pause between attempts, doubled each time up to [`LAST_PAUSE`], with a jitter of up to 100%.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LAST_PAUSE: Duration = Duration::from_millis(200);
/// Time that callers wait for an attempt during an outage. The handshake takes some tens of milliseconds.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(500);

/// Shorter outages are not logged: a full backlog passes within milliseconds.
const MIN_LOGGED_OUTAGE: Duration = Duration::from_secs(1);

/// Dials one nix-daemon.
#[derive(Debug)]
pub(crate) struct Dialer {
    address: DaemonAddress,
    directory: StoreDir,
    metrics: Arc<Metrics>,
    permits: Semaphore,
    /// `None` if the last attempt succeeded, and before the first.
    outage: watch::Sender<Option<Outage>>,
    /// `None` before the first attempt that succeeds.
    uptime: Mutex<Option<Uptime>>,
    /// Permit for the one attempt that is made during an outage.
    attempt: Arc<Semaphore>,
    /// Start of that attempt.
    attempt_began: Mutex<Option<Instant>>,
    /// Keys whose signatures take precedence.
    known_keys: Mutex<Arc<KnownKeys>>,
}

impl Dialer {
    pub(crate) fn new(address: DaemonAddress, directory: StoreDir, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            address,
            directory,
            metrics,
            permits: Semaphore::new(CONCURRENT_DIALS),
            outage: watch::Sender::new(None),
            uptime: Mutex::default(),
            attempt: Arc::new(Semaphore::new(1)),
            attempt_began: Mutex::default(),
            known_keys: Mutex::default(),
        })
    }

    /// Returns whether there is a nix-daemon.
    pub(crate) fn has_daemon(&self) -> bool {
        self.address != DaemonAddress::None
    }

    /// Returns the keys whose signatures take precedence.
    pub(crate) fn known_keys(&self) -> Arc<KnownKeys> {
        Arc::clone(&self.known_keys.lock())
    }

    /// Prefers signatures of these keys from now on, where a path has more than are kept.
    pub(crate) fn set_known_keys(&self, keys: Arc<KnownKeys>) {
        *self.known_keys.lock() = keys;
    }

    /// Connects and performs the handshake. Callers that wait for a dial which fails share its error, so that each
    /// request waits for one deadline at most.
    pub(crate) async fn dial(self: &Arc<Self>) -> Result<Client<Transport>, StoreError> {
        let since = Instant::now();
        let outage = self.outage.borrow().clone();
        if let Some(Outage { error, failed: Some(_), .. }) = outage {
            return self.attempt_once(since, error).await;
        }
        let permit = self.permits.acquire().await.map_err(|_| StoreError::Timeout(Deadline::Connect))?;
        if let Some(failure) = self.failure_since(since) {
            return Err(failure);
        }
        let result = self.connect_and_greet(self.connect_patiently(since)).await;
        self.record_attempt(since, &result);
        drop(permit);
        result
    }

    /// Returns the current outage, and its changes.
    pub(crate) fn outage(&self) -> watch::Receiver<Option<Outage>> {
        self.outage.subscribe()
    }

    /// Returns the period in which nix-daemon was last reachable.
    pub(crate) fn uptime(&self) -> Option<Uptime> {
        self.uptime.lock().clone()
    }

    /// Returns the error of the last attempt to connect, also within a dial; `None` if it succeeded.
    pub(crate) fn last_error(&self) -> Option<StoreError> {
        self.outage.borrow().as_ref().map(|outage| outage.error.clone())
    }

    fn failure_since(&self, since: Instant) -> Option<StoreError> {
        let outage = self.outage.borrow();
        outage.as_ref().filter(|outage| outage.failed > Some(since)).map(|outage| outage.error.clone())
    }

    /// Makes one attempt, shared by all callers meanwhile. It continues if they time out, which returns the error
    /// `known`.
    async fn attempt_once(
        self: &Arc<Self>,
        since: Instant,
        known: StoreError,
    ) -> Result<Client<Transport>, StoreError> {
        let deadline = self.attempt_began.lock().unwrap_or(since) + ATTEMPT_TIMEOUT;
        let look = async {
            let late = |_| StoreError::Timeout(Deadline::Connect);
            let permit = Arc::clone(&self.attempt).acquire_owned().await.map_err(late)?;
            if let Some(failure) = self.failure_since(since) {
                return Err(failure);
            }
            *self.attempt_began.lock() = Some(Instant::now());
            let this = Arc::clone(self);
            let attempt = tokio::spawn(async move {
                let result = this.connect_and_greet(this.connect()).await;
                this.record_attempt(since, &result);
                *this.attempt_began.lock() = None;
                drop(permit);
                result
            });
            attempt.await.unwrap_or_else(|_| Err(known.clone()))
        };
        timeout_at(deadline, look).await.unwrap_or_else(|_| Err(known.clone()))
    }

    /// Records the result of a dial that began at `since`.
    fn record_attempt(&self, since: Instant, result: &Result<Client<Transport>, StoreError>) {
        self.metrics.daemon.record_connection_attempt(outcome(result));
        match result {
            Ok(client) => {
                let was_away = self.end_outage();
                let mut uptime = self.uptime.lock();
                let before = uptime.take().filter(|_| !was_away);
                *uptime = Some(Uptime::new(client.session().clone(), before.as_ref()));
            }
            Err(error) => self.fail(since, error, Some(Instant::now())),
        }
    }

    fn fail(&self, since: Instant, error: &StoreError, failed: Option<Instant>) {
        self.metrics.daemon.set_up(false);
        self.outage.send_if_modified(|outage| {
            let is_same = |outage: &Outage| discriminant(&outage.error) == discriminant(error);
            let is_news = !outage.as_ref().is_some_and(is_same);
            let (began, before) = outage.as_ref().map_or((since, None), |outage| (outage.began, outage.failed));
            *outage = Some(Outage { error: error.clone(), began, failed: failed.or(before) });
            is_news
        });
    }

    /// Ends the outage. Returns whether there was one that is worth a log line.
    fn end_outage(&self) -> bool {
        self.metrics.daemon.set_up(true);
        let mut ended = None;
        self.outage.send_if_modified(|outage| {
            ended = outage.take();
            ended.is_some()
        });
        let Some(outage) = ended.filter(|outage| outage.lasted() >= MIN_LOGGED_OUTAGE) else { return false };
        let reason = outage.error.to_string();
        let reason = reason.lines().next().unwrap_or_default();
        tracing::info!("nix-daemon replies again after {:.1?}; last error: {reason}", outage.lasted());
        true
    }

    async fn connect_and_greet(
        &self,
        connecting: impl Future<Output = Result<(Transport, Option<StderrTail>), StoreError>>,
    ) -> Result<Client<Transport>, StoreError> {
        let (transport, stderr_tail) = connecting.await?;
        let greeted = Client::connect(transport, self.directory.clone());
        let result = Deadline::Daemon(Phase::Handshake).enforce(greeted).await;
        match (result, stderr_tail) {
            // The configured program writes its error to its standard error and closes its output.
            (Err(StoreError::Refused { .. }), Some(stderr_tail)) => {
                let reason = stderr_tail.read().await;
                Err(StoreError::Unreachable { daemon: self.address.clone(), kind: io::ErrorKind::Other, reason })
            }
            (result, _) => result,
        }
    }

    /// Retries errors of a nix-daemon that is starting or overloaded, until the outage is longer than a restart. A new
    /// outage begins at `since`.
    async fn connect_patiently(&self, since: Instant) -> Result<(Transport, Option<StderrTail>), StoreError> {
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.connect().await {
                Ok(opened) => return Ok(opened),
                Err(error) => error,
            };
            self.fail(since, &error, None);
            let began = self.outage.borrow().as_ref().map_or(since, |outage| outage.began);
            let deadline = began + Deadline::Connect.duration();
            if !self.is_passing(&error) || Instant::now() + pause * 2 >= deadline {
                return Err(error);
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    async fn connect(&self) -> Result<(Transport, Option<StderrTail>), StoreError> {
        let opened =
            async { Transport::open(&self.address).await.map_err(|it| StoreError::unreachable(&self.address, &it)) };
        Deadline::Connect.enforce(opened).await
    }

    /// Returns whether the error is that of a full backlog or a restart. A missing program stays missing.
    const fn is_passing(&self, error: &StoreError) -> bool {
        use io::ErrorKind::{ConnectionRefused, NotFound, WouldBlock};
        let StoreError::Unreachable { kind, .. } = error else { return false };
        matches!(self.address, DaemonAddress::Socket(_)) && matches!(kind, ConnectionRefused | NotFound | WouldBlock)
    }
}

/// Adds a jitter of up to 100%, so that many callers that failed together do not retry together.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness there is no jitter.
    let _ = SystemRandom::new().fill(&mut byte);
    pause + pause * u32::from(byte[0]) / 256
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{GREETING, bytes};
    use std::os::unix::net::UnixListener;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn dialer(socket: &std::path::Path) -> Arc<Dialer> {
        Dialer::new(DaemonAddress::Socket(socket.to_owned()), StoreDir::default(), Arc::default())
    }

    /// Performs the handshake on every connection.
    fn listen(socket: &std::path::Path) {
        let listener = tokio::net::UnixListener::bind(socket).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(&bytes(&GREETING)).await.unwrap();
                tokio::spawn(async move { stream.read_to_end(&mut Vec::new()).await });
            }
        });
    }

    fn is_unreachable<T>(result: &Result<T, StoreError>) -> bool {
        matches!(result, Err(StoreError::Unreachable { .. }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_nix_daemon_is_waited_for_once() {
        let directory = tempfile::tempdir().unwrap();
        let dialer = dialer(&directory.path().join("socket"));
        let start = Instant::now();
        let error = dialer.dial().await.unwrap_err();
        assert!(matches!(&error, StoreError::Unreachable { reason, .. } if reason == "no such file or directory"));
        assert!(error.to_string().contains("\n  help: check that nix-daemon is running"));
        assert!((Duration::from_secs(5)..=Deadline::Connect.duration()).contains(&start.elapsed()));
        let later = Instant::now();
        for _ in 0..100 {
            assert!(is_unreachable(&dialer.dial().await));
        }
        assert_eq!(later.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_dials_during_an_outage_share_one_deadline() {
        let directory = tempfile::tempdir().unwrap();
        let dialer = dialer(&directory.path().join("socket"));
        let start = Instant::now();
        let dials: Vec<_> = (0..10 * CONCURRENT_DIALS)
            .map(|number| {
                let dialer = Arc::clone(&dialer);
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(100) * u32::try_from(number).unwrap()).await;
                    dialer.dial().await.map(drop)
                })
            })
            .collect();
        for dial in dials {
            assert!(is_unreachable(&dial.await.unwrap()));
        }
        assert!(start.elapsed() <= Deadline::Connect.duration());
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_dial_after_an_outage_succeeds() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let dialer = dialer(&socket);
        assert!(is_unreachable(&dialer.dial().await) && dialer.last_error().is_some());
        listen(&socket);
        let dials: Vec<_> = (0..10 * CONCURRENT_DIALS)
            .map(|_| {
                let dialer = Arc::clone(&dialer);
                tokio::spawn(async move { dialer.dial().await.map(drop) })
            })
            .collect();
        for dial in dials {
            dial.await.unwrap().unwrap();
        }
        assert!(dialer.last_error().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_frozen_nix_daemon_is_not_waited_for_and_noticed_when_it_continues() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let dialer = dialer(&socket);
        assert!(matches!(dialer.dial().await, Err(StoreError::Timeout(_))));
        let start = Instant::now();
        for _ in 0..100 {
            assert!(matches!(dialer.dial().await, Err(StoreError::Timeout(_))));
        }
        assert_eq!(start.elapsed(), ATTEMPT_TIMEOUT);
        // The handshake of an abandoned attempt, still in the backlog, succeeds.
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::UnixListener::from_std(listener).unwrap();
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                drop(stream.write_all(&bytes(&GREETING)).await);
                open.push(stream);
            }
        });
        dialer.outage().wait_for(Option::is_none).await.unwrap();
        dialer.dial().await.unwrap();
        assert!(start.elapsed() < Deadline::Connect.duration());
    }

    #[tokio::test]
    async fn a_nix_daemon_that_starts_while_dialling_is_reached() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let dialer = dialer(&socket);
        let connecting = tokio::spawn(async move { dialer.connect_patiently(Instant::now()).await });
        // Polled once, the dial has begun; its first attempts fail.
        tokio::task::yield_now().await;
        let _listener = UnixListener::bind(&socket).unwrap();
        assert!(matches!(connecting.await.unwrap(), Ok((Transport::Socket(_), None))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_handshake_times_out() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        let error = dialer(&socket).dial().await.unwrap_err();
        assert_eq!(error.to_string(), "timed out after 10 s waiting for nix-daemon: the handshake");
    }

    #[tokio::test]
    async fn a_missing_program_fails_at_once() {
        let command = "/nonexistent/nix-daemon --stdio".parse().unwrap();
        let dialer = Dialer::new(DaemonAddress::Command(command), StoreDir::default(), Arc::default());
        let error = dialer.dial().await.unwrap_err();
        assert!(error.to_string().contains("help: check that the program exists"), "{error}");
    }

    #[tokio::test]
    async fn errors_quote_a_program_that_fails() {
        let words = ["sh", "-c", "echo warning >&2; echo 'host key \u{7} unknown' >&2"].map(str::to_owned);
        let command = crate::config::DaemonCommand::from_words(words).unwrap();
        let dialer = Dialer::new(DaemonAddress::Command(command), StoreDir::default(), Arc::default());
        let error = dialer.dial().await.unwrap_err();
        assert!(matches!(&error, StoreError::Unreachable { reason, .. } if reason == "host key   unknown"), "{error}");
    }
}
