//! A progress bar on a terminal, and nothing elsewhere.

use indicatif::{ProgressBar, ProgressStyle};

/// Format of the bar, whose positions are bytes of NARs.
const TEMPLATE: &str = "{wide_bar} {bytes} of {total_bytes}, {msg}, {eta} left";

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

impl Bar {
    /// Counts one more NAR of `bytes` bytes as done.
    pub(super) fn done(&self, bytes: u64) {
        self.done.set(self.done.get() + 1);
        self.update();
        self.shown.inc(bytes);
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
