//! Rights of a principal, and the views it sees.

use std::sync::Arc;

use super::principal::Principal;
use crate::config::Rights;

/// A principal and its rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Granted {
    /// Who makes the request.
    pub(crate) principal: Principal,
    /// Rights of all grants that match the principal, and of those that match anonymous clients.
    pub(crate) rights: Rights,
    /// Paths that the right to read extends to.
    pub(crate) views: Visible,
}

/// Paths of the store that a principal may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Visible {
    /// The whole store.
    All,
    /// The paths in any of these views.
    Views(Arc<[Arc<str>]>),
}

static EVERYTHING: Granted =
    Granted { principal: Principal::Anonymous, rights: Rights::READ.union(Rights::METRICS), views: Visible::All };

impl Granted {
    /// Returns the rights of every client of a cache without `[access]`: everything but pushing, which has to be granted.
    #[must_use]
    pub(crate) fn everything() -> &'static Self {
        &EVERYTHING
    }

    /// Returns whether the principal has these rights.
    #[must_use]
    pub(crate) const fn may(&self, rights: Rights) -> bool {
        self.rights.contains(rights)
    }
}
