//! A store of numbered paths, with any references between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::store::Store;
use crate::store::tests::{LAST, bytes, store};

const QUERY_PATH_INFO: u64 = 26;

/// Reply of the scripted nix-daemon about a numbered path.
pub(crate) enum Says {
    /// Valid, with references to these.
    Valid(Vec<usize>),
    Invalid,
    Nothing,
    Goodbye,
}

/// Returns the base name of a numbered path.
pub(crate) fn name(number: usize) -> String {
    format!("{number:032}-path")
}

fn string(text: &str) -> Vec<u8> {
    let mut string = [&bytes(&[text.len() as u64])[..], text.as_bytes()].concat();
    string.resize(8 + text.len().next_multiple_of(8), 0);
    string
}

/// Replies to queries as `says` decides. NARs have 120 bytes, plus the number of the path.
async fn converse(mut stream: UnixStream, says: Arc<dyn Fn(usize) -> Says + Send + Sync>, queried: Arc<AtomicUsize>) {
    while let Ok(opcode) = stream.read_u64_le().await {
        let length = usize::try_from(stream.read_u64_le().await.unwrap()).unwrap();
        let mut about = vec![0; length.next_multiple_of(8)];
        stream.read_exact(&mut about).await.unwrap();
        let about = std::str::from_utf8(&about[..length]).unwrap();
        let digits = about.strip_prefix("/nix/store/").unwrap_or(about).split('-').next().unwrap();
        let number: usize = digits.parse().unwrap();
        let reply = match says(number) {
            Says::Goodbye => return,
            Says::Nothing => std::future::pending().await,
            Says::Invalid if opcode == QUERY_PATH_INFO => bytes(&[LAST, 0]),
            Says::Invalid => [bytes(&[LAST]), string("")].concat(),
            Says::Valid(references) if opcode == QUERY_PATH_INFO => {
                queried.fetch_add(1, Ordering::Relaxed);
                let count = bytes(&[references.len() as u64]);
                let references = references.iter().map(|it| string(&format!("/nix/store/{}", name(*it))));
                let references = references.collect::<Vec<_>>().concat();
                let size = 120 + number as u64;
                let head = [bytes(&[LAST, 1]), string(""), string(&"0".repeat(64)), count, references];
                [head.concat(), bytes(&[0, size, 0, 0]), string("")].concat()
            }
            Says::Valid(_) => [bytes(&[LAST]), string(&format!("/nix/store/{}", name(number)))].concat(),
        };
        stream.write_all(&reply).await.unwrap();
    }
}

/// Returns a store whose nix-daemon replies so, its store directory, and the number of path infos that were queried.
pub(crate) fn store_of(
    says: impl Fn(usize) -> Says + Send + Sync + 'static,
) -> (tempfile::TempDir, Store, Arc<AtomicUsize>) {
    let (says, queried) = (Arc::new(says) as Arc<dyn Fn(usize) -> Says + Send + Sync>, Arc::default());
    let count = Arc::clone(&queried);
    let (directory, store) = store(move |_, stream| converse(stream, Arc::clone(&says), Arc::clone(&count)));
    (directory, store, queried)
}
