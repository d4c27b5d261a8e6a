//! `harmonia bucket mirror`: copies closures from any Nix binary cache into the bucket or a directory.
//!
//! Narinfos are read first, from the roots on; a path that is there already has its closure there too. Then paths go in batches,
//! references first, as a host publishes: listings and NARs before narinfos. Files are as the other cache has compressed them, and each is
//! proven on its way: its hash, and that of the NAR in it.

mod closure;
mod listings;
mod nars;
mod roots;
mod source;
mod spool;
mod target;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use harmonia_protocol::StorePath;
use harmonia_protocol::signature::PublicKey;

use super::failure::BucketFailure;
use super::place;
use crate::bucket::{BucketStore, Index, Indexed, Publication, Publisher};
use crate::cli::{BucketMirror, MirrorTarget};
use crate::commands::progress;
use crate::config::{BucketConfig, BucketLocation, Config, HostName};
use crate::error::Error;
use crate::human_size::human_size;
use crate::output::{self, counted};
use crate::store::unix_time;
use closure::{Closure, Mirrored};
use nars::MirrorNars;
use source::Source;
use target::Target;

/// Paths that are published together.
const BATCH_PATHS: usize = 500;
/// Size of their NARs from which on a batch has no more paths, in bytes. It bounds the spool.
const BATCH_BYTES: u64 = 1 << 30;
/// Attempts to publish a batch, since a transfer may break.
const ATTEMPTS: u32 = 3;

/// Result of a mirror.
#[derive(Debug, Default, PartialEq, Eq)]
struct Copied {
    /// Paths that were copied.
    paths: usize,
    /// Bytes of files that were sent.
    bytes: u64,
    /// Each line is about a path that is not there now.
    faults: Vec<String>,
}

/// Mirrors the closures of the paths in a file, and prints what is missing and a summary.
pub(super) async fn run(config: &Config, options: &BucketMirror) -> Result<(), Error> {
    let directory = config.virtual_nix_store.clone();
    let roots = roots::read(&options.store_paths, &directory)?;
    let mut keys = options.trusted_public_key.clone();
    if let (true, Some(bucket)) = (keys.is_empty(), &config.bucket) {
        keys.clone_from(&bucket.trusted_public_keys);
    }
    if keys.is_empty() {
        return Err(BucketFailure::NoKeys.into());
    }
    let place = settings(config, options.to.as_ref())?;
    let location = place.location.clone();
    let store = BucketStore::open(&place, Arc::default()).await.map_err(BucketFailure::from)?;
    let target = Target { store: Arc::new(store), directory, priority: config.priority, host: place.host };
    let source = Source::open(&options.from, config.bucket.as_ref()).await?;
    let copied = mirror(Arc::new(source), &target, roots, keys).await?;
    for fault in &copied.faults {
        output::line(fault);
    }
    let (paths, bytes) = (counted(copied.paths as u64, "path"), human_size(copied.bytes));
    output::line(format_args!("{location}: copied {paths}, sent {bytes}, {} missing", copied.faults.len()));
    if copied.faults.is_empty() { Ok(()) } else { Err(BucketFailure::Incomplete(copied.faults.len()).into()) }
}

/// Returns the settings of where paths go: the bucket of the configuration, another one of the same server, or a directory.
fn settings(config: &Config, to: Option<&MirrorTarget>) -> Result<BucketConfig, BucketFailure> {
    let directory = |path: &PathBuf| {
        let host = config.bucket.as_ref().map_or_else(HostName::mirror, |bucket| bucket.host.clone());
        BucketConfig::directory(path.clone(), host)
    };
    Ok(match to {
        None => place::configured(config)?.clone(),
        Some(MirrorTarget::Directory(path) | MirrorTarget::Bucket(BucketLocation::Directory(path))) => directory(path),
        Some(MirrorTarget::Bucket(location)) => {
            BucketConfig { location: location.clone(), ..place::configured(config)?.clone() }
        }
    })
}

/// Copies whatever is missing of the closures of these paths.
async fn mirror(
    source: Arc<Source>,
    target: &Target,
    roots: Vec<StorePath>,
    keys: Vec<PublicKey>,
) -> Result<Copied, BucketFailure> {
    source.check(&target.directory).await?;
    let claimed = target.store.claim(&target.directory, target.priority).await?;
    claimed.map_err(|found| BucketFailure::OtherStore { found, expected: target.directory.clone() })?;
    let trusted: Arc<[_]> = keys.clone().into();
    let Closure { paths, faults } = closure::read(&source, target, roots, keys).await?;
    let index = Index::new(0);
    index.refresh(&target.store).await?;
    let (store, directory) = (Arc::clone(&target.store), target.directory.clone());
    let epoch = unix_time() * 1000;
    let publisher = Publisher::new(store, directory, target.host.clone(), epoch, None);
    publisher.set_trusted(trusted);
    let mut copied = Copied { faults, ..Copied::default() };
    let bar = progress::bar(paths.len(), paths.iter().map(Mirrored::nar_size).sum());
    let mut paths = paths.into_iter().peekable();
    while paths.peek().is_some() {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_PATHS && bytes < BATCH_BYTES {
            let Some(path) = paths.next() else { break };
            bytes += path.nar_size();
            batch.push(path);
        }
        publish((&publisher, &index, target), &source, batch, &mut copied, &bar).await?;
    }
    Ok(copied)
}

/// Publishes a batch whose references are in it or were published before.
async fn publish(
    (publisher, index, target): (&Publisher, &Index, &Target),
    source: &Arc<Source>,
    batch: Vec<Mirrored>,
    copied: &mut Copied,
    bar: &progress::Bar,
) -> Result<(), BucketFailure> {
    let sizes: Vec<_> = batch.iter().map(Mirrored::nar_size).collect();
    let mut nars = MirrorNars::new(Arc::clone(source));
    let mut publications = Vec::new();
    for path in batch {
        match nars.add(path).await? {
            Ok(narinfo) => publications.push(Publication { narinfo, listing: None, log: None }),
            Err(fault) => copied.faults.push(fault),
        }
    }
    let paths = publications.iter().map(|publication| publication.narinfo.path().hash_part());
    listings::copy(source, &target.store, paths.collect()).await?;
    let mut attempt = 1;
    let withheld = loop {
        let indexed = |path: &_| index.look_up(path) != Indexed::No;
        let done = publisher.publish(&publications, &nars, indexed).await?;
        copied.bytes += done.nar_bytes;
        copied.paths += done.narinfos;
        if let Some((_, error)) = done.failed.into_iter().next() {
            return Err(error.into());
        }
        if done.withheld.is_empty() || attempt >= ATTEMPTS {
            break done.withheld.iter().map(|withheld| withheld.path).collect::<Vec<_>>();
        }
        attempt += 1;
    };
    for path in publications.iter().map(|publication| publication.narinfo.path()) {
        if withheld.contains(&path.hash_part()) {
            copied.faults.push(format!("{path}: its NAR or a reference could not be copied"));
        }
    }
    for size in sizes {
        bar.done(size);
    }
    Ok(())
}
