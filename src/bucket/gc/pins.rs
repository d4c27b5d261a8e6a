//! Pins in the bucket: setting, removing and listing them.

use harmonia_protocol::StorePath;

use super::error::GcError;
use super::pin_file::{MAX_PIN_FILE, PinFile};
use super::runs::Runs;
use crate::bucket::engine::{BucketStore, Patience, Replace};
use crate::bucket::object_name::{OWN, ObjectName, is_pin_name};

/// Upper bound of pins that are listed.
const MAX_PINS: usize = 10_000;

/// Name of a pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PinName(ObjectName);

/// Error of a text that cannot be the name of a pin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot be the name of a pin\n  help: use letters, digits, dots, hyphens and underscores, 64 at most")]
pub(crate) struct PinNameError(String);

impl PinName {
    /// Parses a name.
    pub(crate) fn parse(text: &str) -> Result<Self, PinNameError> {
        if is_pin_name(text) { Ok(Self(ObjectName::Pin(text.into()))) } else { Err(PinNameError(text.to_owned())) }
    }
}

/// Puts a pin, in place of one of the same name, and returns those of its roots that are not in the bucket. If a garbage collection is about to
/// delete one of them, this takes until that has ended.
pub(crate) async fn pin(store: &BucketStore, name: &PinName, pin: &PinFile) -> Result<Vec<StorePath>, GcError> {
    let bytes = pin.render().map_err(|cause| GcError::System(cause.to_string()))?;
    store.put(&name.0, bytes.into(), Replace::Always).await?;
    // A run whose plan is not there yet reads the pin before it deletes.
    let mut runs = Runs::find(store).await?;
    if runs.open().is_some_and(|condemned| pin.hash_parts().any(|root| condemned.has_path(&root))) {
        tracing::info!("waiting for the end of garbage collection {}", runs.last());
        runs.wait(store).await?;
    }
    let mut missing = Vec::new();
    for root in pin.roots.iter().filter_map(|root| StorePath::from_base_name(root).ok()) {
        if store.head(&ObjectName::NarInfo(root.hash_part()), Patience::Background).await?.is_none() {
            missing.push(root);
        }
    }
    Ok(missing)
}

/// Removes a pin. Returns whether there was one.
pub(crate) async fn unpin(store: &BucketStore, name: &PinName) -> Result<bool, GcError> {
    let is_there = store.head(&name.0, Patience::Background).await?.is_some();
    store.delete(&name.0).await?;
    Ok(is_there)
}

/// Returns the pins by their names; the reason for those that cannot be read.
pub(crate) async fn pins(store: &BucketStore) -> Result<Vec<(String, Result<PinFile, String>)>, GcError> {
    let mut pins = Vec::new();
    for (name, _) in store.list(&format!("{OWN}pins/"), None, MAX_PINS).await? {
        let ObjectName::Pin(text) = &name else { continue };
        if let Some(bytes) = store.get(&name, MAX_PIN_FILE, Patience::Background).await? {
            pins.push((text.to_string(), PinFile::parse(&bytes)));
        }
    }
    Ok(pins)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use crate::bucket::narinfo::tests::path;

    #[tokio::test]
    async fn a_pin_says_which_of_its_roots_are_missing() {
        let store = BucketStore::in_memory(&Arc::new(InMemory::new()), 100);
        let narinfo = ObjectName::NarInfo(path(1).hash_part());
        store.put(&narinfo, "text".into(), Replace::Always).await.unwrap();
        let roots = [1, 2].map(|number| path(number).base_name().to_owned()).to_vec();
        let file = PinFile { roots, since: 1, until: None, by: "alice".into() };
        let name = PinName::parse("release-1").unwrap();
        assert_eq!(pin(&store, &name, &file).await.unwrap(), [path(2)]);
        assert_eq!(pins(&store).await.unwrap(), [("release-1".to_owned(), Ok(file))]);
        assert!(unpin(&store, &name).await.unwrap() && !unpin(&store, &name).await.unwrap());
        assert!(pins(&store).await.unwrap().is_empty());
        assert!(PinName::parse("../x").is_err());
    }
}
