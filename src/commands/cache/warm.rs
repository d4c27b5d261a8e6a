//! `harmonia cache warm`: compresses NARs before they are requested.
//!
//! A running server has locked the directory, so it is asked to do so by its admin socket. Without a server this process
//! compresses them.

use std::collections::HashSet;
use std::sync::Arc;

use harmonia_protocol::{HashPart, StorePath};
use tokio::task::JoinSet;

use super::place::Place;
use crate::admin::{Client, ClosurePath, Paths, Queued, WarmProgress};
use crate::commands::progress;
use crate::config::Config;
use crate::error::Error;
use crate::nar_cache::{DirectoryError, NarCache, Removed, WarmOutcome, resolve};
use crate::store::Store;

/// Paths in one request, which stays below the server's limit with them.
const BATCH: usize = 10_000;
/// Limit on concurrent requests: half of the admin socket's.
const MAX_REQUESTS: usize = 8;

/// Numbers of NARs by outcome.
#[derive(Debug, Default)]
pub(super) struct Warmed {
    /// NARs that were compressed.
    pub(super) compressed: u64,
    /// NARs that were in the cache already.
    pub(super) cached: u64,
    /// NARs that do not fit into the cache and are served uncompressed.
    pub(super) too_large: u64,
}

/// Compresses the NARs of these paths, and with `recursive` of their closures. Fails with the first one that fails.
pub(super) async fn run(place: Place, hashes: &[HashPart], recursive: bool) -> Result<Warmed, Error> {
    let concurrency = (2 * place.config.encoders.threads).min(MAX_REQUESTS);
    let compressor = Arc::new(Compressor::find(place)?);
    let mut pending = compressor.closure(hashes, recursive).await?;
    let bar = progress::bar(pending.len(), pending.iter().map(|(_, nar_size)| nar_size).sum());
    let (mut warmed, mut running) = (Warmed::default(), JoinSet::new());
    loop {
        while running.len() < concurrency {
            let Some((hash, nar_size)) = pending.pop() else { break };
            let compressor = Arc::clone(&compressor);
            running.spawn(async move { Ok::<_, Error>((compressor.compress(hash).await?, nar_size)) });
        }
        let Some(made) = running.join_next().await else { break };
        let cause = |panicked: tokio::task::JoinError| Error::System { doing: "compress", cause: panicked.into() };
        let (outcome, nar_size) = made.unwrap_or_else(|panicked| Err(cause(panicked)))?;
        match outcome {
            WarmOutcome::Compressed => warmed.compressed += 1,
            WarmOutcome::Cached => warmed.cached += 1,
            WarmOutcome::TooLarge => warmed.too_large += 1,
        }
        bar.done(nar_size);
    }
    Ok(warmed)
}

/// Queues these paths on the running server, without waiting for them. Returns the length of its queue.
pub(super) async fn enqueue(place: Place, hashes: &[HashPart], recursive: bool) -> Result<usize, Error> {
    let server = place.server?;
    let mut queue_len = 0;
    for (nth, batch) in hashes.chunks(BATCH).enumerate() {
        let Queued { queued, waiting } = server.post("/cache/warm", &paths(batch, recursive)).await?;
        if queued < batch.len() {
            return Err(Error::QueueFull { left: hashes.len() - nth * BATCH - queued, waiting });
        }
        queue_len = waiting;
    }
    Ok(queue_len)
}

/// Asks the server to remove the NARs of these paths.
pub(super) async fn remove(server: &Client, hashes: &[HashPart], recursive: bool) -> Result<Removed, Error> {
    let mut all = Removed::default();
    for batch in hashes.chunks(BATCH) {
        let Removed { nars, bytes } = server.post("/cache/remove", &paths(batch, recursive)).await?;
        all = Removed { nars: all.nars + nars, bytes: all.bytes + bytes };
    }
    Ok(all)
}

/// Returns the body of a request.
fn paths(hashes: &[HashPart], recursive: bool) -> Paths {
    Paths { hash_parts: hashes.iter().map(ToString::to_string).collect(), recursive }
}

/// The process that compresses: the running server, or this one.
enum Compressor {
    Server(Client),
    Here { store: Arc<Store>, nars: Arc<NarCache> },
}

impl Compressor {
    fn find(place: Place) -> Result<Self, Error> {
        let Place { mut config, nars, server } = place;
        let why = match server {
            Ok(server) => return Ok(Self::Server(server)),
            Err(why) => why,
        };
        config.nar_cache = Some(nars);
        Self::here(&config).map_err(|error| match error {
            // A server has the directory and cannot be reached.
            Error::NarCacheDirectory(DirectoryError::Locked(dir)) => Error::InUse { dir, why },
            error => error,
        })
    }

    fn here(config: &Config) -> Result<Self, Error> {
        let store = Arc::new(Store::new(config, &Arc::default()));
        let nars = NarCache::open_for_command(config, Arc::clone(&store))?.ok_or(Error::NoNarCache)?;
        Ok(Self::Here { store, nars })
    }

    /// Returns the paths to compress, without duplicates, and the sizes of their NARs in bytes.
    async fn closure(&self, hashes: &[HashPart], recursive: bool) -> Result<Vec<(HashPart, u64)>, Error> {
        let server = match self {
            Self::Server(server) => server,
            Self::Here { store, .. } => {
                let members = resolve(store, hashes, recursive).await?;
                return Ok(members.iter().map(|member| (member.path.hash_part(), member.nar_size)).collect());
            }
        };
        let (mut members, mut seen) = (Vec::new(), HashSet::new());
        for batch in hashes.chunks(BATCH) {
            let found: Vec<ClosurePath> = server.post("/cache/closure", &paths(batch, recursive)).await?;
            for ClosurePath { path, nar_size } in found {
                let parsed = StorePath::from_base_name(&path).map(|path| path.hash_part());
                let hash = parsed.map_err(|_| Error::NoStorePath(path.into()))?;
                members.extend(seen.insert(hash).then_some((hash, nar_size)));
            }
        }
        Ok(members)
    }

    async fn compress(&self, hash_part: HashPart) -> Result<WarmOutcome, Error> {
        match self {
            Self::Server(server) => loop {
                let WarmProgress { outcome } = server.post("/cache/make", &hash_part.to_string()).await?;
                if let Some(outcome) = outcome {
                    return Ok(outcome);
                }
            },
            Self::Here { nars, .. } => Ok(nars.warm(hash_part).await?),
        }
    }
}
