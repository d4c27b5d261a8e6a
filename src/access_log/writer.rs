//! The thread that writes the access log, the only one that waits for the disk.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::error::AccessLogError;
use super::record::Record;
use crate::config::AccessLogConfig;
use crate::log_lines;
use crate::metrics::Metrics;
use crate::sync::{LogThrottle, Mutex};

/// Bytes that are collected before a write.
const BATCH: usize = 64 << 10;

/// Opens the file, or standard output.
pub(super) fn open(config: &AccessLogConfig) -> Result<File, AccessLogError> {
    let Some(path) = &config.file else {
        return io::stdout().as_fd().try_clone_to_owned().map(File::from).map_err(AccessLogError::Start);
    };
    log_lines::open(path).map_err(|cause| AccessLogError::Open { path: path.clone(), cause })
}

pub(super) enum Message {
    Record(Box<Record>),
    /// The settings have changed.
    Reopen,
    /// All earlier records have to be written.
    Flush(oneshot::Sender<()>),
}

/// Settings of the writer thread that can change.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) config: Mutex<AccessLogConfig>,
    /// Number of changes.
    pub(super) generation: AtomicU64,
}

/// The writer thread.
pub(super) struct Writer {
    file: File,
    config: AccessLogConfig,
    settings: Arc<Settings>,
    /// Generation of the settings in use.
    generation: u64,
    buffer: Vec<u8>,
    /// Number of lines in the buffer.
    lines: u64,
    /// Whether the last write failed, so that its last line may be incomplete.
    is_torn: bool,
    metrics: Arc<Metrics>,
    write_errors: LogThrottle<()>,
}

impl Writer {
    pub(super) fn new(file: File, config: AccessLogConfig, settings: Arc<Settings>, metrics: Arc<Metrics>) -> Self {
        let (buffer, write_errors) = (Vec::with_capacity(BATCH), LogThrottle::default());
        Self { file, config, settings, generation: 0, buffer, lines: 0, is_torn: false, metrics, write_errors }
    }

    /// Writes until all senders are gone. Records that arrive together are written together.
    pub(super) fn write_all(mut self, mut messages: mpsc::Receiver<Message>) {
        while let Some(first) = messages.blocking_recv() {
            let mut next = Some(first);
            while let Some(message) = next {
                self.take(message);
                next = messages.try_recv().ok();
            }
            self.flush();
        }
    }

    fn take(&mut self, message: Message) {
        if self.settings.generation.load(Ordering::Acquire) != self.generation {
            self.flush();
            self.reopen();
        }
        match message {
            Message::Record(record) => {
                record.write(self.config.format, &mut self.buffer);
                self.lines += 1;
                if self.buffer.len() >= BATCH {
                    self.flush();
                }
            }
            Message::Reopen => {}
            Message::Flush(done) => {
                self.flush();
                // The receiver may have timed out.
                let _ = done.send(());
            }
        }
    }

    fn reopen(&mut self) {
        self.generation = self.settings.generation.load(Ordering::Acquire);
        let config = self.settings.config.lock().clone();
        self.config.format = config.format;
        match open(&config) {
            Ok(file) => {
                (self.file, self.config, self.is_torn) = (file, config, false);
                tracing::info!("reopened the access log");
            }
            Err(error) => tracing::error!("reopening failed, keeping the current access log: {error}"),
        }
    }

    fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let separator: &[u8] = if self.is_torn { b"\n" } else { b"" };
        let written = self.file.write_all(separator).and_then(|()| self.file.write_all(&self.buffer));
        self.is_torn = written.is_err();
        if let Err(cause) = written {
            self.metrics.http.record_dropped_log_lines(self.lines);
            if let Some(more) = self.write_errors.admit(()) {
                let lines = self.lines;
                tracing::warn!("lost {lines} lines of the access log{more}: {cause}");
            }
        }
        self.buffer.clear();
        self.lines = 0;
    }
}
