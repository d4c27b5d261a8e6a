//! Writing a NAR from events: the bytes around the contents of files.

use bytes::BufMut;

use super::event::{Event, Object};

/// Writer of a NAR from the events of its tree, in order. The caller appends the contents of a file between
/// [`put`](Self::put) and [`end_file`](Self::end_file), as many bytes as the event has.
#[derive(Debug, Default)]
pub struct Writer {
    /// Number of open directories.
    depth: usize,
}

impl Writer {
    /// Creates a writer before the first event.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the bytes of an event; for a file, those before its contents.
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

    /// Appends the bytes after the contents of a file, which has `size` bytes.
    pub fn end_file(&self, size: u64, nar: &mut impl BufMut) {
        put_padding(nar, size);
        self.close(nar);
    }

    /// Appends the end of an object, and of its entry.
    fn close(&self, nar: &mut impl BufMut) {
        put_token(nar, b")");
        if self.depth > 0 {
            put_token(nar, b")");
        }
    }
}

/// Appends a token.
pub(super) fn put_token(nar: &mut impl BufMut, token: &[u8]) {
    let length = token.len() as u64;
    nar.put_u64_le(length);
    nar.put_slice(token);
    put_padding(nar, length);
}

fn put_padding(nar: &mut impl BufMut, length: u64) {
    nar.put_bytes(0, usize::try_from(length.wrapping_neg() % 8).unwrap_or_default());
}
