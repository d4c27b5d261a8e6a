//! A pool of buffers for reading files. A buffer that was used a moment ago is still in the processor's cache, and need not be
//! zeroed.

use std::mem;

use crate::sync::Mutex;

/// Size of a pooled buffer, in bytes.
pub(crate) const BUFFER_SIZE: usize = 128 << 10;
/// Smallest length that uses a pooled buffer: a shorter body does not hold a whole one.
const MIN_POOLED: usize = BUFFER_SIZE / 2;
/// Limit on unused buffers: 4 MiB.
const MAX_FREE: usize = 32;

static FREE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Memory to read into, of unspecified content. Returns to the pool on drop.
pub(crate) struct Buffer {
    memory: Vec<u8>,
    length: usize,
}

impl Buffer {
    /// Takes a buffer of `length` bytes from the pool, or allocates one.
    pub(crate) fn new(length: usize) -> Self {
        let free = (MIN_POOLED..=BUFFER_SIZE)
            .contains(&length)
            .then(|| FREE.lock().pop().unwrap_or_else(|| vec![0; BUFFER_SIZE]));
        Self { memory: free.unwrap_or_else(|| vec![0; length]), length }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.length]
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = FREE.lock();
        if self.memory.len() == BUFFER_SIZE && free.len() < MAX_FREE {
            free.push(mem::take(&mut self.memory));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_has_the_requested_length_and_at_most_the_memory_of_a_pooled_one() {
        for length in [0, 1, MIN_POOLED - 1, MIN_POOLED, BUFFER_SIZE - 1, BUFFER_SIZE, BUFFER_SIZE + 1] {
            for _ in 0..2 {
                let mut buffer = Buffer::new(length);
                buffer.as_mut().fill(7);
                assert_eq!(buffer.as_ref(), vec![7; length]);
                let expected = if (MIN_POOLED..=BUFFER_SIZE).contains(&length) { BUFFER_SIZE } else { length };
                assert_eq!(buffer.memory.len(), expected);
            }
        }
    }

    #[test]
    fn the_pool_is_bounded() {
        drop((0..2 * MAX_FREE).map(|_| Buffer::new(BUFFER_SIZE)).collect::<Vec<_>>());
        assert!(FREE.lock().len() <= MAX_FREE);
    }
}
