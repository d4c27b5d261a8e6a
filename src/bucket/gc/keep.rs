//! Paths that are kept: pins, what hosts root, and what was used lately, as the objects in the bucket have it.
//!
//! An object that cannot be read ends the run: what it keeps is not known.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, SystemTime};

use harmonia_protocol::HashPart;

use super::contents::Contents;
use super::error::GcError;
use super::hash_list::{self, MAX_HASH_LIST};
use super::pin_file::{MAX_PIN_FILE, PinFile};
use crate::bucket::engine::{BucketStore, Patience};
use crate::bucket::object_name::ObjectName;
use crate::store::seconds_since_epoch;

/// Time for which the roots of a host are kept after it has last written them. It writes them each hour.
const LIVE: Duration = Duration::from_secs(14 * 86_400);

/// Paths that are kept, apart from young ones.
#[derive(Debug, Default)]
pub(crate) struct Keep {
    /// Roots of pins, and of hosts.
    pub(crate) roots: HashSet<HashPart>,
    /// When paths were last used, in seconds since 1970.
    pub(crate) used: BTreeMap<HashPart, u64>,
}

impl Keep {
    /// Reads the objects that are listed in `contents`. What was used longer ago than `keep` is left out. `now` is the time by
    /// the server's clock.
    pub(crate) async fn read(
        store: &BucketStore,
        contents: &Contents,
        now: SystemTime,
        keep: Duration,
    ) -> Result<Self, GcError> {
        let mut kept = Self { roots: contents.foreign.clone(), ..Self::default() };
        for name in contents.others.keys() {
            match name {
                ObjectName::Pin(_) => {
                    let Some(bytes) = store.get(name, MAX_PIN_FILE, Patience::Background).await? else { continue };
                    let pin = PinFile::parse(&bytes).map_err(|cause| refuse(name, cause))?;
                    if pin.is_in_force(seconds_since_epoch(now)) {
                        kept.roots.extend(pin.hash_parts());
                    }
                }
                ObjectName::Roots(_) => {
                    let got = store.get_dated(name, MAX_HASH_LIST, Patience::Background).await?;
                    if let Some((bytes, modified)) = got {
                        if now.duration_since(modified).unwrap_or_default() <= LIVE {
                            kept.roots.extend(hashes(name, &bytes)?);
                        }
                    }
                }
                ObjectName::Used(day, _) if now.duration_since(day.end()).unwrap_or_default() <= keep => {
                    if let Some(bytes) = store.get(name, MAX_HASH_LIST, Patience::Background).await? {
                        let end = seconds_since_epoch(day.end());
                        for hash in hashes(name, &bytes)? {
                            let last = kept.used.entry(hash).or_default();
                            *last = end.max(*last);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(kept)
    }

    /// Returns all paths that it names.
    pub(crate) fn paths(&self) -> impl Iterator<Item = HashPart> + '_ {
        self.roots.iter().chain(self.used.keys()).copied()
    }
}

fn hashes(name: &ObjectName, bytes: &[u8]) -> Result<BTreeSet<HashPart>, GcError> {
    hash_list::decode(bytes).ok_or_else(|| refuse(name, "not a list of hash parts".to_owned()))
}

fn refuse(name: &ObjectName, cause: String) -> GcError {
    GcError::Object { object: name.to_string(), cause }
}
