//! Sets up the log and the panic hook.

use std::io::{self, IsTerminal, Write as _};
use std::panic::PanicHookInfo;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::escape::{EscapingWriter, escape_controls};
use super::filter::Filter;
use super::recent::RecentLines;
use crate::sync::LogThrottle;

/// Starts logging, panics included, at level `info` or as `RUST_LOG` says. Lines for systemd's journal have no timestamp.
///
/// Errors are logged unless the filter is `off`. Invalid parts of the filter cause a warning and the level `info` for all else.
///
/// Returns the last errors and warnings, which are updated from then on.
#[must_use]
pub(crate) fn start() -> RecentLines {
    let chosen = std::env::var_os(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let Filter { directives, unknown } = Filter::parse(&chosen.to_string_lossy());
    let filter = directives.into_iter().fold(EnvFilter::default(), EnvFilter::add_directive);
    let is_terminal = io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || EscapingWriter { is_terminal })
        .with_ansi(is_terminal)
        .with_target(false);
    let recent = RecentLines::default();
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        builder.without_time().finish().with(recent.clone()).init();
    } else {
        builder.finish().with(recent.clone()).init();
    }
    // Repeated panics at one place are throttled.
    let panics = LogThrottle::default();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        if let Some(more) = panics.admit(place.clone()) {
            tracing::error!("panicked at {place}{more}: {}", message(panic));
        }
    }));
    for part in unknown {
        tracing::warn!(
            "RUST_LOG: {part:?} is neither a level nor a filter\n  help: use one of error, warn, info, debug, trace and off, or a filter such as \"info,harmonia=debug\""
        );
    }
    recent
}

/// Logs the error that ends the program, even if the filter turns errors off.
pub(crate) fn fatal(error: &dyn std::fmt::Display) {
    if tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!("{error}");
    } else {
        // There is nowhere else to report a failure.
        let _ = writeln!(io::stderr(), "{}", escape_controls(&format!("ERROR {error}")));
    }
}

fn message<'p>(panic: &'p PanicHookInfo<'_>) -> &'p str {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
