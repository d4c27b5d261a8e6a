//! Tunes malloc, so that freed memory is returned to the system.

/// Allocations above this size are returned to the system when freed: the windows of encoders and decoders. By default glibc
/// raises its threshold after the first one and keeps them, in as many arenas as there are threads, which came to 400 MiB
/// with less than 100 MiB in use. Up to this much is kept at the top of an arena. glibc's default of 128 KiB returned and
/// requested nearly every buffer of a NAR, a sixth of the CPU time of plain NARs.
#[cfg(target_env = "gnu")]
const TRIM_THRESHOLD: libc::c_int = 8 << 20;
/// Arenas for all threads together. With two, worker threads waited for each other: 9.8 instead of 8.8 µs of CPU time for a
/// narinfo, with 16 connections on two processors.
#[cfg(target_env = "gnu")]
const MAX_ARENAS: libc::c_int = 4;

/// Interval at which free memory is returned. 2,400 connections left 120 MiB of it, fragmented.
#[cfg(target_env = "gnu")]
const INTERVAL: std::time::Duration = std::time::Duration::from_secs(15);

/// Sets the thresholds. Must be called before threads are started.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "there is no safe form of mallopt, and the encoder allocates with malloc")]
pub(crate) fn tune() {
    // SAFETY: this only sets parameters of the allocator, and no other thread runs yet. Failure is harmless.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, TRIM_THRESHOLD);
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD);
        libc::mallopt(libc::M_ARENA_MAX, MAX_ARENAS);
    }
}

/// Does nothing: other C libraries return memory by themselves.
#[cfg(not(target_env = "gnu"))]
pub const fn tune() {}

/// Returns free memory to the system periodically, without end.
#[cfg(target_env = "gnu")]
pub(crate) async fn trim_periodically() {
    loop {
        tokio::time::sleep(INTERVAL).await;
        // This fails only when the program ends.
        let _ = tokio::task::spawn_blocking(trim).await;
    }
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "there is no safe form of malloc_trim")]
fn trim() {
    // SAFETY: malloc_trim takes the allocator's locks and touches only free memory.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Never returns: other C libraries return memory by themselves.
#[cfg(not(target_env = "gnu"))]
pub async fn trim_periodically() {
    std::future::pending().await
}
