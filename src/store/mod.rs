//! The store as the handlers see it: valid paths, their NARs and files, realisations, and the logs of builds.
//!
//! Everything but files, debug info and logs comes from nix-daemon over pooled connections; this module never opens Nix's
//! database and never speaks HTTP. What it waits for it has by turns with the others, for the client that it is told
//! of. Its promise: a path is `Ok(None)` only if the daemon itself said that it is not valid,
//! and a [`Nar`] that ends well has exactly the size and the hash of its path info.

mod build_log;
mod closure;
mod contents;
mod deadline;
mod debug_info;
mod dial;
mod directory;
mod error;
mod example;
mod flights;
mod held_back;
mod info_cache;
mod inventory;
mod lease;
mod nar;
mod nar_events;
mod nar_files;
mod nars;
mod path_status;
mod permission;
mod pool;
mod presence;
mod proven;
mod realisation;
mod regular_file;
mod report;
mod sighting;
#[cfg(test)]
pub(crate) mod tests;
mod transport;
mod tree;
mod valid_path;
mod verdict;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use deadpool::managed::BuildError;
use harmonia_protocol::derivation_output::DerivationOutput;
use harmonia_protocol::hash::NarHash;
use harmonia_protocol::nar::Name;
use harmonia_protocol::operation::{QueryAllValidPaths, QueryPathFromHashPart, QueryPathInfo};
use harmonia_protocol::realisation::Realisation;
use harmonia_protocol::session::Session;
use harmonia_protocol::signature_set::KnownKeys;
use harmonia_protocol::{HashPart, StoreDir, StorePath};
use tokio::sync::{Semaphore, watch};

pub use build_log::{BuildLog, LogForm};
pub use closure::{Closure, ClosureLimits, ClosureMember, Missing};
pub use deadline::Step;
pub use debug_info::{BuildId, InvalidBuildId};
pub use directory::{Directory, EntryKind, Names};
pub use error::StoreError;
pub use held_back::HeldBackPath;
pub use inventory::Inventory;
pub use nar::Nar;
pub use nar_events::NarEvents;
pub use path_status::PathStatus;
pub use presence::{Outage, Presence};
pub use realisation::NoRealisation;
pub use regular_file::RegularFile;
pub use tree::{Found, FoundObject};
pub use valid_path::{CompactInfo, Signed, ValidPath};
pub use verdict::Verdict;

use crate::config::Config;
use crate::fairness::ClientId;
use crate::metrics::Metrics;
use debug_info::DebugInfoIndex;
use dial::Dialer;
use held_back::HeldBack;
use info_cache::InfoCache;
use inventory::Inventories;
use lease::{Held, Lease};
use nars::Nars;
use pool::Pool;
use realisation::Realisations;

/// They take microseconds, unless the disk is slow.
const WALKS: usize = 4;

/// In place of a directory that is not on this machine: nothing can be in it.
const NOWHERE: &str = "/dev/null";

/// A path of any store directory that is not there.
const NO_PATH: &str = "00000000000000000000000000000000-none";

/// The store of one daemon.
#[derive(Debug)]
pub struct Store {
    directory: StoreDir,
    real_directory: PathBuf,
    log_dir: PathBuf,
    pool: Arc<Pool>,
    infos: Arc<InfoCache>,
    nars: Nars,
    held_back: Arc<HeldBack>,
    /// Nothing where paths are not kept from the garbage collector.
    lease: Option<Lease>,
    realisations: Realisations,
    /// Ways through the store's files that are looked for at one time, up to 128 descriptors each.
    walks: Semaphore,
    debug_info: DebugInfoIndex,
    inventories: Arc<Inventories>,
}

impl Store {
    /// A store whose daemon is reached as `config` says; nothing is connected yet. Must be called in a runtime.
    pub fn new(config: &Config, metrics: &Arc<Metrics>) -> Result<Self, BuildError> {
        let directory = config.virtual_nix_store.clone();
        let dialer = Dialer::new(config.daemon.address.clone(), directory.clone(), Arc::clone(metrics));
        let pool = Pool::new(&dialer, config.max_metadata_connections, config.max_nar_streams, Arc::clone(metrics))?;
        let pool = Arc::new(pool);
        let here = |place: &Option<PathBuf>| place.clone().unwrap_or_else(|| NOWHERE.into());
        let (real_directory, log_dir) = (here(&config.real_nix_store), here(&config.log_dir));
        let max_bytes = usize::try_from(config.narinfo_cache.max_size.bytes()).unwrap_or(usize::MAX);
        let ttl = config.narinfo_cache.ttl;
        let infos = InfoCache::new(Arc::clone(&pool), &real_directory, max_bytes, ttl, Arc::clone(metrics));
        let held_back = Arc::new(HeldBack::new(&real_directory, metrics));
        let nars =
            Nars::new(config, &real_directory, Arc::clone(&pool), Arc::clone(&infos), Arc::clone(&held_back), metrics);
        let lease = config.gc_lease.map(|length| Lease::new(length, &pool, &infos, metrics));
        let debug_info = DebugInfoIndex::new();
        let inventories = Inventories::new(config.browse);
        let (realisations, walks) = (Realisations::new(), Semaphore::new(WALKS));
        Ok(Self {
            directory,
            real_directory,
            log_dir,
            pool,
            infos,
            nars,
            held_back,
            lease,
            realisations,
            walks,
            debug_info,
            inventories,
        })
    }

    /// The logical store directory.
    #[must_use]
    pub const fn directory(&self) -> &StoreDir {
        &self.directory
    }

    /// Keeps signatures of these keys before those of others, where a path has more than are kept.
    pub fn know_keys(&self, keys: KnownKeys) {
        self.pool.know_keys(Arc::new(keys));
    }

    /// Takes up what of these settings can change: how long an answer of the daemon is used.
    pub fn adjust(&self, config: &Config) {
        self.infos.use_for(config.narinfo_cache.ttl);
    }

    /// Connects, if there is no idle connection, and returns what was agreed on with the daemon.
    pub async fn session(&self) -> Result<Session, StoreError> {
        self.pool.session().await
    }

    /// Tells whether the daemon was there when a connection to it was last attempted, and of changes.
    #[must_use]
    pub fn outage(&self) -> watch::Receiver<Option<Outage>> {
        self.pool.outage()
    }

    /// Brings the metrics of connections and memory up to date.
    pub fn record(&self) {
        self.pool.record();
        self.infos.record();
    }

    /// Whether the daemon answers questions about paths of this store directory, found out by two that cost it next to
    /// nothing. Tells sooner than other questions that it does not.
    pub async fn answers(&self) -> Result<(), StoreError> {
        let questions = async {
            self.pool.call(ClientId::Server, &QueryPathFromHashPart(HashPart::ZERO)).await?;
            let Ok(no_path) = StorePath::from_base_name(NO_PATH) else { return Ok(()) };
            // The protocol does not tell where the daemon's store is, but daemons refuse paths that lie elsewhere.
            match self.pool.call(ClientId::Server, &QueryPathInfo(&no_path)).await {
                Err(StoreError::Client { message, before_reply: false }) => {
                    Err(StoreError::OtherStoreDirectory { ours: self.directory.clone(), refusal: message })
                }
                result => result.map(drop),
            }
        };
        match Step::Readiness.bound(questions).await {
            // The daemon has not been late yet if there was none.
            Err(StoreError::Late(Step::Readiness)) => {
                Err(self.pool.trouble().unwrap_or(StoreError::Late(Step::Readiness)))
            }
            result => result,
        }
    }

    /// Looks again at paths that are held back, whenever it is time, without an end.
    pub async fn watch_held_back(&self) {
        self.held_back.watch(self).await;
    }

    /// Takes note that a client has been told of a path: keeps it alive for a while, and does as [`Self::ask_ahead`].
    pub fn given_out(&self, valid: &Arc<ValidPath>) {
        if let Some(lease) = &self.lease {
            lease.extend(valid);
        }
        self.ask_ahead(valid);
    }

    /// Keeps what has been made of a path for as long as what is known of the path.
    pub fn keep_signed(&self, valid: &ValidPath, by: &Arc<()>, signed: Signed) {
        self.infos.keep_signed(valid, by, signed);
    }

    /// Expects requests for the references of a path: asks the daemon about them in the background.
    pub fn ask_ahead(&self, valid: &ValidPath) {
        self.infos.ask_ahead(valid);
    }

    /// Waits for the next path that has become known before anybody asked for it. There is no next one only at the end of
    /// the program. One that nobody waits for is not told of when there are many.
    pub async fn learned_ahead(&self) -> Option<Arc<ValidPath>> {
        self.infos.learned_ahead().await
    }

    /// The hash parts of all valid paths.
    pub async fn all_paths(&self) -> Result<Vec<HashPart>, StoreError> {
        let paths = self.pool.call(ClientId::Server, &QueryAllValidPaths).await?;
        Ok(paths.iter().map(StorePath::hash_part).collect())
    }

    /// Some valid path, to see whether the daemon tells about paths; `None` if the store is empty.
    pub async fn any_path(&self) -> Result<Option<Arc<ValidPath>>, StoreError> {
        match self.pool.call(ClientId::Server, &QueryAllValidPaths).await?.first() {
            Some(path) => self.infos.valid_path(path.hash_part(), ClientId::Server).await,
            None => Ok(None),
        }
    }

    /// The path that an output of a content-addressed derivation is, or why the daemon knows of none.
    pub async fn realisation(
        &self,
        output: &DerivationOutput,
        client: ClientId,
    ) -> Result<Result<Realisation, NoRealisation>, StoreError> {
        self.realisations.find(&self.pool, output, client).await
    }

    /// The file or directory that `names` lead to from a valid path, where the store is visible here, and the valid path
    /// that it is in; `None` if they lead nowhere, out of the store, or to a path that is not valid.
    pub async fn find(
        &self,
        valid: &Arc<ValidPath>,
        names: &[Name],
        client: ClientId,
    ) -> Result<Option<(Found, Arc<ValidPath>)>, StoreError> {
        let look = || tree::find(&self.directory, &self.real_directory, &valid.path, names);
        let found = {
            // It is never closed.
            let _walk = self.walks.acquire().await;
            tokio::task::block_in_place(look)?
        };
        let Some(found) = found else { return Ok(None) };
        if found.store_path == valid.path {
            return Ok(Some((found, Arc::clone(valid))));
        }
        let other = self.valid_path(found.store_path.hash_part(), client).await?;
        Ok(other.filter(|other| other.path == found.store_path).map(|other| (found, other)))
    }

    /// The log of the derivation with this hash part, or of the build of the output that has it.
    pub async fn build_log(&self, hash: HashPart, client: ClientId) -> Result<Option<BuildLog>, StoreError> {
        let find = |derivation| tokio::task::block_in_place(|| build_log::find(&self.log_dir, derivation));
        if let Some(log) = find(hash)? {
            return Ok(Some(log));
        }
        match self.infos.valid_path(hash, client).await?.and_then(|valid| valid.info.expand().deriver) {
            Some(deriver) => find(deriver.hash_part()),
            None => Ok(None),
        }
    }

    /// A valid path that has the debug info of this build as [`BuildId::member`] and is `wanted`; `None` if there is none,
    /// or if the store is not visible here. To be answered, [`Self::make_index`] has to run.
    pub async fn debug_info(
        &self,
        id: &BuildId,
        wanted: impl Fn(&ValidPath) -> bool,
        client: ClientId,
    ) -> Result<Option<Arc<ValidPath>>, StoreError> {
        self.debug_info.find(self, id, wanted, client).await
    }

    /// A valid path that is known, whose NAR has this hash, and that is `wanted`; `None` if there is none. The daemon cannot
    /// be asked for one, but whoever knows the hash of a NAR has it from a narinfo.
    pub async fn path_of_nar(
        &self,
        hash: &NarHash,
        wanted: impl Fn(&ValidPath) -> bool,
        client: ClientId,
    ) -> Result<Option<Arc<ValidPath>>, StoreError> {
        let known = {
            // It is never closed.
            let _walk = self.walks.acquire().await;
            tokio::task::block_in_place(|| self.infos.with_nar(hash, &wanted))
        };
        for path in known {
            let valid = self.valid_path(path, client).await?;
            if let Some(valid) = valid.filter(|valid| valid.info.nar_hash == *hash && wanted(valid)) {
                return Ok(Some(valid));
            }
        }
        Ok(None)
    }

    /// Looks through the store for debug info whenever a question needs it, without an end.
    pub async fn make_index(&self) {
        self.debug_info.scan_when_wanted(self).await;
    }

    /// Does what blocks on the store's files, of which it is given the directory.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let directory = self.real_directory.clone();
        let done = tokio::task::spawn_blocking(move || work(&directory)).await;
        done.map_err(|error| StoreError::file(&self.real_directory, &io::Error::other(error)))?
    }

    /// Begins to read the NAR of a valid path, to be hashed or not as the configuration says. The garbage collector leaves
    /// the path alone until the result is dropped.
    pub async fn nar(&self, valid: &Arc<ValidPath>, client: ClientId) -> Result<Nar, StoreError> {
        let held = self.hold(valid).await?;
        Ok(self.nars.whole(valid, client).await?.holding(held))
    }

    /// The same, and hashes it in any case: what is made of it is kept for longer than this program remembers.
    pub async fn nar_for_keeping(&self, valid: &Arc<ValidPath>, client: ClientId) -> Result<Nar, StoreError> {
        let held = self.hold(valid).await?;
        Ok(self.nars.hashed(valid, client).await?.holding(held))
    }

    /// Begins to tell what is in the NAR of a valid path, on the terms of [`Self::nar`].
    pub async fn nar_events(&self, valid: &Arc<ValidPath>, client: ClientId) -> Result<NarEvents, StoreError> {
        let held = self.hold(valid).await?;
        Ok(NarEvents::of(self.nars.to_index(valid, client).await?.holding(held)))
    }

    /// So many bytes of the NAR from `first` on, if the store's files are to be read and no others have to be read first.
    pub async fn nar_part_at_hand(
        &self,
        valid: &Arc<ValidPath>,
        first: u64,
        length: u64,
        client: ClientId,
    ) -> Option<Nar> {
        let part = self.nars.part_at_hand(valid, first, length, client).await?;
        Some(part.holding(self.hold(valid).await.ok()?))
    }

    /// A NAR that has these bytes: a part of it, where that can be read alone, else all of it. It is hashed only if they reach
    /// its end, since nothing is proven before.
    pub async fn nar_part(
        &self,
        valid: &Arc<ValidPath>,
        first: u64,
        length: u64,
        client: ClientId,
    ) -> Result<Nar, StoreError> {
        let held = self.hold(valid).await?;
        Ok(self.nars.part(valid, first, length, client).await?.holding(held))
    }

    /// Keeps a path from the garbage collector, where that is wanted; an error says that it is not valid any more.
    async fn hold(&self, valid: &Arc<ValidPath>) -> Result<Option<Held>, StoreError> {
        match &self.lease {
            Some(lease) => lease.hold(valid).await.map(Some),
            None => Ok(None),
        }
    }
}
