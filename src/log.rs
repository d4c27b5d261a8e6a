//! The operator's log: to standard error, one line per event.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The HTTP/2 library warns of what a client sends, a line for each frame if the client likes.
const DEFAULT: &str = "info,h2=error";

/// Starts logging at `info`, or as `RUST_LOG` says. Under systemd's journal the lines carry no time of their own.
pub fn start() {
    let chosen = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    let filter = filter.parse_lossy(if chosen.is_empty() { DEFAULT } else { &chosen });
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        builder.without_time().init();
    } else {
        builder.init();
    }
}
