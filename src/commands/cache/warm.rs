//! `harmonia cache warm`: compresses NARs before anybody asks for them.
//!
//! A running server has the directory, so it is asked by its admin socket; where none runs the NARs are made here.

use std::collections::HashSet;
use std::sync::Arc;

use harmonia_protocol::{HashPart, StorePath};
use tokio::task::JoinSet;

use super::place::Place;
use super::progress;
use crate::admin::{Client, Made, Member, Paths, Taken};
use crate::config::Config;
use crate::error::Error;
use crate::nar_cache::{DirectoryError, NarCache, Removed, WarmOutcome, resolve};
use crate::store::Store;

/// Paths of one request, so that it stays below the server's bound.
const BATCH: usize = 10_000;
/// Requests at a time: half of what an admin socket takes.
const MAX_REQUESTS: usize = 8;

/// The outcome of all paths.
#[derive(Debug, Default)]
pub(super) struct Warmed {
    /// NARs that were made.
    pub(super) made: usize,
    /// NARs that were there.
    pub(super) found: usize,
    /// NARs that are served as they are.
    pub(super) plain: usize,
}

/// Compresses the NARs of these paths, and of all that they refer to if that is meant, and waits for it. The first one that
/// fails is the error.
pub(super) async fn run(place: Place, hashes: &[HashPart], recursive: bool) -> Result<Warmed, Error> {
    let at_once = (2 * place.config.encoders.threads).min(MAX_REQUESTS);
    let maker = Arc::new(Maker::find(place)?);
    let mut pending = maker.members(hashes, recursive).await?;
    let bar = progress::bar(pending.len(), pending.iter().map(|(_, nar_size)| nar_size).sum());
    let (mut warmed, mut making) = (Warmed::default(), JoinSet::new());
    loop {
        while making.len() < at_once {
            let Some((hash, nar_size)) = pending.pop() else { break };
            let maker = Arc::clone(&maker);
            making.spawn(async move { Ok::<_, Error>((maker.make(hash).await?, nar_size)) });
        }
        let Some(made) = making.join_next().await else { break };
        let cause = |panicked: tokio::task::JoinError| Error::System { doing: "compress", cause: panicked.into() };
        let (outcome, nar_size) = made.unwrap_or_else(|panicked| Err(cause(panicked)))?;
        match outcome {
            WarmOutcome::Made => warmed.made += 1,
            WarmOutcome::Found => warmed.found += 1,
            WarmOutcome::Plain => warmed.plain += 1,
        }
        bar.done(nar_size);
    }
    Ok(warmed)
}

/// Hands these paths to the running server, and does not wait for more; how many it has to make now.
pub(super) async fn hand_over(place: Place, hashes: &[HashPart], recursive: bool) -> Result<usize, Error> {
    let server = place.server?;
    let mut all_waiting = 0;
    for (nth, batch) in hashes.chunks(BATCH).enumerate() {
        let Taken { taken, waiting } = server.post("/cache/warm", &paths(batch, recursive)).await?;
        if taken < batch.len() {
            return Err(Error::QueueFull { left: hashes.len() - nth * BATCH - taken, waiting });
        }
        all_waiting = waiting;
    }
    Ok(all_waiting)
}

/// Has the server remove the NARs of these paths.
pub(super) async fn remove(server: &Client, hashes: &[HashPart], recursive: bool) -> Result<Removed, Error> {
    let mut all = Removed::default();
    for batch in hashes.chunks(BATCH) {
        let Removed { nars, bytes } = server.post("/cache/remove", &paths(batch, recursive)).await?;
        all = Removed { nars: all.nars + nars, bytes: all.bytes + bytes };
    }
    Ok(all)
}

/// Paths for a request.
fn paths(hashes: &[HashPart], recursive: bool) -> Paths {
    Paths { hash_parts: hashes.iter().map(ToString::to_string).collect(), recursive }
}

/// The maker of NARs: a server that runs, or this process.
enum Maker {
    Server(Client),
    Here { store: Arc<Store>, nars: Arc<NarCache> },
}

impl Maker {
    fn find(place: Place) -> Result<Self, Error> {
        let Place { mut config, nars, server } = place;
        let why = match server {
            Ok(server) => return Ok(Self::Server(server)),
            Err(why) => why,
        };
        config.nar_cache = Some(nars);
        Self::here(&config).map_err(|error| match error {
            // A server is there, which cannot be asked.
            Error::NarCacheDirectory(DirectoryError::Locked(dir)) => Error::InUse { dir, why },
            error => error,
        })
    }

    fn here(config: &Config) -> Result<Self, Error> {
        let store = Arc::new(Store::new(config, &Arc::default()));
        let nars = NarCache::open_for_command(config, Arc::clone(&store))?.ok_or(Error::NoNarCache)?;
        Ok(Self::Here { store, nars })
    }

    /// The paths whose NARs are to be made, each once, and the lengths of these in bytes.
    async fn members(&self, hashes: &[HashPart], recursive: bool) -> Result<Vec<(HashPart, u64)>, Error> {
        let server = match self {
            Self::Server(server) => server,
            Self::Here { store, .. } => {
                let members = resolve(store, hashes, recursive).await?;
                return Ok(members.iter().map(|member| (member.path.hash_part(), member.nar_size)).collect());
            }
        };
        let (mut members, mut seen) = (Vec::new(), HashSet::new());
        for batch in hashes.chunks(BATCH) {
            let found: Vec<Member> = server.post("/cache/closure", &paths(batch, recursive)).await?;
            for Member { path, nar_size } in found {
                let parsed = StorePath::from_base_name(&path).map(|path| path.hash_part());
                let hash = parsed.map_err(|_| Error::NoStorePath(path.into()))?;
                members.extend(seen.insert(hash).then_some((hash, nar_size)));
            }
        }
        Ok(members)
    }

    async fn make(&self, hash_part: HashPart) -> Result<WarmOutcome, Error> {
        match self {
            Self::Server(server) => loop {
                let Made { outcome } = server.post("/cache/make", &hash_part.to_string()).await?;
                if let Some(outcome) = outcome {
                    return Ok(outcome);
                }
            },
            Self::Here { nars, .. } => Ok(nars.warm(hash_part).await?),
        }
    }
}
