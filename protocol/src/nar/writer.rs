//! The writer of NARs: from what there is in a tree to the bytes around the contents of its files.

use bytes::BufMut;

use super::event::{Event, Object};

/// Writes a NAR of the events of its tree, in their order, however deep. Contents of files are for the caller to put
/// between [`put`](Self::put) and [`end_file`](Self::end_file), as many bytes as the event says.
#[derive(Debug, Default)]
pub struct Writer {
    /// Directories that are open.
    depth: usize,
}

impl Writer {
    /// Starts before the first event.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends what an event stands for; of a file all that comes before its contents.
    pub fn put(&mut self, event: Event<'_>, nar: &mut impl BufMut) {
        let Event::Object { name, object } = event else {
            self.depth = self.depth.saturating_sub(1);
            return self.close(nar);
        };
        match name {
            None => put_token(nar, b"nix-archive-1"),
            Some(name) => {
                for token in [&b"entry"[..], b"(", b"name", name, b"node"] {
                    put_token(nar, token);
                }
            }
        }
        put_token(nar, b"(");
        put_token(nar, b"type");
        match object {
            Object::Regular { executable, size, .. } => {
                put_token(nar, b"regular");
                if executable {
                    put_token(nar, b"executable");
                    put_token(nar, b"");
                }
                put_token(nar, b"contents");
                nar.put_u64_le(size);
            }
            Object::Symlink { target } => {
                for token in [&b"symlink"[..], b"target", target] {
                    put_token(nar, token);
                }
                self.close(nar);
            }
            Object::Directory => {
                put_token(nar, b"directory");
                self.depth += 1;
            }
        }
    }

    /// Appends what comes after the contents of a file, which had `size` bytes.
    pub fn end_file(&self, size: u64, nar: &mut impl BufMut) {
        put_padding(nar, size);
        self.close(nar);
    }

    /// The end of an object, and of the entry that it is.
    fn close(&self, nar: &mut impl BufMut) {
        put_token(nar, b")");
        if self.depth > 0 {
            put_token(nar, b")");
        }
    }
}

/// Writes one token.
pub(super) fn put_token(nar: &mut impl BufMut, token: &[u8]) {
    let length = token.len() as u64;
    nar.put_u64_le(length);
    nar.put_slice(token);
    put_padding(nar, length);
}

fn put_padding(nar: &mut impl BufMut, length: u64) {
    nar.put_bytes(0, usize::try_from(length.wrapping_neg() % 8).unwrap_or_default());
}
