//! The thread that writes the audit log, the only one that waits for its disk.
//!
//! Lines that cannot be written are kept for the next attempt if requests are refused meanwhile, so that no line is lost; else
//! they are dropped and counted.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::coalesce::{Coalescer, Collected};
use super::error::AuditLogError;
use super::event::{Event, Kind};
use super::line;
use super::shared::Shared;
use crate::config::{AuditConfig, OnFailure};
use crate::log_lines;
use crate::sync::LogThrottle;

/// Bytes that are collected before a write, and kept while writing fails.
const BATCH: usize = 64 << 10;
/// Time between two attempts to write, and between two looks at lines that are collected.
const INTERVAL: Duration = Duration::from_secs(1);
/// Time between two looks while there is nothing to do.
const IDLE_INTERVAL: Duration = Duration::from_secs(60 * 60);

pub(super) enum Message {
    Event(Box<Event>),
    /// Writing failed: try again.
    Retry,
    /// Everything has to be written; the reply is whether it was.
    Flush(oneshot::Sender<bool>),
}

/// Where lines go.
#[derive(Debug)]
pub(super) enum Sink {
    File(File),
    /// The log of the program, which is the journal for a service.
    ProgramLog,
}

impl Sink {
    pub(super) fn open(config: &AuditConfig) -> Result<Self, AuditLogError> {
        let Some(path) = &config.file else { return Ok(Self::ProgramLog) };
        log_lines::open(path).map(Self::File).map_err(|cause| AuditLogError::Open { path: path.clone(), cause })
    }

    /// Returns whether the file ends in an incomplete line, as far as this user may read it.
    fn is_torn(config: &AuditConfig) -> bool {
        let last_byte = |path| {
            // Opening what is no file may block.
            fs::metadata(path).ok().filter(|metadata| metadata.is_file() && metadata.len() > 0)?;
            let (mut file, mut last) = (File::open(path).ok()?, [0]);
            file.seek(SeekFrom::End(-1)).and_then(|_| file.read_exact(&mut last)).ok()?;
            Some(last[0])
        };
        config.file.as_deref().and_then(last_byte).is_some_and(|byte| byte != b'\n')
    }
}

/// The writer thread.
pub(super) struct Writer {
    sink: Sink,
    shared: Arc<Shared>,
    /// Generation of the configuration in use.
    generation: u64,
    coalescer: Coalescer,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are written.
    written: usize,
    /// Whether the file ends in an incomplete line, which was given up or left by an earlier process.
    is_torn: bool,
    is_failing: bool,
    write_errors: LogThrottle<()>,
}

impl Writer {
    pub(super) fn new(sink: Sink, shared: Arc<Shared>) -> Self {
        let is_torn = Sink::is_torn(&shared.config.lock());
        Self {
            sink,
            shared,
            generation: 0,
            coalescer: Coalescer::default(),
            buffer: Vec::with_capacity(BATCH),
            written: 0,
            is_torn,
            is_failing: false,
            write_errors: LogThrottle::default(),
        }
    }

    /// Writes until all senders are gone. Events that arrive together are written together.
    pub(super) fn run(mut self, queue: &Receiver<Message>) {
        loop {
            let first = if self.is_blocked() {
                thread::sleep(INTERVAL);
                None
            } else {
                let is_idle = self.coalescer.is_empty() && !self.is_failing;
                match queue.recv_timeout(if is_idle { IDLE_INTERVAL } else { INTERVAL }) {
                    Ok(message) => Some(message),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            };
            let mut flushes = Vec::new();
            self.take_all(first, queue, &mut flushes);
            while !self.is_blocked() {
                let Some(line) = self.coalescer.take_expired(Instant::now()) else { break };
                self.append(&line);
            }
            let is_written = self.flush();
            for done in flushes {
                // The receiver may have timed out.
                let _ = done.send(is_written);
            }
        }
    }

    fn take_all(
        &mut self,
        first: Option<Message>,
        queue: &Receiver<Message>,
        flushes: &mut Vec<oneshot::Sender<bool>>,
    ) {
        let mut next = first;
        loop {
            if self.shared.generation.load(Ordering::Acquire) != self.generation {
                self.flush();
                self.reopen();
            }
            match next {
                Some(Message::Event(event)) => self.take(*event),
                Some(Message::Retry) => {}
                Some(Message::Flush(done)) => {
                    self.append_all();
                    flushes.push(done);
                }
                None => return,
            }
            if self.buffer.len() >= BATCH && !self.flush() && self.is_blocked() {
                return;
            }
            next = queue.try_recv().ok();
        }
    }

    /// Returns whether no more lines are taken until those in the buffer can be written.
    fn is_blocked(&self) -> bool {
        self.is_failing && self.buffer.len() >= BATCH
    }

    fn take(&mut self, event: Event) {
        if !Coalescer::collects(event.kind) {
            if matches!(event.kind, Kind::Stop) {
                self.append_all();
            }
            return line::write(&event, None, &mut self.buffer);
        }
        if let Some(oldest) = self.coalescer.add(event, Instant::now()) {
            self.append(&oldest);
        }
    }

    /// Appends all lines that would wait for more requests.
    fn append_all(&mut self) {
        while let Some(line) = self.coalescer.take_oldest() {
            self.append(&line);
        }
    }

    fn append(&mut self, Collected { event, repeats, .. }: &Collected) {
        line::write(event, (repeats.count > 1).then_some(*repeats), &mut self.buffer);
    }

    fn reopen(&mut self) {
        self.generation = self.shared.generation.load(Ordering::Acquire);
        let config = self.shared.config.lock().clone();
        match Sink::open(&config) {
            Ok(sink) => {
                self.sink = sink;
                self.is_torn = Sink::is_torn(&config);
                // The new file gets the whole line of which the old one has the start.
                let whole = self.buffer[..self.written].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                self.buffer.drain(..whole);
                self.written = 0;
                tracing::info!("reopened the audit log");
            }
            Err(error) => tracing::error!("reopening failed, keeping the current audit log: {error}"),
        }
    }

    /// Writes what is in the buffer, and returns whether all of it is written.
    fn flush(&mut self) -> bool {
        match self.write() {
            Ok(()) => {
                self.buffer.clear();
                self.written = 0;
                if self.is_failing {
                    tracing::info!("the audit log is written again");
                }
                self.is_failing = false;
                self.shared.set_failing(false);
                true
            }
            Err(cause) => {
                self.is_failing = true;
                self.shared.set_failing(true);
                self.failed(&cause);
                false
            }
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let lines = &self.buffer[self.written..];
        if lines.is_empty() {
            return Ok(());
        }
        let file = match &mut self.sink {
            Sink::File(file) => file,
            Sink::ProgramLog => {
                for line in String::from_utf8_lossy(lines).lines() {
                    tracing::info!(target: "audit", "{line}");
                }
                return Ok(());
            }
        };
        if self.is_torn {
            file.write_all(b"\n")?;
            self.is_torn = false;
        }
        while self.written < self.buffer.len() {
            match file.write(&self.buffer[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => self.written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Logs a failure, and drops the lines in the buffer unless requests are refused meanwhile.
    fn failed(&mut self, cause: &io::Error) {
        let more = self.write_errors.admit(());
        if self.shared.config.lock().on_failure == OnFailure::Refuse {
            if let Some(more) = more {
                tracing::error!(
                    "cannot write the audit log{more}: {cause}; requests that it would have to record are answered 503\n  help: \
                     free space for it, or set audit.on_failure = \"warn\""
                );
            }
            return;
        }
        let lost = self.buffer[self.written..].split(|byte| *byte == b'\n').count().saturating_sub(1);
        self.shared.metrics.audit_log.record_dropped(lost as u64);
        if let Some(more) = more {
            tracing::error!("lost {lost} lines of the audit log{more}: {cause}");
        }
        self.is_torn |= self.buffer[..self.written].last().is_some_and(|byte| *byte != b'\n');
        self.buffer.clear();
        self.written = 0;
    }
}
