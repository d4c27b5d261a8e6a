//! Reads the files of NARs whole, and proves them.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::against::Against;
use super::narinfos::Files;
use crate::bucket::{BucketError, BucketNarInfo, BucketStore, NarFile, ObjectName, Patience};
use crate::commands::bucket::nar_proof::NarProof;
use crate::commands::progress;
use crate::push::nar_check::Expected;

/// Files that are read at a time, each on a thread that decodes.
const READS: usize = 4;
/// Attempts to read a file.
const ATTEMPTS: u32 = 4;

/// Result of reading files.
#[derive(Debug, Default)]
pub(super) struct Nars {
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) faults: Vec<String>,
}

/// Proves each of these files once.
pub(super) async fn check_all(against: &Arc<Against>, files: Files) -> Result<Nars, BucketError> {
    let mut files: Vec<_> = files.into_iter().filter(|(_, narinfos)| !narinfos.is_empty()).collect();
    // The biggest first, so that none of them remains at the end.
    files.sort_unstable_by_key(|(file, narinfos)| (std::cmp::Reverse(narinfos[0].file_size()), *file));
    let bar = progress::bar(files.len(), files.iter().map(|(_, narinfos)| narinfos[0].file_size()).sum());
    let (mut nars, mut running, mut files) = (Nars::default(), JoinSet::new(), files.into_iter());
    loop {
        while running.len() < READS {
            let Some((file, narinfos)) = files.next() else { break };
            let against = Arc::clone(against);
            running.spawn(async move {
                let size = narinfos[0].file_size();
                check(&against.store, file, &narinfos).await.map(|faults| (size, faults))
            });
        }
        let Some(checked) = running.join_next().await else { break };
        let (size, faults) = checked.unwrap_or_else(|panicked| Ok((0, vec![panicked.to_string()])))?;
        bar.done(size);
        nars.files += 1;
        nars.bytes += size;
        nars.faults.extend(faults);
    }
    nars.faults.sort();
    Ok(nars)
}

/// Returns what is wrong with a file, a line for each path that is affected. All of these narinfos name it.
async fn check(store: &BucketStore, file: NarFile, narinfos: &[BucketNarInfo]) -> Result<Vec<String>, BucketError> {
    let of = |narinfo: &BucketNarInfo, fault: &str| {
        let name = ObjectName::NarInfo(narinfo.path().hash_part());
        format!("{name}: {}: nar/{file}: {fault}", narinfo.path())
    };
    let first = &narinfos[0];
    if let Some(fault) = prove(store, file, first).await? {
        return Ok(narinfos.iter().map(|narinfo| of(narinfo, &fault)).collect());
    }
    let is_other =
        |narinfo: &&BucketNarInfo| (narinfo.nar_hash(), narinfo.nar_size()) != (first.nar_hash(), first.nar_size());
    Ok(narinfos.iter().filter(is_other).map(|narinfo| of(narinfo, "it has another NarHash")).collect())
}

/// Reads a file until it comes whole, and returns what is wrong with it.
async fn prove(store: &BucketStore, file: NarFile, narinfo: &BucketNarInfo) -> Result<Option<String>, BucketError> {
    let mut attempt = 1;
    loop {
        match prove_once(store, file, narinfo).await {
            Err(error) if error.kind.may_pass() && attempt < ATTEMPTS => {
                tracing::debug!("attempt {attempt}: {error}");
                attempt += 1;
            }
            result => return result,
        }
    }
}

async fn prove_once(
    store: &BucketStore,
    file: NarFile,
    narinfo: &BucketNarInfo,
) -> Result<Option<String>, BucketError> {
    let Some(mut body) = store.read(&ObjectName::Nar(file), None, Patience::Background).await? else {
        return Ok(Some("it is not there".to_owned()));
    };
    let info = narinfo.path_info();
    let expected = Expected { nar_size: info.nar_size, nar_hash: info.nar_hash, content_address: info.content_address };
    let mut proof = NarProof::start(file.compression(), expected);
    while let Some(bytes) = body.next().await? {
        if !proof.feed(bytes).await {
            break;
        }
    }
    Ok(match proof.end().await {
        Err(fault) => Some(fault),
        Ok(found) if found.sha256 != *file.hash().as_bytes() => Some("the file has another hash".to_owned()),
        Ok(_) => None,
    })
}
