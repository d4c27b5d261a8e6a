//! Views: `[views.NAME]`.

use super::error::{Collected, Problem};
use super::file::ConfigFile;

/// Upper bound of the length of a name, which is in logs and error messages.
const MAX_NAME: usize = 64;

/// Part of the store: the closure of some roots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewConfig {
    /// Name, by which grants refer to the view.
    pub name: String,
    /// Store paths, symlinks to them, profiles and patterns of those, in absolute form.
    pub roots: Vec<String>,
}

/// Resolves the views, in the order of their names.
pub(super) fn views(file: &mut ConfigFile, errors: &mut Collected) -> Vec<ViewConfig> {
    const TABLE: &str = "views.NAME";
    let mut views = Vec::new();
    for (index, view) in std::mem::take(&mut file.views).into_iter().enumerate() {
        let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if view.name.is_empty() || view.name.len() > MAX_NAME || !view.name.bytes().all(named) {
            errors.push(file.error_in(TABLE, index, Problem::ViewName(view.name)));
            continue;
        }
        if let Some(roots) = view.roots {
            views.push(ViewConfig { name: view.name, roots });
        } else {
            let table = format!("[views.{}]", view.name);
            errors.push(file.error_in(TABLE, index, Problem::MissingKey { table, key: "roots" }));
        }
    }
    views
}
