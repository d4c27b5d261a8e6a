//! Realisations, from a nix-daemon that may crash on the query.
//!
//! The protocol does not tell whether nix-daemon has the experimental feature `ca-derivations`. Without it Nix 2.34
//! replies that there is no realisation, but 2.8 and 2.26 abort (an assertion in `src/libstore/sqlite.cc`), which costs
//! a process and perhaps a core file each time. A nix-daemon that crashes on this query and replies to another one has
//! no realisations, and is not queried for a while.

use crate::sync::Mutex;
use std::time::Duration;

use harmonia_protocol::HashPart;
use harmonia_protocol::derivation_output::DerivationOutput;
use harmonia_protocol::operation::{QueryPathFromHashPart, QueryRealisation};
use harmonia_protocol::realisation::Realisation;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::fairness::ClientId;
use crate::store::daemon::deadline::Deadline;
use crate::store::daemon::pool::Pool;
use crate::store::error::StoreError;

/// Time without queries after a crash: as long as clients cache a negative response.
const BACKOFF: Duration = Duration::from_secs(60 * 60);

/// Reason why there is no realisation of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRealisation {
    /// nix-daemon knows of none.
    Unknown,
    /// nix-daemon does not support realisations, or not this form of an output.
    Unsupported,
}

/// Support of nix-daemon for realisations.
#[derive(Debug, Clone, Copy)]
enum Support {
    Unknown,
    /// nix-daemon replies to the query.
    Works,
    /// nix-daemon crashed on the query at this time.
    Crashed(Instant),
}

/// Queries realisations.
#[derive(Debug)]
pub(crate) struct Realisations {
    support: Mutex<Support>,
    /// Held by a query while support is unknown, so that one crash is enough.
    probe_lock: Semaphore,
}

impl Realisations {
    pub(crate) const fn new() -> Self {
        Self { support: Mutex::new(Support::Unknown), probe_lock: Semaphore::const_new(1) }
    }

    /// Returns the realisation of an output, or the reason why there is none.
    pub(crate) async fn find(
        &self,
        pool: &Pool,
        output: &DerivationOutput,
        client: ClientId,
    ) -> Result<Result<Realisation, NoRealisation>, StoreError> {
        let unsupported = Ok(Err(NoRealisation::Unsupported));
        if self.is_backing_off() {
            return unsupported;
        }
        let _turn = match self.support() {
            Support::Works => None,
            Support::Unknown | Support::Crashed(_) => Some(Deadline::FreeConnection.enforce(self.lock_probe()).await?),
        };
        // Another query may have crashed it meanwhile.
        if self.is_backing_off() {
            return unsupported;
        }
        let error = match pool.call(client, &QueryRealisation(output)).await {
            Ok(realisation) => {
                self.set(Support::Works);
                return Ok(realisation.ok_or(NoRealisation::Unknown));
            }
            Err(StoreError::Unsupported(_)) => return unsupported,
            Err(error) => error,
        };
        // It was queried on two connections, the second one fresh.
        if !error.is_retryable() || pool.call(client, &QueryPathFromHashPart(HashPart::ZERO)).await.is_err() {
            return Err(error);
        }
        self.set(Support::Crashed(Instant::now()));
        tracing::warn!(
            "nix-daemon crashes when it is queried for a realisation; not querying it for an hour\n  help: \
             set experimental-features = ca-derivations in its nix.conf"
        );
        unsupported
    }

    /// The semaphore is never closed, so this does not fail.
    async fn lock_probe(&self) -> Result<Option<SemaphorePermit<'_>>, StoreError> {
        Ok(self.probe_lock.acquire().await.ok())
    }

    fn is_backing_off(&self) -> bool {
        matches!(self.support(), Support::Crashed(at) if at.elapsed() < BACKOFF)
    }

    fn support(&self) -> Support {
        *self.support.lock()
    }

    fn set(&self, support: Support) {
        *self.support.lock() = support;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{GREETING, LAST, bytes, listen, store, store_after};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use harmonia_protocol::operation::Opcode;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    /// Handshake of protocol 1.27, the first version with realisations.
    const GREETING_OF_1_27: [u64; 4] = [GREETING[0], 0x11b, LAST, LAST];

    const UNSUPPORTED: Result<Realisation, NoRealisation> = Err(NoRealisation::Unsupported);

    fn output() -> DerivationOutput {
        DerivationOutput::Hashed(format!("sha256:{}!out", "0".repeat(64)).parse().unwrap())
    }

    /// Closes the connection on a query for a realisation and counts that; replies to others with `reply`.
    async fn crash_on_realisation(mut stream: UnixStream, crashes: Arc<AtomicUsize>, reply: &[u64]) {
        while let Ok(opcode) = stream.read_u64_le().await {
            if opcode == Opcode::QueryRealisation.to_wire() {
                crashes.fetch_add(1, Ordering::Relaxed);
                return;
            }
            stream.write_all(&bytes(reply)).await.unwrap();
            // The length and 32 characters.
            stream.read_exact(&mut [0; 40]).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_nix_daemon_that_crashes_on_this_query_alone_is_not_queried_for_an_hour() {
        let crashes = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&crashes);
        let connection = move |_, stream| crash_on_realisation(stream, Arc::clone(&count), &[LAST, 0]);
        let (_directory, store) = store_after(GREETING_OF_1_27, |_| (), connection);
        let output = output();
        let (one, other) =
            tokio::join!(store.realisation(&output, ClientId::Server), store.realisation(&output, ClientId::Server));
        assert_eq!((one.unwrap(), other.unwrap()), (UNSUPPORTED, UNSUPPORTED));
        assert_eq!(store.realisation(&output, ClientId::Server).await.unwrap(), UNSUPPORTED);
        assert_eq!(crashes.load(Ordering::Relaxed), 2);
        tokio::time::pause();
        tokio::time::advance(BACKOFF).await;
        tokio::time::resume();
        assert_eq!(store.realisation(&output, ClientId::Server).await.unwrap(), UNSUPPORTED);
        assert_eq!(crashes.load(Ordering::Relaxed), 4);
    }

    #[tokio::test]
    async fn a_nix_daemon_that_crashes_on_any_query_is_an_error() {
        let (_directory, store) = store_after(
            GREETING_OF_1_27,
            |_| (),
            |_, mut stream: UnixStream| async move {
                stream.read_exact(&mut [0; 8]).await.unwrap();
            },
        );
        for _ in 0..2 {
            let error = store.realisation(&output(), ClientId::Server).await.unwrap_err();
            assert!(error.is_retryable(), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_nix_daemon_is_not_queried_for_realisations() {
        // A query would time out.
        let (_directory, store) = store(|_, stream| listen(stream));
        assert_eq!(store.realisation(&output(), ClientId::Server).await.unwrap(), UNSUPPORTED);
    }
}
