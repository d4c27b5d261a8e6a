//! The part of the store that a client sees: everything, or the paths in its views.
//!
//! A path outside of a client's views is as if it were not there: before anything is asked about a hash part, in the cache or
//! of nix-daemon, the views decide. So whatever a response takes, it takes for a path that is not there too. Where a path is
//! known only after a lookup (by the hash of its NAR, a build ID, a realisation), every negative result waits for a scan of
//! the views, whether there was a path or not, and for a fixed time if the lookup was nix-daemon's.

use std::sync::Arc;
use std::time::Duration;

use harmonia_protocol::HashPart;
use tokio::time::{Instant, sleep_until};

use crate::access::Visible;
use crate::http::app::App;
use crate::http::request::context::RequestCx;
use crate::store::{Store, StoreError};

/// Time after a request from which on a client with views may be told that there is nothing, if nix-daemon had to be queried:
/// several times what that takes, so that nobody can tell by it whether nix-daemon found something.
const NOTHING_AFTER: Duration = Duration::from_millis(20);

/// Paths that a client sees, by scans of its views that began after its request.
#[derive(Clone, Copy)]
pub(crate) struct Sight<'a> {
    store: &'a Store,
    /// `None` if it sees everything.
    views: Option<(&'a [Arc<str>], Instant)>,
}

impl Sight<'_> {
    /// Returns whether the client sees the path with this hash part.
    pub(crate) fn sees(&self, hash: HashPart) -> bool {
        self.views.is_none_or(|(views, arrived)| self.store.is_known_in_view(hash, views, arrived))
    }

    /// Returns whether it sees everything.
    pub(crate) const fn is_unlimited(&self) -> bool {
        self.views.is_none()
    }
}

impl App {
    /// Returns whether the client sees the path with this hash part.
    pub(crate) async fn sees(&self, hash: HashPart, cx: RequestCx<'_>) -> Result<bool, StoreError> {
        match &cx.granted.views {
            Visible::All => Ok(true),
            Visible::Views(views) => self.store.is_in_view(hash, views).await,
        }
    }

    /// Returns whether the client may read the build log of the derivation or output with this hash part: if it sees that
    /// path, or one that the derivation built. Closures have no derivations, but `nix log` asks for the log by that.
    pub(crate) async fn sees_log(&self, hash: HashPart, cx: RequestCx<'_>) -> Result<bool, StoreError> {
        match &cx.granted.views {
            Visible::All => Ok(true),
            Visible::Views(views) => self.store.is_log_in_view(hash, views).await,
        }
    }

    /// Waits before a negative result that depends on a reply of nix-daemon, for a client that does not see everything.
    pub(crate) async fn even_out(&self, arrived: Instant, cx: RequestCx<'_>) {
        if !self.known_sight(cx).is_unlimited() {
            sleep_until(arrived + NOTHING_AFTER).await;
        }
    }

    /// Returns what the client is known to see, without waiting: a path that has just come into a view may be missing.
    pub(crate) fn known_sight<'a>(&'a self, cx: RequestCx<'a>) -> Sight<'a> {
        let views = match &cx.granted.views {
            Visible::All => None,
            Visible::Views(views) => Some((&**views, Instant::now())),
        };
        Sight { store: &self.store, views }
    }

    /// Waits for scans of the client's views, and returns what it sees.
    pub(crate) async fn sight<'a>(&'a self, cx: RequestCx<'a>) -> Result<Sight<'a>, StoreError> {
        let sight = self.known_sight(cx);
        if let Some((views, _)) = sight.views {
            self.store.rescan_views(views).await?;
        }
        Ok(sight)
    }
}
