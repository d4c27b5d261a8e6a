//! SIGTERM and SIGINT: the first stops gracefully, the second at once.

use std::fmt;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};

use crate::metrics::Metrics;
use crate::net::Limits;
use crate::process::systemd;

/// Receives stop signals from its creation on.
#[derive(Debug)]
pub(super) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

/// A stop signal. Interrupts usually come from somebody at a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StopSignal {
    Terminate,
    Interrupt,
}

impl StopSignals {
    /// Installs handlers, so that the signals do not end the process.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.terminate.recv() => StopSignal::Terminate,
            _ = self.interrupt.recv() => StopSignal::Interrupt,
        }
    }

    /// Sends `first` at the first signal, after it has logged what is waited for. Returns at the second signal.
    pub(super) async fn graceful_then_force(
        mut self,
        first: oneshot::Sender<()>,
        limits: watch::Receiver<Limits>,
        metrics: &Metrics,
    ) {
        let signal = self.next().await;
        let (downloads, seconds) = (metrics.http.requests_in_flight(), limits.borrow().drain.as_secs());
        tracing::info!("{}", Stopping { signal, downloads, seconds });
        systemd::stopping();
        // Fails if serving has ended by itself.
        let _ = first.send(());
        self.next().await;
    }
}

/// The log line at the first signal.
struct Stopping {
    signal: StopSignal,
    downloads: u64,
    seconds: u64,
}

impl fmt::Display for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { signal, downloads, seconds } = self;
        let (what, again) = (
            if *downloads == 1 { "download" } else { "downloads" },
            match signal {
                StopSignal::Terminate => "a second signal stops at once",
                StopSignal::Interrupt => "press ctrl-C again to stop now",
            },
        );
        match (downloads, seconds) {
            (0, _) | (_, 0) => f.write_str("stopping"),
            _ => write!(f, "stopping: waiting up to {seconds} s for {downloads} {what}; {again}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_waited_for_is_named() {
        let said = |signal, downloads, seconds| Stopping { signal, downloads, seconds }.to_string();
        assert_eq!(said(StopSignal::Interrupt, 0, 30), "stopping");
        assert_eq!(said(StopSignal::Interrupt, 2, 0), "stopping");
        let waiting = "stopping: waiting up to 30 s for 2 downloads; press ctrl-C again to stop now";
        assert_eq!(said(StopSignal::Interrupt, 2, 30), waiting);
        let waiting = "stopping: waiting up to 30 s for 1 download; a second signal stops at once";
        assert_eq!(said(StopSignal::Terminate, 1, 30), waiting);
    }
}
