//! Proves the file of a NAR while its bytes pass: hash and size of the file, and of the NAR that it decodes to.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use harmonia_protocol::narinfo::Compression;
use ring::digest::{Context, SHA256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::nar_cache::FileInfo;
use crate::push::nar_check::{Expected, NarFault, check};
use crate::sync::Mutex;

/// Pieces of a file that wait for the decoder.
const AHEAD: usize = 8;

/// A file that is being decoded, on a blocking thread that ends when this is dropped.
pub(super) struct NarProof {
    pieces: Option<mpsc::Sender<Bytes>>,
    checking: JoinHandle<Result<(), NarFault>>,
    file: Arc<Mutex<FileHasher>>,
}

struct FileHasher {
    sha256: Context,
    size: u64,
}

impl NarProof {
    /// Begins with a file of this compression, whose NAR has to be as expected.
    pub(super) fn start(compression: Compression, expected: Expected) -> Self {
        let (pieces, received) = mpsc::channel(AHEAD);
        let file = Arc::new(Mutex::new(FileHasher { sha256: Context::new(&SHA256), size: 0 }));
        let reader = Pieces { received, current: Bytes::new() };
        let checking = tokio::task::spawn_blocking(move || check(reader, compression, &expected, |_| true));
        Self { pieces: Some(pieces), checking, file }
    }

    /// Takes the next bytes of the file. Returns whether more are of use: not if a fault was found, which [`Self::end`] returns.
    pub(super) async fn feed(&mut self, bytes: Bytes) -> bool {
        let Some(pieces) = &self.pieces else { return false };
        {
            let mut file = self.file.lock();
            file.sha256.update(&bytes);
            file.size += bytes.len() as u64;
        }
        bytes.is_empty() || pieces.send(bytes).await.is_ok()
    }

    /// Returns hash and size of the file after its last byte, or what is wrong with its NAR.
    pub(super) async fn end(mut self) -> Result<FileInfo, String> {
        self.pieces = None;
        match self.checking.await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => return Err(text(&fault)),
            // A decoder that panics over damaged input.
            Err(panicked) => return Err(panicked.to_string()),
        }
        let file = self.file.lock();
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(file.sha256.clone().finish().as_ref());
        Ok(FileInfo { sha256, size: file.size })
    }
}

/// Says what is wrong with a NAR that nobody has uploaded here.
fn text(fault: &NarFault) -> String {
    match fault {
        NarFault::File(cause) => cause.clone(),
        NarFault::FileSize { expected, found } => format!("the file has {found} bytes, but FileSize is {expected}"),
        NarFault::Compression { compression, reason } => format!("cannot decode it as {compression}: {reason}"),
        NarFault::Malformed(cause) => format!("the NAR is malformed: {cause}"),
        NarFault::TooLong(size) => format!("the NAR has more than the {size} bytes of NarSize"),
        NarFault::TooShort { expected, found } => {
            format!("the NAR has {found} bytes, fewer than the {expected} of NarSize")
        }
        NarFault::WrongContents => "the contents do not match CA".to_owned(),
        NarFault::WrongHash { expected, found } => format!("the NAR has the hash {found}, but NarHash is {expected}"),
    }
}

/// Reads the pieces on the blocking thread.
struct Pieces {
    received: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() {
            self.current = self.received.blocking_recv().unwrap_or_default();
        }
        let length = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use harmonia_protocol::hash::NarHash;
    use harmonia_protocol::nar::Node;

    use super::*;

    fn nar() -> Vec<u8> {
        let mut nar = BytesMut::new();
        Node::Regular { executable: false, contents: vec![7; 300_000].into() }.encode(&mut nar);
        nar.to_vec()
    }

    fn sha256(bytes: &[u8]) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(ring::digest::digest(&SHA256, bytes).as_ref());
        hash
    }

    async fn prove(file: &[u8], nar: &[u8]) -> Result<FileInfo, String> {
        let (nar_size, nar_hash) = (nar.len() as u64, NarHash::from_digest(sha256(nar)));
        let expected = Expected { nar_size, nar_hash, content_address: None };
        let mut proof = NarProof::start(Compression::Zstd, expected);
        for piece in file.chunks(1000) {
            if !proof.feed(Bytes::copy_from_slice(piece)).await {
                break;
            }
        }
        proof.end().await
    }

    #[tokio::test]
    async fn a_file_that_is_right_has_its_hash_and_size() {
        let nar = nar();
        let file = zstd::encode_all(&nar[..], 1).unwrap();
        let info = prove(&file, &nar).await.unwrap();
        assert_eq!((info.sha256, info.size), (sha256(&file), file.len() as u64));
    }

    #[tokio::test]
    async fn what_is_wrong_is_said() {
        let nar = nar();
        let file = zstd::encode_all(&nar[..], 1).unwrap();
        let other = zstd::encode_all(&nar[..nar.len() - 8], 1).unwrap();
        for (file, words) in [
            (&file[..file.len() - 9], "cannot decode it as zstd"),
            (&other, "the NAR is malformed"),
            (b"no frame", "cannot decode it as zstd"),
            (&[&file[..], b"more"].concat(), "cannot decode it as zstd"),
        ] {
            let fault = prove(file, &nar).await.unwrap_err();
            assert!(fault.starts_with(words), "{fault}");
        }
        let mut wrong = nar.clone();
        wrong[200] ^= 1;
        let fault = prove(&zstd::encode_all(&wrong[..], 1).unwrap(), &nar).await.unwrap_err();
        assert!(fault.contains("but NarHash is"), "{fault}");
    }
}
