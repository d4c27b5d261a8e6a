//! Threads that encode, a NAR each, and of lower priority than what else runs on the machine, which may be builds.
//!
//! They are apart from the runtime's threads, whose priority is that of answers. A thread stays with its NAR to the end: the
//! tables of an encoder fill the processor's cache, and changing between three NARs after each megabyte took 8 % more
//! time. Owns how many there are: permits for memory, by turns of those who wait. Small NARs have permits apart from those
//! of large ones, so that they need not wait for the end of one.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::{getpriority_process, setpriority_process};
use tokio::sync::{mpsc, oneshot};

use super::encoding::{Encoding, FRAME_SIZE};
use super::frame_encoder::{CHUNK_SIZE, FrameEncoder};
use crate::config::EncodersConfig;
use crate::fairness::ClientId;
use crate::fairness::{FairSemaphore, Permit};
use crate::metrics::Metrics;
use crate::nar_cache::error::FillError;

/// NARs of up to this size are small, in bytes.
const SMALL: u64 = 4 << 20;
/// Sizes of NARs, in bytes, for which the memory of an encoder is measured; larger ones take no more than the last one,
/// since that is what a frame holds.
const MEASURED: [u64; 5] = [SMALL, 8 << 20, 32 << 20, 64 << 20, FRAME_SIZE];
/// NarChunks that are in memory beside an encoder: two that wait for it, one that is read, and what the last one came to.
const CHUNKS_IN_FLIGHT: usize = 4;
/// Small NARs for each thread that is configured: one is read while another is encoded.
const SMALL_EACH: usize = 2;
/// What the encoder of a small NAR takes at the levels that are used for caches, in MiB, with the units around it.
const SMALL_MEMORY: usize = 10;
/// What the encoder of a NAR of 32 MiB takes at those levels, in MiB.
const LARGE_MEMORY: usize = 40;
/// Memory is counted in these, in bytes.
const MIB: usize = 1 << 20;
/// Threads for which memory is planned: one encoder alone would wait for its daemon, and more than eight are no faster
/// than a network.
const PLANNED_THREADS: std::ops::RangeInclusive<usize> = 2..=8;

/// The threads of one cache.
#[derive(Debug)]
pub(crate) struct EncoderThreads {
    niceness: i32,
    /// Of an encoder for NARs of up to each of [`MEASURED`], in MiB.
    memory: [usize; MEASURED.len()],
    small: SizeClass,
    large: SizeClass,
    has_warned: AtomicBool,
}

/// NARs that share memory.
#[derive(Debug)]
struct SizeClass {
    permits: FairSemaphore,
    /// The least that a NAR takes, so that no more than are configured are encoded at one time.
    least: usize,
}

impl SizeClass {
    fn new(what: &'static str, threads: usize, memory: usize, metrics: &Metrics) -> Self {
        Self { permits: FairSemaphore::new(what, memory, metrics), least: memory / threads }
    }
}

impl EncoderThreads {
    /// None runs yet.
    pub(crate) fn new(settings: EncodersConfig, encoding: &Encoding, metrics: &Metrics) -> Self {
        let threads = settings.threads.max(1);
        let planned = threads.clamp(*PLANNED_THREADS.start(), *PLANNED_THREADS.end());
        let memory = MEASURED.map(|size| memory(encoding, size).div_ceil(MIB));
        let small = SMALL_EACH * SMALL_MEMORY * planned;
        let small = SizeClass::new("small_encoder_memory", SMALL_EACH * threads, small.max(memory[0]), metrics);
        let large = (LARGE_MEMORY * planned).max(memory[MEASURED.len() - 1]);
        let large = SizeClass::new("encoder_memory", threads, large, metrics);
        Self { niceness: settings.nice, memory, small, large, has_warned: AtomicBool::new(false) }
    }

    /// Waits for a thread and its memory for a NAR of `size` bytes, by the turn of whichever of the clients is first.
    pub(crate) async fn acquire(&self, size: u64, clients: mpsc::UnboundedReceiver<ClientId>) -> Permit {
        let (class, amount) = self.class(size);
        class.permits.acquire_for_any(clients, amount).await
    }

    fn class(&self, size: u64) -> (&SizeClass, usize) {
        let class = if size <= SMALL { &self.small } else { &self.large };
        let measured = MEASURED.iter().position(|most| size <= *most).unwrap_or(MEASURED.len() - 1);
        (class, self.memory[measured].max(class.least))
    }

    /// Runs `work` on a thread of its own, and keeps the permit until it has ended. The result comes later, or not at all
    /// if the work panics.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        permit: Permit,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, FillError> {
        let (sender, result) = oneshot::channel();
        let (niceness, is_first) = (self.niceness, !self.has_warned.swap(true, Ordering::Relaxed));
        let run = move || {
            if let Err(cause) = lower_priority(niceness) {
                // The others fail alike.
                if is_first {
                    tracing::warn!("cannot lower the priority of encoder threads: {cause}");
                }
            }
            let done = work();
            drop(permit);
            // Nobody may wait for it any more.
            drop(sender.send(done));
        };
        thread::Builder::new().name("encoder".to_owned()).spawn(run).map_err(|cause| FillError::encoder(&cause))?;
        Ok(result)
    }
}

/// The memory that an encoder of a NAR of `size` bytes takes, with the units around it, in bytes. The library says what it
/// has allocated, which is all of it once it has begun.
fn memory(encoding: &Encoding, size: u64) -> usize {
    let mut encoder = FrameEncoder::new(encoding.clone(), size);
    // One that cannot begin fails again where that is told.
    let _ = encoder.encode(&[0; 1]);
    encoder.memory() + CHUNKS_IN_FLIGHT * CHUNK_SIZE
}

/// Of this thread alone: that is what Linux takes the process 0 for.
fn lower_priority(niceness: i32) -> io::Result<()> {
    let now = getpriority_process(None)?;
    if niceness > now {
        setpriority_process(None, niceness)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ZstdConfig;

    fn encoding(level: i32) -> Encoding {
        Encoding::new(ZstdConfig { level, ..ZstdConfig::default() })
    }

    fn threads(threads: usize, niceness: i32) -> EncoderThreads {
        EncoderThreads::new(EncodersConfig { threads, nice: niceness }, &encoding(3), &Metrics::default())
    }

    async fn acquire(threads: &EncoderThreads, size: u64) -> Permit {
        let (sender, clients) = mpsc::unbounded_channel();
        sender.send(ClientId::Server).unwrap();
        threads.acquire(size, clients).await
    }

    #[tokio::test]
    async fn work_is_done_at_the_priority_that_is_asked_for() {
        let before = getpriority_process(None).unwrap();
        let niceness = before + 3;
        let threads = threads(1, niceness);
        let of_encoder = threads.spawn(acquire(&threads, 1).await, || getpriority_process(None)).unwrap();
        assert_eq!(of_encoder.await.unwrap().unwrap(), niceness);
        assert_eq!(getpriority_process(None).unwrap(), before);
    }

    /// Counted by what the library allocates: it had been estimated, which was right for low levels only.
    #[test]
    fn memory_is_what_the_library_takes_at_any_level() {
        let mib = |encoding: &Encoding, size| memory(encoding, size) >> 20;
        let by_size = MEASURED.map(|size| mib(&encoding(3), size));
        assert!(by_size.is_sorted() && by_size[0] <= SMALL_MEMORY && by_size[2] <= LARGE_MEMORY + 8, "{by_size:?}");
        assert!((64..96).contains(&by_size[4]), "{by_size:?}");
        let best = Encoding::new(ZstdConfig { level: 22, window_log: Some(27), ..ZstdConfig::default() });
        let largest = mib(&best, FRAME_SIZE);
        assert!((700..1000).contains(&largest), "{largest}");
        // And no more than one of them is encoded at a time, whatever number of threads there is.
        let threads = EncoderThreads::new(EncodersConfig { threads: 8, nice: 0 }, &best, &Metrics::default());
        let (class, amount) = threads.class(u64::MAX);
        let first = class.permits.try_acquire(ClientId::Server, amount);
        assert!(first.is_some() && class.permits.try_acquire(ClientId::Server, amount).is_none());
    }

    #[tokio::test]
    async fn as_many_large_nars_as_threads_and_twice_as_many_small_ones_are_encoded_at_a_time() {
        let threads = threads(3, 0);
        for (size, most) in [(SMALL, 6), (8 << 20, 3)] {
            let mut held = Vec::new();
            let (class, amount) = threads.class(size);
            while let Some(permit) = class.permits.try_acquire(ClientId::Server, amount) {
                held.push(permit);
            }
            assert_eq!(held.len(), most, "{size}");
        }
    }

    #[tokio::test]
    async fn a_panic_is_an_end_and_gives_its_permit_back() {
        let threads = threads(1, 0);
        let result = threads.spawn(acquire(&threads, u64::MAX).await, || -> () { panic!("on purpose") }).unwrap();
        assert!(result.await.is_err());
        drop(acquire(&threads, u64::MAX).await);
    }
}
