//! How the C library gives memory back.

/// Larger pieces are returned to the system when they are freed: the windows of encoders and decoders. By itself glibc
/// learns from the first one to keep them, in as many heaps as there are threads, which came to 400 MiB where less than
/// 100 are in use at any time. Up to that much is kept at the end of a heap, where glibc keeps 128 KiB: nearly every buffer
/// of a NAR was given back and taken anew, a sixth of the processor time of plain NARs.
#[cfg(target_env = "gnu")]
const RETURNED: libc::c_int = 8 << 20;
/// Heaps for all threads together. With two the threads that serve waited for each other's: 9.8 instead of 8.8 µs of
/// processor time for a narinfo, over 16 connections on two processors.
#[cfg(target_env = "gnu")]
const HEAPS: libc::c_int = 4;

/// How often what is free is returned. A crowd of 2,400 connections left 120 MiB of it, in pieces between what is in use.
#[cfg(target_env = "gnu")]
const INTERVAL: std::time::Duration = std::time::Duration::from_secs(15);

/// Bounds what is kept. To be called before there are threads.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "mallopt has no other form, and the encoder takes its memory from malloc")]
pub fn bound() {
    // SAFETY: it only sets parameters of the allocator, and no other thread runs yet. That it fails does no harm.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, RETURNED);
        libc::mallopt(libc::M_TRIM_THRESHOLD, RETURNED);
        libc::mallopt(libc::M_ARENA_MAX, HEAPS);
    }
}

/// Other C libraries return them by themselves.
#[cfg(not(target_env = "gnu"))]
pub const fn bound() {}

/// Returns what is free to the system now and then, without an end.
#[cfg(target_env = "gnu")]
pub async fn give_back() {
    loop {
        tokio::time::sleep(INTERVAL).await;
        // It ends early only with the program.
        let _ = tokio::task::spawn_blocking(trim).await;
    }
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "malloc_trim has no other form")]
fn trim() {
    // SAFETY: it takes the allocator's own locks, and touches only what is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other C libraries return it by themselves.
#[cfg(not(target_env = "gnu"))]
pub async fn give_back() {
    std::future::pending().await
}
