//! Decoder of brotli (RFC 7932), which has one stream and no checksum.

use std::io::{self, BufRead, Read};

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};

type State = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

/// Reader of a brotli stream to the end of its file.
pub(crate) struct BrotliReader<R> {
    file: R,
    state: Box<State>,
    written: usize,
    has_ended: bool,
}

impl<R: BufRead> BrotliReader<R> {
    pub(crate) fn new(file: R) -> Self {
        let alloc = StandardAlloc::default;
        // Strict: windows of up to 16 MiB, as in the RFC.
        let state = Box::new(BrotliState::new_strict(alloc(), alloc(), alloc()));
        Self { file, state, written: 0, has_ended: false }
    }
}

impl<R: BufRead> Read for BrotliReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let input = self.file.fill_buf()?;
            let is_last = input.is_empty();
            if self.has_ended {
                return if is_last { Ok(0) } else { Err(invalid("the file continues after the end of the stream")) };
            }
            let (mut available_in, mut consumed) = (input.len(), 0);
            let (mut available_out, mut produced) = (buffer.len(), 0);
            let result = BrotliDecompressStream(
                &mut available_in,
                &mut consumed,
                input,
                &mut available_out,
                &mut produced,
                buffer,
                &mut self.written,
                &mut self.state,
            );
            self.file.consume(consumed);
            match result {
                BrotliResult::ResultFailure => return Err(invalid("malformed stream")),
                BrotliResult::ResultSuccess => self.has_ended = true,
                BrotliResult::NeedsMoreInput if is_last && produced == 0 => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends within the stream"));
                }
                BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
            }
            if produced > 0 {
                return Ok(produced);
            }
        }
    }
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
