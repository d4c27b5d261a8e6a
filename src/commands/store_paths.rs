//! Parses the store paths that a command is given as arguments or on standard input.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use harmonia_protocol::{HashPart, StoreDir, StorePath};

use crate::cli::PathArguments;
use crate::error::Error;

/// Limit on standard input, in bytes: some hundred thousand paths.
const MAX_INPUT: u64 = 64 << 20;
/// Limit on nested symbolic links, as in the kernel (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// Returns the hash parts of all paths in their order, without duplicates.
pub(super) fn hash_parts(arguments: &PathArguments, directory: &StoreDir) -> Result<Vec<HashPart>, Error> {
    let mut paths = arguments.paths.clone();
    if arguments.stdin {
        let mut text = String::new();
        let read = io::stdin().take(MAX_INPUT).read_to_string(&mut text);
        read.map_err(|cause| Error::System { doing: "read paths from standard input", cause })?;
        paths.extend(text.split_ascii_whitespace().map(PathBuf::from));
    }
    let mut seen = std::collections::HashSet::new();
    let hash_part = |path: &PathBuf| Ok(store_path(path, directory)?.hash_part());
    let mut hashes = paths.iter().map(hash_part).collect::<Result<Vec<_>, Error>>()?;
    hashes.retain(|hash| seen.insert(*hash));
    Ok(hashes)
}

/// Returns a store path, that of a file in one, or of a symbolic link to either. The link may be dangling, because
/// the store may be elsewhere.
pub(super) fn store_path(path: &Path, directory: &StoreDir) -> Result<StorePath, Error> {
    let is_of_store = |path: &PathBuf| path.starts_with(directory.as_str());
    let linked = std::iter::successors(Some(path.to_owned()), |path| {
        let target = path.read_link().ok()?;
        Some(path.parent()?.join(target))
    });
    let target = linked.take(MAX_LINKS).find(is_of_store).or_else(|| path.canonicalize().ok()).unwrap_or_default();
    let name = target.strip_prefix(directory.as_str()).ok().and_then(|rest| rest.iter().next()?.to_str());
    let parsed = name.and_then(|name| StorePath::from_base_name(name).ok());
    parsed.ok_or_else(|| Error::NoStorePath(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_named_by_itself_by_what_is_in_it_or_by_links() {
        let dir = tempfile::tempdir().unwrap();
        let link = |name: &str, target: &str| {
            std::os::unix::fs::symlink(target, dir.path().join(name)).unwrap();
            dir.path().join(name)
        };
        let (hash, store) = (format!("{:032}", 7), StoreDir::default());
        let path = format!("/nix/store/{hash}-a");
        // Of a generation of a profile, and of one that leads to itself.
        let (generation, profile, circle) = (link("p-1", &path), link("p", "p-1"), link("c", "c"));
        for given in [Path::new(&path), &Path::new(&path).join("bin/a"), &generation, &profile] {
            assert_eq!(store_path(given, &store).unwrap().hash_part().to_string(), hash, "{}", given.display());
        }
        for given in [Path::new("/etc"), Path::new("/nix/store"), Path::new("/nix/store/x"), Path::new(""), &circle] {
            assert!(matches!(store_path(given, &store), Err(Error::NoStorePath(_))), "{}", given.display());
        }
    }
}
