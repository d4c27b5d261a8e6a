//! How the C library gives memory back.

/// Larger pieces are returned to the system when they are freed: the windows of encoders and decoders. By itself glibc
/// learns from the first one to keep them, in as many heaps as there are threads, which came to 400 MiB where less than
/// 100 are in use at any time. Up to that much is kept at the end of a heap, where glibc keeps 128 KiB: nearly every buffer
/// of a NAR was given back and taken anew, a sixth of the processor time of plain NARs.
#[cfg(target_env = "gnu")]
const RETURNED: libc::c_int = 8 << 20;
/// Heaps for all threads together.
#[cfg(target_env = "gnu")]
const HEAPS: libc::c_int = 2;

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
