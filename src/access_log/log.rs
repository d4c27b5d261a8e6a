//! The queue of the access log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::error::AccessLogError;
use super::record::Record;
use super::writer::{Message, Settings, Writer, open};
use crate::config::AccessLogConfig;
use crate::metrics::Metrics;
use crate::sync::{LogThrottle, Mutex};

/// Records that may wait for the writer, of up to 2 KiB each.
const QUEUE: usize = 8192;
/// Time that the end of the program waits for unwritten records.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Queue of the access log. Recording a response never blocks.
#[derive(Debug)]
pub(crate) struct AccessLog {
    queue: mpsc::Sender<Message>,
    settings: Arc<Settings>,
    metrics: Arc<Metrics>,
    drop_warnings: LogThrottle<()>,
}

impl AccessLog {
    /// Opens the file and starts the writer thread.
    pub(crate) fn open(config: &AccessLogConfig, metrics: &Arc<Metrics>) -> Result<Arc<Self>, AccessLogError> {
        let settings = Settings { config: Mutex::new(config.clone()), generation: AtomicU64::new(0) };
        let settings = Arc::new(settings);
        let (queue, messages) = mpsc::channel(QUEUE);
        let writer = Writer::new(open(config)?, config.clone(), Arc::clone(&settings), Arc::clone(metrics));
        let thread = thread::Builder::new().name("access log".to_owned());
        thread.spawn(move || writer.write_all(messages)).map_err(AccessLogError::Start)?;
        Ok(Arc::new(Self { queue, settings, metrics: Arc::clone(metrics), drop_warnings: LogThrottle::default() }))
    }

    /// Checks that the file can be opened, and creates it like [`Self::open`].
    pub(crate) fn check(config: &AccessLogConfig) -> Result<(), AccessLogError> {
        open(config).map(drop)
    }

    /// Queues a record, or drops it if the queue is full. Never blocks.
    pub(crate) fn record(&self, record: Box<Record>) {
        if self.queue.try_send(Message::Record(record)).is_ok() {
            return;
        }
        self.metrics.http.record_dropped_log_lines(1);
        if let Some(more) = self.drop_warnings.admit(()) {
            tracing::warn!("dropped a line of the access log{more}: the queue is full");
        }
    }

    /// Reopens the file with this configuration, after all earlier records have been written.
    pub(crate) fn reopen(&self, config: &AccessLogConfig) {
        self.settings.config.lock().clone_from(config);
        self.settings.generation.fetch_add(1, Ordering::Release);
        // If the queue is full, the writer checks the settings before its next line.
        let _ = self.queue.try_send(Message::Reopen);
    }

    /// Waits until all earlier records have been written, for at most two seconds.
    pub(crate) async fn flush(&self) {
        let (done, is_done) = oneshot::channel();
        let flushed = async {
            if self.queue.send(Message::Flush(done)).await.is_ok() {
                let _ = is_done.await;
            }
        };
        if tokio::time::timeout(FLUSH_TIMEOUT, flushed).await.is_err() {
            tracing::warn!("lost the last lines of the access log: writing timed out after {FLUSH_TIMEOUT:?}");
        }
    }
}
