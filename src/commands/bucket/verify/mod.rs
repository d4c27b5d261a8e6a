//! `harmonia bucket verify`: reads what is in the bucket and proves it.
//!
//! First all narinfos: name, signature, references, size of the file of the NAR. Then those files: their hash, and the NAR that
//! each decodes to. What was deleted meanwhile is no fault.

mod against;
mod listed;
mod narinfos;
mod nars;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use harmonia_protocol::StoreDir;
use harmonia_protocol::signature::PublicKey;

use super::failure::BucketFailure;
use super::place;
use crate::bucket::{BucketStore, Index, Indexed};
use crate::cli::BucketVerify;
use crate::config::Config;
use crate::error::Error;
use crate::human_size::human_size;
use crate::output::{self, counted};
use crate::signing::SigningKeys;
use against::Against;
use listed::Listed;

/// Result of verifying a bucket.
#[derive(Debug, Default, PartialEq, Eq)]
struct Verified {
    /// Paths whose narinfos were read.
    paths: u64,
    /// Files that were read, and their size in bytes.
    files: u64,
    bytes: u64,
    /// Each line is about a path, or the bucket.
    faults: Vec<String>,
}

/// Verifies the bucket of the configuration, and prints faults and a summary.
pub(super) async fn run(config: &Config, options: &BucketVerify) -> Result<(), Error> {
    let bucket = place::configured(config)?;
    let store = place::open(config).await?;
    let mut keys = bucket.trusted_public_keys.clone();
    keys.extend(SigningKeys::load_and_warn(config)?.public_keys().cloned());
    if keys.is_empty() {
        tracing::warn!(
            "signatures are not checked: there is no key\n  help: set bucket.trusted_public_keys to the keys of the hosts that publish"
        );
    }
    let verified = verify(store, config.virtual_nix_store.clone(), keys, options.sample).await?;
    for fault in &verified.faults {
        output::line(fault);
    }
    let (paths, files) = (counted(verified.paths, "path"), counted(verified.files, "file"));
    let (bytes, faults) = (human_size(verified.bytes), counted(verified.faults.len() as u64, "fault"));
    output::line(format_args!("{}: verified {paths} and {files} of {bytes}, {faults}", bucket.location));
    if verified.faults.is_empty() { Ok(()) } else { Err(BucketFailure::Faulty(verified.faults.len()).into()) }
}

/// Verifies all of a bucket, or a sample.
async fn verify(
    store: Arc<BucketStore>,
    directory: StoreDir,
    keys: Vec<PublicKey>,
    sample: Option<usize>,
) -> Result<Verified, BucketFailure> {
    let listed = Listed::read(&store).await?;
    let paths = listed.paths(sample);
    let against = Arc::new(Against { store, directory, keys, listed });
    let mut verified = Verified { paths: paths.len() as u64, ..Verified::default() };
    verified.faults.extend(narinfos::cache_info(&against).await?);
    let (files, faults) = narinfos::check_all(&against, paths).await?;
    verified.faults.extend(faults);
    if sample.is_none() {
        note_strangers(&against, &files).await?;
    }
    let nars = nars::check_all(&against, files).await?;
    verified.faults.extend(nars.faults);
    (verified.files, verified.bytes) = (nars.files, nars.bytes);
    Ok(verified)
}

/// Logs what is there and of no use. It harms nobody.
async fn note_strangers(against: &Against, files: &narinfos::Files) -> Result<(), BucketFailure> {
    let unnamed: Vec<_> = against.listed.files().filter(|(file, _)| !files.contains_key(*file)).collect();
    if !unnamed.is_empty() {
        let bytes = unnamed.iter().map(|(_, size)| **size).sum();
        let (number, bytes) = (counted(unnamed.len() as u64, "file"), human_size(bytes));
        tracing::info!("{number} of {bytes} below nar/ have no narinfo: those of an upload that runs or has stopped");
    }
    let index = Index::new(0);
    index.refresh(&against.store).await?;
    let unindexed = against.listed.paths(None).iter().filter(|path| index.look_up(path) == Indexed::No).count();
    if unindexed > 0 {
        let paths = counted(unindexed as u64, "path");
        tracing::info!("{paths} are not in the index, so that no other host serves them: publish them again");
    }
    Ok(())
}
