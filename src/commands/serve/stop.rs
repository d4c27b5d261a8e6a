//! The signals that ask for the end, SIGTERM and SIGINT.

use std::fmt;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};

use crate::metrics::Metrics;
use crate::net::Limits;
use crate::process::systemd;

/// Receives them from its creation on.
#[derive(Debug)]
pub(super) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

/// The signal that came: an interrupt is sent by somebody at a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Terminate,
    Interrupt,
}

impl StopSignals {
    /// Keeps them from ending the program by themselves.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Terminate,
            _ = self.interrupt.recv() => Asked::Interrupt,
        }
    }

    /// Passes the first signal on, saying what is waited for, and is ready at the second.
    pub(super) async fn twice(
        mut self,
        first: oneshot::Sender<()>,
        limits: watch::Receiver<Limits>,
        metrics: &Metrics,
    ) {
        let asked = self.next().await;
        let (downloads, seconds) = (metrics.http.requests_in_flight(), limits.borrow().drain.as_secs());
        tracing::info!("{}", Farewell { asked, downloads, seconds });
        systemd::stopping();
        // Nobody waits for it when serving has ended by itself.
        let _ = first.send(());
        self.next().await;
    }
}

/// The line for the log at the first signal.
struct Farewell {
    asked: Asked,
    downloads: u64,
    seconds: u64,
}

impl fmt::Display for Farewell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, downloads, seconds } = self;
        let (what, again) = (
            if *downloads == 1 { "download" } else { "downloads" },
            match asked {
                Asked::Terminate => "a second signal stops at once",
                Asked::Interrupt => "press ctrl-C again to stop now",
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
        let said = |asked, downloads, seconds| Farewell { asked, downloads, seconds }.to_string();
        assert_eq!(said(Asked::Interrupt, 0, 30), "stopping");
        assert_eq!(said(Asked::Interrupt, 2, 0), "stopping");
        let waiting = "stopping: waiting up to 30 s for 2 downloads; press ctrl-C again to stop now";
        assert_eq!(said(Asked::Interrupt, 2, 30), waiting);
        let waiting = "stopping: waiting up to 30 s for 1 download; a second signal stops at once";
        assert_eq!(said(Asked::Terminate, 1, 30), waiting);
    }
}
