//! Uploads of large files in parts, which go on after a restart where the engine can do that.

use bytes::Bytes;
use object_store::multipart::PartId;
use object_store::{MultipartUpload, PutMultipartOptions, PutPayload};
use serde::{Deserialize, Serialize};

use super::failure::{BucketError, Operation};
use super::patience::Patience;
use super::store::{BucketStore, upload_time};
use crate::bucket::object_name::ObjectName;

/// Size from which on a file is uploaded in parts, in bytes: below, a lost request costs less than more requests.
pub(crate) const PARTS_FROM: u64 = 16 << 20;
/// Smallest size of a part, in bytes. Amazon S3 accepts 5 MiB and more.
const MIN_PART: u64 = 8 << 20;
/// Upper bound of parts, of which Amazon S3 accepts 10,000.
const MAX_PARTS: u64 = 9_000;

/// An upload in parts that has begun.
pub(crate) struct Upload {
    name: ObjectName,
    part_size: u64,
    state: State,
}

enum State {
    /// The server keeps the parts.
    Parts(Parts),
    /// The engine writes a file.
    Stream(Box<dyn MultipartUpload>),
}

/// Record of an upload, by which it goes on after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parts {
    /// Identifier that the server gave it.
    id: String,
    /// Entity tags of the parts that are there.
    tags: Vec<String>,
}

/// Returns the size of all parts but the last of a file, in bytes. It depends on nothing else, so that a restart agrees.
pub(crate) const fn part_size(file_size: u64) -> u64 {
    let smallest = file_size.div_ceil(MAX_PARTS);
    if smallest > MIN_PART { smallest } else { MIN_PART }
}

impl Upload {
    /// Returns the number of bytes that need not be sent again.
    pub(crate) fn sent(&self) -> u64 {
        match &self.state {
            State::Parts(parts) => parts.tags.len() as u64 * self.part_size,
            State::Stream(_) => 0,
        }
    }

    /// Returns the size of all parts but the last, in bytes.
    pub(crate) const fn part_size(&self) -> u64 {
        self.part_size
    }

    /// Returns what has to be kept to go on after a restart; `None` if the engine begins anew.
    pub(crate) const fn parts(&self) -> Option<&Parts> {
        match &self.state {
            State::Parts(parts) => Some(parts),
            State::Stream(_) => None,
        }
    }
}

impl BucketStore {
    /// Begins an upload of a file of this size, or goes on with one.
    pub(crate) async fn begin_upload(
        &self,
        name: &ObjectName,
        file_size: u64,
        kept: Option<Parts>,
    ) -> Result<Upload, BucketError> {
        let (path, part_size) = (self.path(name)?, part_size(file_size));
        let time = upload_time(0);
        let upload = |state| Upload { name: name.clone(), part_size, state };
        let Some(engine) = self.engine.parts() else {
            let run = || self.engine.objects().put_multipart_opts(&path, PutMultipartOptions::default());
            let stream = self.attempts(Operation::Multipart, name, Patience::Background, time, run).await?;
            return Ok(upload(State::Stream(stream)));
        };
        if let Some(parts) = kept {
            return Ok(upload(State::Parts(parts)));
        }
        let run = || engine.create_multipart(&path);
        let id = self.attempts(Operation::Multipart, name, Patience::Background, time, run).await?;
        Ok(upload(State::Parts(Parts { id, tags: Vec::new() })))
    }

    /// Uploads the next part: of [`Upload::part_size`] bytes, if it is not the last.
    pub(crate) async fn put_part(&self, upload: &mut Upload, part: Bytes) -> Result<(), BucketError> {
        let (path, size) = (self.path(&upload.name)?, part.len() as u64);
        let time = upload_time(size);
        match &mut upload.state {
            State::Stream(stream) => {
                self.engine.wait_to_write(part.len()).await;
                // A file on this machine: another attempt would write the part twice.
                let written = stream.put_part(PutPayload::from(part)).await;
                written
                    .map_err(|error| BucketError::of(Operation::Multipart, upload.name.to_string(), &error, None))?;
            }
            State::Parts(parts) => {
                let Some(engine) = self.engine.parts() else { return Ok(()) };
                let (id, index) = (parts.id.clone(), parts.tags.len());
                let run = || engine.put_part(&path, &id, index, PutPayload::from(part.clone()));
                let tag = self.attempts(Operation::Multipart, &upload.name, Patience::Background, time, run).await?;
                parts.tags.push(tag.content_id);
            }
        }
        self.record_sent(size);
        Ok(())
    }

    /// Makes an object of the parts.
    pub(crate) async fn complete_upload(&self, upload: Upload) -> Result<(), BucketError> {
        let path = self.path(&upload.name)?;
        match upload.state {
            State::Stream(mut stream) => {
                let completed = stream.complete().await;
                completed
                    .map_err(|error| BucketError::of(Operation::Multipart, upload.name.to_string(), &error, None))?;
            }
            State::Parts(Parts { id, tags }) => {
                let Some(engine) = self.engine.parts() else { return Ok(()) };
                let tags: Vec<_> = tags.into_iter().map(|content_id| PartId { content_id }).collect();
                let run = || engine.complete_multipart(&path, &id, tags.clone());
                self.attempts(Operation::Multipart, &upload.name, Patience::Background, upload_time(0), run).await?;
            }
        }
        Ok(())
    }

    /// Discards the parts. Those of an upload that is lost are removed by the garbage collection.
    pub(crate) async fn abort_upload(&self, upload: Upload) -> Result<(), BucketError> {
        let path = self.path(&upload.name)?;
        match upload.state {
            State::Stream(mut stream) => stream
                .abort()
                .await
                .map_err(|error| BucketError::of(Operation::Multipart, upload.name.to_string(), &error, None)),
            State::Parts(Parts { id, .. }) => {
                let Some(engine) = self.engine.parts() else { return Ok(()) };
                let run = || engine.abort_multipart(&path, &id);
                self.attempts(Operation::Multipart, &upload.name, Patience::Background, upload_time(0), run).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_has_too_many_parts() {
        assert_eq!(part_size(1), MIN_PART);
        assert_eq!(part_size(70 << 30), MIN_PART);
        for size in [1_u64, 1 << 30, 200 << 30, 5 << 40] {
            assert!(size.div_ceil(part_size(size)) <= MAX_PARTS, "{size}");
        }
    }
}
