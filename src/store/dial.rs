//! Connecting to the daemon: bounded in number and time, patient with a daemon that is just starting.

use std::io;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use harmonia_protocol::StoreDir;
use harmonia_protocol::client::Client;
use harmonia_protocol::error::Step as ClientStep;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::Semaphore;

use super::transport::Transport;
use super::{Step, StoreError};
use crate::config::DaemonAddress;

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
    permits: Semaphore,
    /// When the last attempt failed, and how.
    last_failure: Mutex<Option<(Instant, StoreError)>>,
}

impl Dialer {
    pub(super) fn new(address: DaemonAddress, directory: StoreDir) -> Self {
        Self { address, directory, permits: Semaphore::new(CONCURRENT_DIALS), last_failure: Mutex::new(None) }
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
        if let Err(error) = &result {
            *self.last_failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                Some((Instant::now(), error.clone()));
        }
        drop(permit);
        result
    }

    fn failure_since(&self, since: Instant) -> Option<StoreError> {
        let last = self.last_failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        last.as_ref().filter(|(at, _)| *at >= since).map(|(_, error)| error.clone())
    }

    async fn connect_and_greet(&self) -> Result<Client<Transport>, StoreError> {
        let transport = self.connect().await?;
        Step::Daemon(ClientStep::Handshake).bound(Client::connect(transport, self.directory.clone())).await
    }

    /// Tries until the deadline while the reasons are those of a daemon that is starting or swamped.
    async fn connect(&self) -> Result<Transport, StoreError> {
        let deadline = Instant::now() + Step::Connect.deadline();
        let mut pause = FIRST_PAUSE;
        loop {
            let attempt = tokio::time::timeout_at(deadline.into(), Transport::open(&self.address)).await;
            let error = match attempt {
                Ok(Ok(transport)) => return Ok(transport),
                Ok(Err(error)) => error,
                Err(_) => return Err(StoreError::Late(Step::Connect)),
            };
            if !self.is_passing(&error) || Instant::now() + pause * 2 >= deadline {
                return Err(StoreError::Unreachable { daemon: self.address.clone(), reason: reason(&error) });
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

fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    // "Connection refused (os error 111)" reads better without the number.
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// Between one and two pauses, so that many who failed together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness the pause is merely regular.
    let _ = SystemRandom::new().fill(&mut byte);
    pause + pause * u32::from(byte[0]) / 256
}
