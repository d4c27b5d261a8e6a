//! Views: `[views.NAME]`.

/// Part of the store: the closure of some roots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewConfig {
    /// Name, by which grants refer to the view.
    pub name: String,
    /// Store paths, symlinks to them, profiles and patterns of those, in absolute form.
    pub roots: Vec<String>,
}
