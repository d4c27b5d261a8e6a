//! Lists folders of any size, without holding all of their names.

use std::pin::pin;

use futures_util::TryStreamExt as _;
use object_store::path::Path;

use super::failure::{BucketError, Operation};
use super::store::{BucketStore, ObjectInfo};
use crate::bucket::object_name::ObjectName;

/// Names that are listed before they are handed out: ten requests.
const PAGE: usize = 10_000;

impl BucketStore {
    /// Calls `visit` with each object in a folder, which ends in a slash or is empty for all of the bucket. Names of others are
    /// left out. They come in the order of their names, but from a directory in none. One request for each thousand.
    pub(crate) async fn walk(
        &self,
        folder: &str,
        mut visit: impl FnMut(ObjectName, ObjectInfo),
    ) -> Result<(), BucketError> {
        if !self.engine.lists_in_order() {
            return self.walk_directory(folder, visit).await;
        }
        let mut after = None;
        loop {
            let page = self.list(folder, after.as_ref(), PAGE).await?;
            // Otherwise this would never end.
            let is_again = after
                .zip(page.first())
                .is_some_and(|(last, (name, _)): (ObjectName, _)| name.to_string() <= last.to_string());
            if is_again {
                let cause = "the server lists again what it has listed";
                return Err(BucketError::other(Operation::List, folder.to_owned(), cause));
            }
            let is_last = page.len() < PAGE;
            after = page.last().map(|(name, _)| name.clone());
            for (name, info) in page {
                visit(name, info);
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Reads a directory, whose names have no order to go on from after an error.
    async fn walk_directory(
        &self,
        folder: &str,
        mut visit: impl FnMut(ObjectName, ObjectInfo),
    ) -> Result<(), BucketError> {
        let place =
            Path::parse(folder).map_err(|cause| BucketError::other(Operation::List, folder.to_owned(), cause))?;
        let mut objects = pin!(self.engine.objects().list(Some(&place).filter(|place| !place.is_root())));
        let failed = |error| BucketError::of(Operation::List, folder.to_owned(), &error, None);
        while let Some(meta) = objects.try_next().await.map_err(failed)? {
            if let Some(name) = ObjectName::parse(meta.location.as_ref()) {
                visit(name, meta.into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use object_store::ObjectStoreExt as _;
    use object_store::memory::InMemory;

    use super::*;
    use crate::bucket::narinfo::tests::path;

    #[tokio::test]
    async fn more_than_a_page_is_handed_out_once_and_in_order() {
        let memory = Arc::new(InMemory::new());
        let store = BucketStore::in_memory(&memory, 1);
        let all = PAGE + 7;
        for number in 0..all {
            let name = ObjectName::NarInfo(path(number as u64).hash_part());
            memory.put(&store.path(&name).unwrap(), Bytes::new().into()).await.unwrap();
        }
        let mut names = Vec::new();
        store.walk("", |name, _| names.push(name.to_string())).await.unwrap();
        assert_eq!(names.len(), all);
        assert!(names.is_sorted());
    }
}
