//! Requests about hidden paths: hide a path from clients, show it again, list them.

use harmonia_protocol::HashPart;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::requests::{Refusal, Server};
use crate::fairness::ClientId;
use crate::store::{HiddenError, HiddenPath, MAX_TEXT, PathStatus, unix_time};

/// Request to hide a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hide {
    /// Store path, base name, hash part or URL.
    pub of: String,
    /// Whether all paths that refer to it are hidden too.
    pub referrers: bool,
    /// Reason for other operators.
    pub reason: Option<String>,
    /// User who asks for it.
    pub by: String,
}

/// The result of showing a path again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unhidden {
    /// The path as it was hidden.
    pub path: HiddenPath,
    /// The path with `referrers` by which it is still hidden.
    pub still_hidden_by: Option<HiddenPath>,
}

impl Server {
    /// Hides a path. It is hidden when the response is sent.
    pub(super) async fn hide(&self, request: Hide) -> Result<HiddenPath, Refusal> {
        let hash = self.hash(&request.of)?;
        if request.by.len().max(request.reason.as_ref().map_or(0, String::len)) > MAX_TEXT {
            return Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                &format_args!("the reason is longer than {MAX_TEXT} bytes"),
            ));
        }
        let store = self.app.store();
        let before = store.hidden_by(hash).filter(|before| before.hash == hash);
        let (name, deriver) = before.map_or((None, None), |before| (before.path, before.deriver));
        let mut path = HiddenPath {
            hash,
            path: name,
            deriver,
            referrers: request.referrers,
            reason: request.reason,
            by: request.by,
            since: unix_time(),
        };
        store.hide(path.clone()).await.map_err(refusal)?;
        // Named when it is hidden already, since nix-daemon may be slow or down.
        if let Ok(PathStatus::Hidden(Some(valid))) = store.path_status(hash, ClientId::Server).await {
            path = store.name_hidden(&valid).await.map_err(refusal)?.unwrap_or(path);
        }
        let referrers = if path.referrers { " and all that refer to it" } else { "" };
        let reason = path.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        tracing::warn!("hiding {}{referrers} (answering 404), says {}{reason}", path.name(), path.by);
        Ok(path)
    }

    /// Shows a path again.
    pub(super) async fn unhide(&self, of: &str) -> Result<Unhidden, Refusal> {
        let (hash, store) = (self.hash(of)?, self.app.store());
        let path = store.unhide(hash).await.map_err(refusal)?.ok_or_else(|| {
            let by =
                store.hidden_by(hash).map(|by| format!(" itself, but refers to {}", by.name())).unwrap_or_default();
            Refusal::new(
                StatusCode::NOT_FOUND,
                &format_args!("{hash} is not hidden{by}\n  help: harmonia hidden lists the paths that are"),
            )
        })?;
        tracing::warn!("{} is no longer hidden", path.name());
        // Finds out whether it is hidden still.
        let status = store.path_status(hash, ClientId::Server).await;
        let still_hidden_by = status.ok().and_then(|_| store.hidden_by(hash));
        Ok(Unhidden { path, still_hidden_by })
    }

    fn hash(&self, of: &str) -> Result<HashPart, Refusal> {
        self.app.hash_part_of(of).ok_or_else(|| {
            let why = "not a store path\n  help: pass /nix/store/HASH-NAME, HASH-NAME, HASH or a URL of this cache";
            Refusal::new(StatusCode::BAD_REQUEST, &why)
        })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn refusal(error: HiddenError) -> Refusal {
    let status = match error {
        HiddenError::NoStateDirectory | HiddenError::Full => StatusCode::CONFLICT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Refusal::new(status, &error)
}
