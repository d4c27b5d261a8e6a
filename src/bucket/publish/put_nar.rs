//! Puts the file of one NAR: whole, or in parts that go on after a restart. It is hashed on its way, so that no object has another
//! content than its name says.

use bytes::{Bytes, BytesMut};
use ring::digest::{Context, SHA256};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::kept_uploads::KeptUploads;
use super::nar_source::{Chunks, NarSource};
use crate::bucket::engine::{
    BucketError, BucketStore, FailureKind, PARTS_FROM, Patience, Put, Replace, Upload, part_size,
};
use crate::bucket::file_hash::NarFile;
use crate::bucket::object_name::ObjectName;

/// Size from which on the server is asked whether it has the file, in bytes: below, sending it costs less.
const LOOK_FROM: u64 = 64 << 10;

/// Memory of all files and parts that are put at a time, in bytes.
const MEMORY: u64 = 64 << 20;
/// Unit of that memory, in bytes.
const GRAIN: u64 = 1 << 10;

/// Memory for what is put.
#[derive(Debug)]
pub(super) struct UploadMemory(Semaphore);

impl Default for UploadMemory {
    fn default() -> Self {
        Self(Semaphore::new(usize::try_from(MEMORY / GRAIN).unwrap_or_default()))
    }
}

impl UploadMemory {
    /// Waits for the memory that a file of this size takes: that of one part at most. A part that is larger than all of the
    /// memory takes all of it.
    async fn acquire(&self, size: u64) -> Option<SemaphorePermit<'_>> {
        let part = if size < PARTS_FROM { size } else { part_size(size) };
        let grains = u32::try_from(part.clamp(1, MEMORY).div_ceil(GRAIN)).ok()?;
        // It is never closed.
        self.0.acquire_many(grains).await.ok()
    }
}

/// Result of putting a file.
#[derive(Debug)]
pub(super) enum NarPut {
    /// So many bytes were sent.
    Sent(u64),
    /// The bucket had it.
    Existed,
    /// This host does not have the file, or it has other contents. Holds the reason.
    Unavailable(String),
}

/// Puts a file, unless it is there.
pub(super) async fn put_nar<S: NarSource>(
    store: &BucketStore,
    source: &S,
    file: NarFile,
    size: u64,
    kept: Option<&KeptUploads>,
    memory: &UploadMemory,
) -> Result<NarPut, BucketError> {
    let name = ObjectName::Nar(file);
    if size >= LOOK_FROM {
        let found = store.head(&name, Patience::Background).await?;
        // Whatever is there with another size is no file that was put whole.
        if found.is_some_and(|found| found.size == size) {
            return Ok(NarPut::Existed);
        }
    }
    let _memory = memory.acquire(size).await;
    let mut reader = match source.open(file).await {
        Ok(chunks) => Reader { chunks, hash: Context::new(&SHA256), left: size, rest: Bytes::new() },
        Err(cause) => return Ok(NarPut::Unavailable(cause.to_string())),
    };
    if size < PARTS_FROM {
        let bytes = match reader.read(size).await {
            Ok(bytes) => bytes,
            Err(reason) => return Ok(NarPut::Unavailable(reason)),
        };
        if let Err(reason) = reader.end(file).await {
            return Ok(NarPut::Unavailable(reason));
        }
        return Ok(match store.put(&name, bytes, Replace::IfAbsent).await? {
            Put::Written => NarPut::Sent(size),
            Put::Existed => NarPut::Existed,
        });
    }
    let before = match kept {
        Some(kept) => kept.find(file).await,
        None => None,
    };
    let is_resumed = before.is_some();
    let upload = store.begin_upload(&name, size, before).await?;
    let sent = size - upload.sent().min(size);
    match put_parts(store, upload, reader, file, size, kept).await {
        Ok(None) => {}
        Ok(Some(reason)) => return Ok(NarPut::Unavailable(reason)),
        // The server has forgotten the upload; the next attempt begins anew.
        Err(error) if is_resumed && error.kind == FailureKind::NotFound => {
            if let Some(kept) = kept {
                kept.forget(file).await;
            }
            return Err(error);
        }
        Err(error) => return Err(error),
    }
    Ok(NarPut::Sent(sent))
}

/// Sends the parts that are missing, and completes the upload. Returns the reason why the file is unavailable, if it is.
async fn put_parts<C: Chunks>(
    store: &BucketStore,
    mut upload: Upload,
    mut reader: Reader<C>,
    file: NarFile,
    size: u64,
    kept: Option<&KeptUploads>,
) -> Result<Option<String>, BucketError> {
    let (part_size, sent) = (upload.part_size(), upload.sent());
    let mut at = 0;
    let unavailable = loop {
        if at >= size {
            break reader.end(file).await.err();
        }
        let part = match reader.read(part_size.min(size - at)).await {
            Ok(part) => part,
            Err(reason) => break Some(reason),
        };
        at += part.len() as u64;
        if at <= sent {
            // It is there, and was hashed.
            continue;
        }
        store.put_part(&mut upload, part).await?;
        if let (Some(kept), Some(parts)) = (kept, upload.parts()) {
            if let Err(cause) = kept.keep(file, parts).await {
                tracing::debug!("a restart will upload {file} anew: {cause}");
            }
        }
    };
    match unavailable {
        Some(_) => store.abort_upload(upload).await?,
        None => store.complete_upload(upload).await?,
    }
    if let Some(kept) = kept {
        kept.forget(file).await;
    }
    Ok(unavailable)
}

/// Reads a file in parts and hashes it.
struct Reader<C> {
    chunks: C,
    hash: Context,
    /// Bytes to come.
    left: u64,
    /// Part of the last chunk.
    rest: Bytes,
}

impl<C: Chunks> Reader<C> {
    /// Reads exactly so many bytes.
    async fn read(&mut self, length: u64) -> Result<Bytes, String> {
        let length = usize::try_from(length.min(self.left)).unwrap_or(usize::MAX);
        let mut part = BytesMut::with_capacity(length);
        while part.len() < length {
            if self.rest.is_empty() {
                let next = self.chunks.next().await.map_err(|cause| cause.to_string())?;
                self.rest = next.ok_or("it ends too early")?;
            }
            let piece = self.rest.split_to(self.rest.len().min(length - part.len()));
            self.hash.update(&piece);
            part.extend_from_slice(&piece);
        }
        self.left -= part.len() as u64;
        Ok(part.freeze())
    }

    /// Checks that nothing follows, and the hash.
    async fn end(mut self, file: NarFile) -> Result<(), String> {
        let is_end = self.rest.is_empty() && self.chunks.next().await.map_err(|cause| cause.to_string())?.is_none();
        if !is_end {
            return Err("it is longer than its narinfo says".to_owned());
        }
        if self.hash.finish().as_ref() == file.hash().as_bytes() {
            Ok(())
        } else {
            Err("it has another hash".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_wait_for_memory_that_others_hold_and_the_largest_get_all_of_it() {
        let memory = UploadMemory::default();
        let is_free = |size: u64| memory.0.available_permits() as u64 * GRAIN >= size;
        let small = memory.acquire(0).await;
        let parts: Vec<_> = [memory.acquire(PARTS_FROM).await, memory.acquire(20 << 30).await].into();
        assert!(is_free(MEMORY - 2 * part_size(PARTS_FROM) - GRAIN), "one part of each");
        let wanting = memory.acquire(5 << 40);
        tokio::pin!(wanting);
        assert!(futures_util::poll!(wanting.as_mut()).is_pending());
        drop((small, parts));
        let all = wanting.await;
        assert!(!is_free(GRAIN));
        drop(all);
        assert!(is_free(MEMORY));
    }
}
