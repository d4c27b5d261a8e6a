//! Blocks of memory that files are read into, used again and again: one that was read into a moment ago is in the
//! processor's cache, and need not be cleared.

use std::mem;
use std::sync::MutexGuard;

use crate::sync::Mutex;

/// Bytes of a block.
pub(super) const WHOLE: usize = 128 << 10;
/// What is shorter has memory of its own, so that a short body does not hold a whole block.
const LEAST: usize = WHOLE / 2;
/// Blocks that lie ready, for all caches together: 4 MiB.
const MAX_FREE: usize = 32;

static FREE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Memory to read into; what is in it at first is not told.
pub(super) struct Block {
    memory: Vec<u8>,
    length: usize,
}

impl Block {
    /// One that has `length` bytes.
    pub(super) fn new(length: usize) -> Self {
        let free = (LEAST..=WHOLE).contains(&length).then(|| free().pop().unwrap_or_else(|| vec![0; WHOLE]));
        Self { memory: free.unwrap_or_else(|| vec![0; length]), length }
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.length]
    }
}

impl AsMut<[u8]> for Block {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.length]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut free = free();
        if self.memory.len() == WHOLE && free.len() < MAX_FREE {
            free.push(mem::take(&mut self.memory));
        }
    }
}

fn free() -> MutexGuard<'static, Vec<Vec<u8>>> {
    FREE.lock()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_the_length_that_is_asked_for_and_no_more_memory_than_that_or_a_whole_one() {
        for length in [0, 1, LEAST - 1, LEAST, WHOLE - 1, WHOLE, WHOLE + 1] {
            for _ in 0..2 {
                let mut block = Block::new(length);
                block.as_mut().fill(7);
                assert_eq!(block.as_ref(), vec![7; length]);
                let expected = if (LEAST..=WHOLE).contains(&length) { WHOLE } else { length };
                assert_eq!(block.memory.len(), expected);
            }
        }
    }

    #[test]
    fn no_more_lie_ready_than_are_worth_it() {
        drop((0..2 * MAX_FREE).map(|_| Block::new(WHOLE)).collect::<Vec<_>>());
        assert!(free().len() <= MAX_FREE);
    }
}
