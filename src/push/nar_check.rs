//! The check of an uploaded NAR while it is decoded: a reader that ends without an error only if structure, size and hash
//! are those of the narinfo.
//!
//! Decoding, parsing and hashing run on a blocking thread, a few chunks ahead of the reader. The last chunk is held back
//! until all has been checked: nix-daemon never sees the end of a NAR that is not right, and adds nothing.

use std::fs::File;
use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use harmonia_protocol::content_address::ContentAddress;
use harmonia_protocol::content_check::ContentCheck;
use harmonia_protocol::hash::NarHash;
use harmonia_protocol::nar::{Feed, NarError, Parser};
use harmonia_protocol::narinfo::Compression;
use ring::digest;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::push::decode;

/// Bytes of a chunk.
const CHUNK: usize = 64 << 10;
/// Chunks that wait for the reader. With the one held back and the one being filled that is half a megabyte per upload.
const AHEAD: usize = 4;

/// Reason why an uploaded file is not the NAR of its narinfo.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NarFault {
    /// The uploaded file cannot be read.
    #[error("cannot read the uploaded NAR: {0}")]
    File(String),
    /// The file has another size than the narinfo says.
    #[error("the uploaded file has {found} bytes, but FileSize is {expected}; push it again")]
    FileSize {
        /// FileSize, in bytes.
        expected: u64,
        /// Size of the file, in bytes.
        found: u64,
    },
    /// The file is not of the compression that the narinfo says, is damaged, or needs too much memory.
    #[error("cannot decode the uploaded file as {compression}: {reason}; push it again")]
    Compression {
        /// Compression in the narinfo.
        compression: &'static str,
        /// Error of the decoder.
        reason: String,
    },
    /// The bytes are not a NAR.
    #[error("the NAR is malformed: {0}; build the path again and push that")]
    Malformed(NarError),
    /// The NAR has more bytes than the narinfo says. The rest was not decoded.
    #[error("the NAR has more than the {0} bytes of NarSize; push it again")]
    TooLong(u64),
    /// The NAR is whole, and has fewer bytes than the narinfo says.
    #[error("the NAR has {found} bytes, fewer than the {expected} of NarSize; push it again")]
    TooShort {
        /// NarSize, in bytes.
        expected: u64,
        /// Bytes of the NAR.
        found: u64,
    },
    /// The contents do not match the content address in the narinfo.
    #[error("the contents do not match CA; build the path again and push that")]
    WrongContents,
    /// The NAR has another hash than the narinfo says.
    #[error("the NAR has the hash {found}, but NarHash is {expected}; push it again")]
    WrongHash {
        /// NarHash.
        expected: NarHash,
        /// Hash of the decoded bytes.
        found: NarHash,
    },
}

/// Size and hash that a NAR has to have.
#[derive(Debug, Clone)]
pub struct Expected {
    /// Size, in bytes.
    pub nar_size: u64,
    /// SHA-256.
    pub nar_hash: NarHash,
    /// Content address that the contents have to match, if they have to be read for that.
    pub content_address: Option<ContentAddress>,
}

/// Reader of a NAR that is decoded and checked on a blocking thread, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct CheckedNar {
    chunks: mpsc::Receiver<Bytes>,
    current: Bytes,
    checking: JoinHandle<Result<(), NarFault>>,
    result: Option<Result<(), NarFault>>,
}

impl CheckedNar {
    /// Starts to decode a file.
    pub(crate) fn start(file: File, compression: Compression, expected: Expected) -> Self {
        let (sender, chunks) = mpsc::channel(AHEAD);
        let check = move || check(file, compression, &expected, |chunk| sender.blocking_send(chunk).is_ok());
        Self { chunks, current: Bytes::new(), checking: tokio::task::spawn_blocking(check), result: None }
    }

    /// Returns the reason if reading has failed.
    pub(crate) fn fault(&self) -> Option<&NarFault> {
        self.result.as_ref().and_then(|result| result.as_ref().err())
    }

    /// Polls for the next bytes; `false` at the end.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.current.is_empty() {
            if let Some(result) = &self.result {
                return Poll::Ready(match result {
                    Ok(()) => Ok(false),
                    Err(fault) => Err(io::Error::new(io::ErrorKind::InvalidData, fault.clone())),
                });
            }
            if let Some(chunk) = ready!(self.chunks.poll_recv(context)) {
                self.current = chunk;
            } else {
                let ended = ready!(Pin::new(&mut self.checking).poll(context));
                // A decoder that panics over damaged input.
                self.result = Some(ended.unwrap_or_else(|error| Err(NarFault::File(error.to_string()))));
            }
        }
        Poll::Ready(Ok(true))
    }
}

impl AsyncRead for CheckedNar {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if ready!(self.poll_fill(context))? {
            let length = into.remaining().min(self.current.len());
            into.put_slice(&self.current[..length]);
            self.current.advance(length);
        }
        Poll::Ready(Ok(()))
    }
}

/// Decodes a file and checks the NAR in it. Passes its bytes to `send`, the last of them after all checks, until that returns
/// false.
pub fn check(
    file: impl Read + Send + 'static,
    compression: Compression,
    expected: &Expected,
    mut send: impl FnMut(Bytes) -> bool,
) -> Result<(), NarFault> {
    let mut decoder = decode::decoder(compression, file)
        .map_err(|error| NarFault::Compression { compression: compression.name(), reason: error.to_string() })?;
    let mut parser = Parser::new(expected.nar_size);
    let mut contents = expected.content_address.as_ref().and_then(ContentCheck::new);
    let mut sha256 = digest::Context::new(&digest::SHA256);
    let (mut size, mut held) = (0_u64, None);
    loop {
        let chunk = read_chunk(&mut decoder).map_err(|error| decode_fault(compression, &error))?;
        if chunk.is_empty() {
            break;
        }
        size += chunk.len() as u64;
        if size > expected.nar_size {
            return Err(NarFault::TooLong(expected.nar_size));
        }
        let begin = parser.offset();
        match parser.feed(&chunk, &mut |_| ()).map_err(NarFault::Malformed)? {
            Feed::Finished { consumed } if consumed < chunk.len() => {
                return Err(NarFault::Malformed(NarError::Trailing { offset: parser.offset() }));
            }
            Feed::Finished { .. } | Feed::More => {}
            Feed::ErrorFrame { .. } => return Err(NarFault::Malformed(NarError::ErrorFrame { offset: begin })),
        }
        sha256.update(&chunk);
        if let Some(contents) = &mut contents {
            contents.update(&chunk);
        }
        if let Some(before) = held.replace(chunk) {
            if !send(before) {
                return Ok(());
            }
        }
    }
    if !parser.is_finished() {
        return Err(NarFault::Malformed(NarError::Truncated));
    }
    if size < expected.nar_size {
        return Err(NarFault::TooShort { expected: expected.nar_size, found: size });
    }
    let mut found = [0; 32];
    found.copy_from_slice(sha256.finish().as_ref());
    let found = NarHash::from_digest(found);
    if found != expected.nar_hash {
        return Err(NarFault::WrongHash { expected: expected.nar_hash, found });
    }
    if contents.is_some_and(|contents| !contents.matches()) {
        return Err(NarFault::WrongContents);
    }
    if let Some(last) = held {
        send(last);
    }
    Ok(())
}

/// Reads a whole chunk, or less at the end.
fn read_chunk(decoder: &mut impl Read) -> io::Result<Bytes> {
    let mut chunk = vec![0; CHUNK];
    let mut length = 0;
    while length < chunk.len() {
        match decoder.read(&mut chunk[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    chunk.truncate(length);
    Ok(chunk.into())
}

/// Returns the fault for an error while decoding: of the decoder, or of the disk.
fn decode_fault(compression: Compression, error: &io::Error) -> NarFault {
    if decode::is_of_file(error) {
        return NarFault::File(error.to_string());
    }
    NarFault::Compression { compression: compression.name(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use harmonia_protocol::nar::{Name, Node};
    use std::io::{Cursor, Seek as _, Write as _, repeat};
    use tokio::io::AsyncReadExt as _;

    fn nar(size: usize) -> Vec<u8> {
        let mut nar = BytesMut::new();
        Node::Regular { executable: false, contents: vec![7; size].into() }.encode(&mut nar);
        nar.to_vec()
    }

    fn expected(nar: &[u8]) -> Expected {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, nar).as_ref());
        Expected { nar_size: nar.len() as u64, nar_hash: NarHash::from_digest(hash), content_address: None }
    }

    /// Returns the bytes that nix-daemon would receive, and the end.
    async fn read(file: &[u8], compression: Compression, expected: Expected) -> (Vec<u8>, Result<(), NarFault>) {
        let mut spooled = tempfile::tempfile().unwrap();
        spooled.write_all(file).unwrap();
        spooled.rewind().unwrap();
        let mut nar = CheckedNar::start(spooled, compression, expected);
        let mut bytes = Vec::new();
        let end = nar.read_to_end(&mut bytes).await;
        let fault = nar.fault().cloned();
        assert_eq!(end.is_err(), fault.is_some());
        (bytes, fault.map_or(Ok(()), Err))
    }

    #[tokio::test]
    async fn a_nar_that_is_right_is_read_to_its_end() {
        for size in [0, 1, CHUNK, 20 * CHUNK + 1] {
            let nar = nar(size);
            let (bytes, end) = read(&nar, Compression::None, expected(&nar)).await;
            assert!(bytes == nar && end.is_ok(), "{size}");
            let file = zstd::encode_all(&nar[..], 1).unwrap();
            let (bytes, end) = read(&file, Compression::Zstd, expected(&nar)).await;
            assert!(bytes == nar && end.is_ok(), "{size}");
        }
    }

    #[tokio::test]
    async fn the_end_of_a_nar_that_is_wrong_is_never_read() {
        type IsRight = fn(&NarFault) -> bool;

        let nar = nar(3 * CHUNK);
        let right = expected(&nar);
        let wrong_hash = Expected { nar_hash: NarHash::from_digest([1; 32]), ..right.clone() };
        let trailing = [&nar[..], &[0; 8]].concat();
        let longer = Expected { nar_size: right.nar_size + 8, ..right.clone() };
        let other = ContentAddress::parse(&format!("fixed:sha256:{}", "0".repeat(52)));
        assert!(other.is_some());
        let wrong_contents = Expected { content_address: other, ..right.clone() };
        let cases: [(&[u8], Expected, IsRight); 7] = [
            (&nar, longer.clone(), |it| matches!(it, NarFault::TooShort { .. })),
            (&nar, wrong_contents, |it| matches!(it, NarFault::WrongContents)),
            (&nar, wrong_hash, |it| matches!(it, NarFault::WrongHash { .. })),
            (&nar[..nar.len() - 8], right.clone(), |it| matches!(it, NarFault::Malformed(NarError::Truncated))),
            (&trailing, right.clone(), |it| matches!(it, NarFault::TooLong(_))),
            (&trailing, longer, |it| matches!(it, NarFault::Malformed(NarError::Trailing { .. }))),
            (b"not a NAR", right.clone(), |it| matches!(it, NarFault::Malformed(_))),
        ];
        for (file, expected, is_right) in cases {
            let (bytes, end) = read(file, Compression::None, expected).await;
            let fault = end.unwrap_err();
            assert!(is_right(&fault), "{fault}");
            assert!(bytes.len() < nar.len(), "{fault}");
        }
    }

    #[test]
    fn a_bomb_ends_at_the_size_of_its_narinfo() {
        let bomb = zstd::encode_all(repeat(0).take(1 << 30), 1).unwrap();
        let mut decoded = 0;
        let bounds = Expected { nar_size: 1 << 20, nar_hash: NarHash::from_digest([0; 32]), content_address: None };
        // The zeros of a file's contents, so that the structure is no reason to end.
        let mut nar = nar(1 << 20);
        nar.truncate(1 << 19);
        let file = [zstd::encode_all(&nar[..], 1).unwrap(), bomb].concat();
        let fault = check(Cursor::new(file), Compression::Zstd, &bounds, |chunk| {
            decoded += chunk.len();
            true
        });
        assert!(matches!(fault, Err(NarFault::TooLong(_) | NarFault::Malformed(_))), "{fault:?}");
        assert!(decoded <= 1 << 20);
    }

    #[tokio::test]
    async fn a_name_that_leads_out_of_the_path_is_malformed() {
        let entry = Node::Regular { executable: false, contents: Bytes::from_static(b"x") };
        let mut nar = BytesMut::new();
        Node::Directory([(Name::new(b"ab").unwrap(), entry)].into()).encode(&mut nar);
        let mut nar = nar.to_vec();
        let at = nar.windows(2).position(|bytes| bytes == b"ab").unwrap();
        nar[at..at + 2].copy_from_slice(b"..");
        let (bytes, end) = read(&nar, Compression::None, expected(&nar)).await;
        assert!(bytes.is_empty() && matches!(end, Err(NarFault::Malformed(NarError::Name { .. }))), "{end:?}");
    }
}
