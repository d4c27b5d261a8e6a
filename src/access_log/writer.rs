//! The thread that writes the access log, and waits for the disk where others must not.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{Mode, OFlags};
use tokio::sync::mpsc;

use super::{AccessLogError, Message, Settings};
use crate::config::AccessLogConfig;
use crate::metrics::Metrics;
use crate::sync::LogThrottle;

/// Bytes that are written at one time.
const BATCH: usize = 64 << 10;

/// Opens the file, or standard output. A pipe or socket that lies there is refused: it could keep the open waiting.
pub(super) fn open(config: &AccessLogConfig) -> Result<File, AccessLogError> {
    let Some(path) = &config.file else {
        return io::stdout().as_fd().try_clone_to_owned().map(File::from).map_err(AccessLogError::Begin);
    };
    let failed = |cause| AccessLogError::Open { path: path.clone(), cause };
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o640)).map_err(|errno| failed(errno.into()))?;
    let file = File::from(file);
    let kind = file.metadata().map_err(failed)?.file_type();
    if kind.is_file() || std::os::unix::fs::FileTypeExt::is_char_device(&kind) {
        Ok(file)
    } else {
        Err(failed(io::Error::other("it is neither a file nor a device")))
    }
}

pub(super) struct Writer {
    file: File,
    config: AccessLogConfig,
    settings: Arc<Settings>,
    /// Of the settings in use.
    generation: u64,
    buffer: Vec<u8>,
    /// In the buffer.
    lines: u64,
    /// Whether the end of a line may be missing, because the last write failed.
    is_torn: bool,
    metrics: Arc<Metrics>,
    failures: LogThrottle<()>,
}

impl Writer {
    pub(super) fn new(file: File, config: AccessLogConfig, settings: Arc<Settings>, metrics: Arc<Metrics>) -> Self {
        let (buffer, failures) = (Vec::with_capacity(BATCH), LogThrottle::default());
        Self { file, config, settings, generation: 0, buffer, lines: 0, is_torn: false, metrics, failures }
    }

    /// Writes until nobody can send any more. What came together is written together.
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
                // Nobody waits any more, perhaps.
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
            Err(error) => tracing::error!("the access log in use stays: {error}"),
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
            if let Some(more) = self.failures.admit(()) {
                let lines = self.lines;
                tracing::warn!("{lines} lines of the access log are lost{more}: it cannot be written: {cause}");
            }
        }
        self.buffer.clear();
        self.lines = 0;
    }
}
