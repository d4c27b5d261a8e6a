//! Blocks of memory that files are read into, used again and again: one that was read into a moment ago is in the
//! processor's cache, and need not be cleared.

use std::mem;

use crate::sync::Mutex;

/// Bytes of a block.
pub(crate) const BUFFER_SIZE: usize = 128 << 10;
/// What is shorter has memory of its own, so that a short body does not hold a whole block.
const MIN_POOLED: usize = BUFFER_SIZE / 2;
/// Blocks that lie ready, for all caches together: 4 MiB.
const MAX_FREE: usize = 32;

static FREE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Memory to read into; what is in it at first is not told.
pub(crate) struct Buffer {
    memory: Vec<u8>,
    length: usize,
}

impl Buffer {
    /// One that has `length` bytes.
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
    fn a_block_has_the_length_that_is_asked_for_and_no_more_memory_than_that_or_a_whole_one() {
        for length in [0, 1, MIN_POOLED - 1, MIN_POOLED, BUFFER_SIZE - 1, BUFFER_SIZE, BUFFER_SIZE + 1] {
            for _ in 0..2 {
                let mut block = Buffer::new(length);
                block.as_mut().fill(7);
                assert_eq!(block.as_ref(), vec![7; length]);
                let expected = if (MIN_POOLED..=BUFFER_SIZE).contains(&length) { BUFFER_SIZE } else { length };
                assert_eq!(block.memory.len(), expected);
            }
        }
    }

    #[test]
    fn no_more_lie_ready_than_are_worth_it() {
        drop((0..2 * MAX_FREE).map(|_| Buffer::new(BUFFER_SIZE)).collect::<Vec<_>>());
        assert!(FREE.lock().len() <= MAX_FREE);
    }
}
