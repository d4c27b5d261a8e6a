//! Progress bars on a terminal, and nothing elsewhere.

use indicatif::{ProgressBar, ProgressStyle};

/// Format of the bar, whose positions are bytes of NARs.
const TEMPLATE: &str = "{wide_bar} {bytes} of {total_bytes}, {msg}, {eta} left";
/// Format of a counter.
#[cfg(feature = "bucket")]
const COUNTER: &str = "{wide_bar} {pos} of {len} {msg}, {eta} left";

/// A progress bar that disappears when it is dropped.
pub(super) struct Bar {
    shown: ProgressBar,
    done: std::cell::Cell<usize>,
    all: usize,
}

/// Shows a bar for `all` NARs of `bytes` bytes together.
pub(super) fn bar(all: usize, bytes: u64) -> Bar {
    let bar = ProgressBar::new(bytes);
    if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
        bar.set_style(style);
    }
    let bar = Bar { shown: bar, done: std::cell::Cell::new(0), all };
    bar.update();
    bar
}

/// A progress bar of things without a size, which disappears when it is dropped.
#[cfg(feature = "bucket")]
pub(super) struct Counter(ProgressBar);

/// Shows a bar for so many things of this name.
#[cfg(feature = "bucket")]
pub(super) fn counter(all: usize, noun: &'static str) -> Counter {
    let bar = ProgressBar::new(all as u64).with_message(noun);
    if let Ok(style) = ProgressStyle::with_template(COUNTER) {
        bar.set_style(style);
    }
    Counter(bar)
}

#[cfg(feature = "bucket")]
impl Counter {
    /// Counts one more as done.
    pub(super) fn done(&self) {
        self.0.inc(1);
    }

    /// Counts one more to do.
    pub(super) fn more(&self) {
        self.0.inc_length(1);
    }
}

#[cfg(feature = "bucket")]
impl Drop for Counter {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl Bar {
    /// Counts one more NAR of `bytes` bytes as done.
    pub(super) fn done(&self, bytes: u64) {
        self.done.set(self.done.get() + 1);
        self.update();
        self.shown.inc(bytes);
    }

    /// Sets all of it anew: NARs that are done and all, and their bytes.
    #[cfg(feature = "bucket")]
    pub(super) fn set(&self, done: u64, all: u64, bytes_done: u64, bytes: u64) {
        self.shown.set_length(bytes);
        self.shown.set_position(bytes_done);
        self.shown.set_message(format!("{done} of {all} NARs"));
    }

    fn update(&self) {
        self.shown.set_message(format!("{} of {} NARs", self.done.get(), self.all));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.shown.finish_and_clear();
    }
}
