//! Decoder of lzip, whose members follow one another.
//!
//! The crate's own reader has no limit of memory, which a header could set to 512 MiB; its push decoder has one.

use std::io::{self, BufRead, Read};

use lzma_rust2::{Action, LzipStream, Status};

/// Reader of all members of a file.
pub(crate) struct LzipReader<R> {
    file: R,
    stream: LzipStream,
    has_ended: bool,
}

impl<R: BufRead> LzipReader<R> {
    /// Decodes with at most this memory, in KiB.
    pub(crate) fn new(file: R, memory: u32) -> Self {
        Self { file, stream: LzipStream::new_mem_limit(true, memory), has_ended: false }
    }
}

impl<R: BufRead> Read for LzipReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while !self.has_ended {
            let input = self.file.fill_buf()?;
            let action = if input.is_empty() { Action::Finish } else { Action::Run };
            let done = self.stream.process(input, buffer, action)?;
            self.file.consume(done.bytes_consumed);
            self.has_ended = done.status == Status::StreamEnd;
            if self.has_ended && !(self.stream.unused_input().is_empty() && self.file.fill_buf()?.is_empty()) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the file continues after its last member"));
            }
            if done.bytes_produced > 0 {
                return Ok(done.bytes_produced);
            }
            if action == Action::Finish && done.bytes_consumed == 0 && !self.has_ended {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends within a member"));
            }
        }
        Ok(0)
    }
}
