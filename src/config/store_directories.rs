//! Store directories, whose files every user may read: no place for secrets.

use std::path::{Path, PathBuf};

use super::resolve::Config;

/// Nix's default store directory, which every user can read whatever store is served.
const NIX_STORE: &str = "/nix/store";

/// Store directories on this machine, with symlinks resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreDirectories(Vec<PathBuf>);

impl Config {
    /// Returns the virtual and the real store directory, and `/nix/store`.
    #[must_use]
    pub fn store_directories(&self) -> StoreDirectories {
        let served = [Some(PathBuf::from(self.virtual_nix_store.as_str())), self.real_nix_store.clone()];
        StoreDirectories::new(served.into_iter().flatten().chain([NIX_STORE.into()]))
    }
}

impl StoreDirectories {
    /// Returns `/nix/store` alone.
    #[must_use]
    pub fn nix() -> Self {
        Self::new([NIX_STORE.into()])
    }

    /// Resolves symlinks in the directories, which need not exist.
    #[must_use]
    pub fn new(directories: impl IntoIterator<Item = PathBuf>) -> Self {
        let resolved = directories.into_iter().map(|directory| directory.canonicalize().unwrap_or(directory));
        Self(resolved.collect())
    }

    /// Returns the canonical path of the file, if that is in a store. Returns `None` if the path cannot be resolved: reading
    /// the file reports the error.
    #[must_use]
    pub fn find(&self, file: &Path) -> Option<PathBuf> {
        let resolved = file.canonicalize().ok()?;
        self.0.iter().any(|directory| resolved.starts_with(directory)).then_some(resolved)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::config::tests::loaded;

    #[test]
    fn a_file_is_where_its_links_end() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("store/etc")).unwrap();
        fs::create_dir(at("secrets")).unwrap();
        fs::write(at("store/etc/key"), "").unwrap();
        fs::write(at("secrets/key"), "").unwrap();
        // A symlink to the store, one into it and one out of it.
        symlink(at("store"), at("other-store")).unwrap();
        symlink(at("other-store/etc"), at("etc")).unwrap();
        symlink(at("secrets/key"), at("store/etc/elsewhere")).unwrap();
        for directory in ["store", "other-store"] {
            let stores = StoreDirectories::new([at(directory)]);
            let inside = at("store/etc/key").canonicalize().unwrap();
            for key in ["store/etc/key", "other-store/etc/key", "etc/key", "secrets/../etc/key"] {
                assert_eq!(stores.find(&at(key)), Some(inside.clone()), "{key}");
            }
            for key in ["secrets/key", "etc/elsewhere", "store/etc/absent", "storehouse"] {
                assert_eq!(stores.find(&at(key)), None, "{key}");
            }
        }
    }

    #[test]
    fn both_names_of_the_store_and_nix_own_count() {
        let (config, _) = loaded("virtual_nix_store = \"/a/store\"\nreal_nix_store = \"/guest/a/store\"");
        let expected = ["/a/store", "/guest/a/store", "/nix/store"].map(PathBuf::from);
        assert_eq!(config.store_directories(), StoreDirectories::new(expected));
    }
}
