//! Buffers that files are read into. Reused, so that they are in the processor's cache and need not be zeroed.

use crate::sync::Mutex;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;

/// Upper bound of free buffers: about as many as are filled at a time.
const MAX_FREE: usize = 16;

/// Free buffers, all of one size.
#[derive(Debug)]
pub(crate) struct BufferPool {
    size: usize,
    free: Mutex<Vec<Vec<u8>>>,
}

/// A buffer that is being filled. Its memory returns to the pool when it is dropped.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Initialised to its end; only the first `length` bytes are in use.
    memory: Vec<u8>,
    length: usize,
    from: Arc<BufferPool>,
}

impl BufferPool {
    /// Creates an empty pool for buffers of `size` bytes.
    pub(crate) fn new(size: usize) -> Arc<Self> {
        Arc::new(Self { size, free: Mutex::default() })
    }

    /// Returns an empty buffer with room for `room` bytes. Small ones are allocated separately.
    pub(crate) fn take(self: &Arc<Self>, room: usize) -> Piece {
        let is_short = room <= self.size / 2;
        let memory = if is_short { None } else { self.free.lock().pop() };
        let memory = memory.unwrap_or_else(|| vec![0; if is_short { room } else { self.size }]);
        Piece { memory, length: 0, from: Arc::clone(self) }
    }
}

impl Piece {
    /// Returns the number of bytes in it.
    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    /// Shortens it to `length` bytes.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Returns room for `count` more bytes, to be read into.
    pub(crate) fn room(&mut self, count: usize) -> &mut [u8] {
        let end = self.length + count;
        if self.memory.len() < end {
            self.memory.resize(end, 0);
        }
        &mut self.memory[self.length..end]
    }

    /// Records that `count` bytes of the room were filled.
    pub(crate) fn fill(&mut self, count: usize) {
        self.length = (self.length + count).min(self.memory.len());
    }

    /// Appends bytes.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
        self.fill(bytes.len());
    }

    /// Converts it for sending, without a copy.
    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.length]
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut free = self.from.free.lock();
        if self.memory.len() == self.from.size && free.len() < MAX_FREE {
            free.push(mem::take(&mut self.memory));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_has_what_was_put_into_it_and_nothing_of_the_one_before() {
        let pieces = BufferPool::new(100);
        for fill in [1_u8, 2] {
            let mut piece = pieces.take(80);
            piece.extend(&[fill; 3]);
            piece.room(4).fill(fill + 10);
            piece.fill(2);
            assert_eq!(piece.as_ref(), [fill, fill, fill, fill + 10, fill + 10]);
            piece.truncate(4);
            assert_eq!(piece.into_bytes(), [fill, fill, fill, fill + 10][..]);
        }
        assert_eq!(pieces.free.lock().len(), 1);
    }

    #[test]
    fn only_whole_memory_lies_ready_and_not_much_of_it() {
        let pieces = BufferPool::new(100);
        drop(pieces.take(50));
        assert!(pieces.free.lock().is_empty(), "a short one has memory of its own");
        let mut grown = pieces.take(80);
        grown.extend(&[0; 120]);
        assert_eq!(grown.len(), 120);
        drop(grown);
        assert!(pieces.free.lock().is_empty());
        drop((0..2 * MAX_FREE).map(|_| pieces.take(100)).collect::<Vec<_>>());
        assert_eq!(pieces.free.lock().len(), MAX_FREE);
    }
}
