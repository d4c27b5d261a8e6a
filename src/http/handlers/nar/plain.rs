//! Opens an uncompressed NAR, or a range of one, from the first source that has it.

use std::path::PathBuf;
use std::sync::Arc;

use crate::fairness::ClientId;
use crate::http::app::App;
use crate::http::response::body::Body;
use crate::http::response::file_body::FileBody;
use crate::http::response::nar_body::NarBody;
use crate::store::{NarOptions, StoreError, ValidPath};

/// Source of an uncompressed NAR.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// Files in the store directory that are known to match the NAR hash: read from the range on.
    VerifiedFiles,
    /// The compressed NAR in the NAR cache, decoded from the block of the range on.
    NarCache,
    /// Files in the store directory, or nix-daemon. nix-daemon sends a NAR in half the time that decoding takes, but only
    /// from its start.
    Store,
}

/// Sources of a whole NAR, in the order in which they are tried.
const FOR_ALL: [Source; 2] = [Source::Store, Source::NarCache];
/// Sources of a range, in the order in which they are tried. The NAR cache may have the NAR by the time the store fails.
const FOR_RANGE: [Source; 4] = [Source::VerifiedFiles, Source::NarCache, Source::Store, Source::NarCache];

/// Opens `length` bytes of the NAR from byte `first` on. The error is that of the store.
pub(crate) async fn open(
    app: &App,
    valid: &Arc<ValidPath>,
    first: u64,
    length: u64,
    client: ClientId,
) -> Result<Body, StoreError> {
    let sources = if length < valid.info.nar_size { &FOR_RANGE[..] } else { &FOR_ALL };
    let mut failure = None;
    for source in sources {
        match source.open(app, valid, first, length, client).await {
            Ok(Some(body)) => return Ok(body),
            Ok(None) => {}
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| StoreError::Abandoned(valid.path.hash_part())))
}

/// Opens the whole NAR from the store.
pub(crate) async fn open_all(app: &App, valid: &Arc<ValidPath>, client: ClientId) -> Result<NarBody, StoreError> {
    let mut nar = app.store.nar(valid, NarOptions::default(), client).await?;
    nar.prime().await?;
    Ok(NarBody::new(nar, 0, valid.info.nar_size))
}

impl Source {
    /// Opens bytes of the NAR; `None` if this source does not have them.
    async fn open(
        self,
        app: &App,
        valid: &Arc<ValidPath>,
        first: u64,
        length: u64,
        client: ClientId,
    ) -> Result<Option<Body>, StoreError> {
        match self {
            Self::VerifiedFiles => {
                let nar = app.store.verified_range(valid, first..first + length, client).await;
                Ok(nar.map(|nar| Body::Nar(Box::new(NarBody::new(nar, first, length)))))
            }
            Self::NarCache => {
                let Some(cache) = &app.nar_cache else { return Ok(None) };
                let Some((nar, memory)) = cache.open_decoded(&valid.info.nar_hash, first, client).await else {
                    return Ok(None);
                };
                let name = PathBuf::from(app.store.directory().full_path(&valid.path));
                let body = FileBody::new(nar, name, Some(length), Arc::clone(cache.read_permits()), vec![memory]);
                Ok(Some(Body::File(Box::new(body))))
            }
            Self::Store if length < valid.info.nar_size => {
                let mut nar = app.store.nar(valid, NarOptions::range(first..first + length), client).await?;
                nar.prime().await?;
                Ok(Some(Body::Nar(Box::new(NarBody::new(nar, first, length)))))
            }
            Self::Store => Ok(Some(Body::Nar(Box::new(open_all(app, valid, client).await?)))),
        }
    }
}
