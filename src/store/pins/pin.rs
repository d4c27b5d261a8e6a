//! A pin and its generations, as they are stored and shown.

use serde::{Deserialize, Serialize};

/// Number of generations of a name that are kept: the one in force and four to go back to.
pub(crate) const KEEP: usize = 5;
/// Upper bound of names.
pub(crate) const MAX_PINS: usize = 1_000;
/// Upper bound of the paths of a generation.
pub(crate) const MAX_PATHS: usize = 1_000;

/// Paths that were pinned together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Generation {
    /// Number, from 1 in each name.
    pub(crate) number: u32,
    /// Base names of the paths.
    pub(crate) paths: Vec<String>,
    /// User who pinned them.
    pub(crate) by: String,
    /// Time when they were pinned, in seconds since 1970.
    pub(crate) since: u64,
    /// Time when the generation is removed, in seconds since 1970; `None` if never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<u64>,
}

/// A name and its generations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pin {
    /// Name.
    pub(crate) name: String,
    /// Directory of its links.
    pub(crate) directory: String,
    /// Generations, the newest first.
    pub(crate) generations: Vec<Generation>,
}
