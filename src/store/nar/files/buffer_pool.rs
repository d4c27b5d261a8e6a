//! Pool of the buffers that files are read into: reused, they stay in the CPU cache and need no zeroing.

use crate::sync::Mutex;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;

/// Maximal number of free buffers. More are in use at once only with many clients.
const MAX_FREE: usize = 16;

/// Free buffers of one size.
#[derive(Debug)]
pub(crate) struct BufferPool {
    size: usize,
    free: Mutex<Vec<Vec<u8>>>,
}

/// A buffer that is being filled. Its memory returns to the pool when it, or the [`Bytes`] made of it, is dropped.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Initialised throughout; the first `length` bytes are data.
    memory: Vec<u8>,
    length: usize,
    from: Arc<BufferPool>,
}

impl BufferPool {
    /// Creates an empty pool of buffers of `size` bytes.
    pub(crate) fn new(size: usize) -> Arc<Self> {
        Arc::new(Self { size, free: Mutex::default() })
    }

    /// Returns an empty buffer of at least `capacity` bytes. Up to half the pool's size it is allocated, not pooled.
    pub(crate) fn take(self: &Arc<Self>, capacity: usize) -> Piece {
        let is_short = capacity <= self.size / 2;
        let memory = if is_short { None } else { self.free.lock().pop() };
        let memory = memory.unwrap_or_else(|| vec![0; if is_short { capacity } else { self.size }]);
        Piece { memory, length: 0, from: Arc::clone(self) }
    }
}

impl Piece {
    /// Returns the number of bytes filled.
    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    /// Shortens it to at most `length` bytes.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Returns the next `count` bytes to be written to; [`Self::fill`] then counts them as filled.
    pub(crate) fn spare(&mut self, count: usize) -> &mut [u8] {
        let end = self.length + count;
        if self.memory.len() < end {
            self.memory.resize(end, 0);
        }
        &mut self.memory[self.length..end]
    }

    /// Marks `count` bytes more as filled.
    pub(crate) fn fill(&mut self, count: usize) {
        self.length = (self.length + count).min(self.memory.len());
    }

    /// Appends bytes.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.spare(bytes.len()).copy_from_slice(bytes);
        self.fill(bytes.len());
    }

    /// Converts it without a copy.
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
    fn a_buffer_has_no_bytes_of_its_former_use() {
        let pieces = BufferPool::new(100);
        for fill in [1_u8, 2] {
            let mut piece = pieces.take(80);
            piece.extend(&[fill; 3]);
            piece.spare(4).fill(fill + 10);
            piece.fill(2);
            assert_eq!(piece.as_ref(), [fill, fill, fill, fill + 10, fill + 10]);
            piece.truncate(4);
            assert_eq!(piece.into_bytes(), [fill, fill, fill, fill + 10][..]);
        }
        assert_eq!(pieces.free.lock().len(), 1);
    }

    #[test]
    fn only_buffers_of_the_pools_size_are_kept_and_not_too_many() {
        let pieces = BufferPool::new(100);
        drop(pieces.take(50));
        assert!(pieces.free.lock().is_empty(), "a short one is not pooled");
        let mut grown = pieces.take(80);
        grown.extend(&[0; 120]);
        assert_eq!(grown.len(), 120);
        drop(grown);
        assert!(pieces.free.lock().is_empty());
        drop((0..2 * MAX_FREE).map(|_| pieces.take(100)).collect::<Vec<_>>());
        assert_eq!(pieces.free.lock().len(), MAX_FREE);
    }
}
