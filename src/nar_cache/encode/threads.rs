//! Threads that encode, one for each NAR, with a lower priority than the rest of the machine.
//!
//! They are separate from the runtime's threads, which keep their priority for responses. A thread encodes its NAR to the end:
//! an encoder's tables fill the processor's cache, and switching between three NARs after each megabyte took 8 % more time.
//! Limits their number by memory, fairly among clients. Small NARs have memory of their own, so that they need not wait for a
//! large one to end.

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

/// Size up to which a NAR is small, in bytes.
const SMALL_NAR: u64 = 4 << 20;
/// Sizes of NARs, in bytes, for which an encoder's memory is measured. Larger ones take no more than the last, which is the size
/// of a frame.
const MEASURED_SIZES: [u64; 5] = [SMALL_NAR, 8 << 20, 32 << 20, 64 << 20, FRAME_SIZE];
/// Chunks in memory beside an encoder: two in its queue, one being read, and the output of the last.
const CHUNKS_IN_FLIGHT: usize = 4;
/// Small NARs at one time for each configured thread: one is read while another is encoded.
const SMALL_PER_THREAD: usize = 2;
/// Memory of a small NAR's encoder and chunks at the usual levels, in MiB.
const SMALL_MEMORY: usize = 10;
/// Memory of the encoder of a NAR of 32 MiB at the usual levels, in MiB.
const LARGE_MEMORY: usize = 40;
/// Unit of the semaphores, in bytes.
const MIB: usize = 1 << 20;
/// Number of threads for which memory is provided: a single encoder would wait for nix-daemon, and more than eight are no faster
/// than a network.
const PLANNED_THREADS: std::ops::RangeInclusive<usize> = 2..=8;

/// The encoder threads of one cache.
#[derive(Debug)]
pub(crate) struct EncoderThreads {
    niceness: i32,
    /// Memory of an encoder for NARs of up to each of [`MEASURED_SIZES`], in MiB.
    memory: [usize; MEASURED_SIZES.len()],
    small: SizeClass,
    large: SizeClass,
    has_warned: AtomicBool,
}

/// A memory limit that NARs of similar size share.
#[derive(Debug)]
struct SizeClass {
    permits: FairSemaphore,
    /// Least memory that counts for a NAR, so that no more are encoded at one time than configured.
    min_memory: usize,
}

impl SizeClass {
    fn new(what: &'static str, threads: usize, memory: usize, metrics: &Metrics) -> Self {
        Self { permits: FairSemaphore::new(what, memory, metrics), min_memory: memory / threads }
    }
}

impl EncoderThreads {
    /// Measures the encoding's memory. Starts no thread.
    pub(crate) fn new(settings: EncodersConfig, encoding: &Encoding, metrics: &Metrics) -> Self {
        let threads = settings.threads.max(1);
        let planned = threads.clamp(*PLANNED_THREADS.start(), *PLANNED_THREADS.end());
        let memory = MEASURED_SIZES.map(|size| measure_memory(encoding, size).div_ceil(MIB));
        let small = SMALL_PER_THREAD * SMALL_MEMORY * planned;
        let small = SizeClass::new("small_encoder_memory", SMALL_PER_THREAD * threads, small.max(memory[0]), metrics);
        let large = (LARGE_MEMORY * planned).max(memory[MEASURED_SIZES.len() - 1]);
        let large = SizeClass::new("encoder_memory", threads, large, metrics);
        Self { niceness: settings.nice, memory, small, large, has_warned: AtomicBool::new(false) }
    }

    /// Waits for memory for a NAR of `size` bytes, in the turn of whichever of the clients is first.
    pub(crate) async fn acquire(&self, size: u64, clients: mpsc::UnboundedReceiver<ClientId>) -> Permit {
        let (class, amount) = self.class(size);
        class.permits.acquire_for_any(clients, amount).await
    }

    fn class(&self, size: u64) -> (&SizeClass, usize) {
        let class = if size <= SMALL_NAR { &self.small } else { &self.large };
        let measured = MEASURED_SIZES.iter().position(|most| size <= *most).unwrap_or(MEASURED_SIZES.len() - 1);
        (class, self.memory[measured].max(class.min_memory))
    }

    /// Runs `work` on a new thread, which holds the permit until it ends. The receiver gets the result, or an error if `work`
    /// panics.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        permit: Permit,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, FillError> {
        let (sender, result) = oneshot::channel();
        let (niceness, is_first) = (self.niceness, !self.has_warned.swap(true, Ordering::Relaxed));
        let run = move || {
            if let Err(cause) = lower_priority(niceness) {
                // It fails on the other threads too.
                if is_first {
                    tracing::warn!("cannot lower the priority of encoder threads: {cause}");
                }
            }
            let done = work();
            drop(permit);
            // The receiver may be gone.
            drop(sender.send(done));
        };
        thread::Builder::new().name("encoder".to_owned()).spawn(run).map_err(|cause| FillError::encoder(&cause))?;
        Ok(result)
    }
}

/// Measures the memory of an encoder and chunks for a NAR of `size` bytes, in bytes. libzstd reports what it has allocated, which
/// is everything once encoding has started.
fn measure_memory(encoding: &Encoding, size: u64) -> usize {
    let mut encoder = FrameEncoder::new(encoding.clone(), size);
    // An error recurs when a NAR is encoded, and is reported then.
    let _ = encoder.encode(&[0; 1]);
    encoder.memory() + CHUNKS_IN_FLIGHT * CHUNK_SIZE
}

/// Raises the nice value of the current thread: on Linux, process 0 means that.
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

    /// Reported by the library: an estimate was right for low levels only.
    #[test]
    fn memory_is_what_the_library_takes_at_any_level() {
        let mib = |encoding: &Encoding, size| measure_memory(encoding, size) >> 20;
        let by_size = MEASURED_SIZES.map(|size| mib(&encoding(3), size));
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
        for (size, most) in [(SMALL_NAR, 6), (8 << 20, 3)] {
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
