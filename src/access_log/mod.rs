//! The access log: a line for each response, to a file or to standard output, which is the journal for a service.
//!
//! Owns the queue between responses and the thread that writes. Nobody waits for the disk: a queue that is full drops
//! lines, counts them and says so. What a line holds is for [`Record`].

mod record;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

pub use record::{MAX_REQUEST_ID, Record};

use crate::config::AccessLogConfig;
use crate::metrics::Metrics;
use crate::sync::LogThrottle;
use crate::sync::Mutex;
use writer::{Writer, open};

/// Lines that may wait for the disk, of up to 2 KiB each.
const QUEUE: usize = 8192;
/// Time that the program's end waits for lines that are not written yet.
const LAST_LINES: Duration = Duration::from_secs(2);

/// A reason why the access log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// The file cannot be opened.
    #[error(
        "cannot open the access log {}: {cause}\n  help: its directory must exist, and the user that harmonia runs as must be able to write to it",
        .path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        cause: io::Error,
    },
    /// Standard output is closed, or there is no thread to be had.
    #[error("cannot begin the access log: {0}")]
    Begin(io::Error),
}

enum Message {
    Record(Box<Record>),
    /// The settings are to be looked at.
    Reopen,
    /// All that came before is to be written.
    Flush(oneshot::Sender<()>),
}

/// Settings that can change, for the thread that writes.
#[derive(Debug)]
struct Settings {
    config: Mutex<AccessLogConfig>,
    /// The number of times that they were set.
    generation: AtomicU64,
}

/// The access log, as responses see it: a queue that never makes them wait.
#[derive(Debug)]
pub struct AccessLog {
    queue: mpsc::Sender<Message>,
    settings: Arc<Settings>,
    metrics: Arc<Metrics>,
    drops: LogThrottle<()>,
}

impl AccessLog {
    /// Opens the file, and begins the thread that writes.
    pub fn open(config: &AccessLogConfig, metrics: &Arc<Metrics>) -> Result<Arc<Self>, AccessLogError> {
        let settings = Settings { config: Mutex::new(config.clone()), generation: AtomicU64::new(0) };
        let settings = Arc::new(settings);
        let (queue, messages) = mpsc::channel(QUEUE);
        let writer = Writer::new(open(config)?, config.clone(), Arc::clone(&settings), Arc::clone(metrics));
        let thread = thread::Builder::new().name("access log".to_owned());
        thread.spawn(move || writer.write_all(messages)).map_err(AccessLogError::Begin)?;
        Ok(Arc::new(Self { queue, settings, metrics: Arc::clone(metrics), drops: LogThrottle::default() }))
    }

    /// Tells whether a file could be opened, as [`Self::open`] does; creates it.
    pub fn check(config: &AccessLogConfig) -> Result<(), AccessLogError> {
        open(config).map(drop)
    }

    /// Enters a response. Never waits.
    pub fn enter(&self, record: Box<Record>) {
        if self.queue.try_send(Message::Record(record)).is_ok() {
            return;
        }
        self.metrics.http.record_dropped_log_lines(1);
        if let Some(more) = self.drops.admit(()) {
            tracing::warn!("a line of the access log is dropped{more}: more come than are written");
        }
    }

    /// Opens the file anew, as this configuration says, once what was entered before is written.
    pub fn reopen(&self, config: &AccessLogConfig) {
        self.settings.config.lock().clone_from(config);
        self.settings.generation.fetch_add(1, Ordering::Release);
        // Where the queue is full the writer looks before its next line.
        let _ = self.queue.try_send(Message::Reopen);
    }

    /// Waits until all lines are written that were entered before, for two seconds at the most.
    pub async fn flush(&self) {
        let (done, is_done) = oneshot::channel();
        let flushed = async {
            if self.queue.send(Message::Flush(done)).await.is_ok() {
                let _ = is_done.await;
            }
        };
        if tokio::time::timeout(LAST_LINES, flushed).await.is_err() {
            tracing::warn!("the last lines of the access log are lost: it was not written within {LAST_LINES:?}");
        }
    }
}
