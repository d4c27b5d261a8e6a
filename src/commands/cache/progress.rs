//! Progress of a command for people: a bar on a terminal, and nothing elsewhere.

use indicatif::{ProgressBar, ProgressStyle};

/// Of a bar in bytes of NARs.
const TEMPLATE: &str = "{wide_bar} {bytes} of {total_bytes}, {msg}, {eta} left";

/// A bar, which goes with the value.
pub(super) struct Bar {
    shown: ProgressBar,
    done: std::cell::Cell<usize>,
    all: usize,
}

/// Begins a bar for so many NARs of so many bytes together.
pub(super) fn bar(all: usize, bytes: u64) -> Bar {
    let bar = ProgressBar::new(bytes);
    if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
        bar.set_style(style);
    }
    let bar = Bar { shown: bar, done: std::cell::Cell::new(0), all };
    bar.tell();
    bar
}

impl Bar {
    /// One more NAR is done, of so many bytes.
    pub(super) fn done(&self, bytes: u64) {
        self.done.set(self.done.get() + 1);
        self.tell();
        self.shown.inc(bytes);
    }

    fn tell(&self) {
        self.shown.set_message(format!("{} of {} nars", self.done.get(), self.all));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.shown.finish_and_clear();
    }
}
