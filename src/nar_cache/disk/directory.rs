//! A directory that is this program's own: files are written and removed only where its mark is.
//!
//! Owns which directory may be used. One with the mark is ours, whatever else lies in it; one that is absent or empty is
//! made ours by the mark; any other has somebody else's files, and so has every place that others write to: it is refused
//! with the way out. Leaves what is in it to `layout`.
//!
//! The mark is the file of the Cache Directory Tagging Specification (<https://bford.info/cachedir/>), with a line of its
//! own in it, so that backups leave out what can be made again.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::config::Config;

/// The name of the mark.
const MARK: &str = "CACHEDIR.TAG";
/// The beginning of a mark that is ours.
const MARK_TEXT: &str = "Signature: 8a477f597d28d172789f06886806bc55
# The compressed NARs of harmonia, which removes files here. They are made again when they are asked for.
";
/// At the root of a file system that is otherwise empty.
const LOST_AND_FOUND: &str = "lost+found";
/// Mode bit by which everybody may write.
const WRITABLE_BY_ALL: u32 = 0o002;

/// A reason why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The system's reason.
    #[error("cannot use {} as a cache of nars: {cause}{}", path.display(), way_out(cause))]
    Io {
        /// The directory, or a file or directory in it.
        path: PathBuf,
        /// The system's reason.
        cause: io::Error,
    },
    /// Another process has it.
    #[error("cannot use {} as a cache of nars: another harmonia process uses it\n  help: stop that, or give each a nar_cache.dir of its own", .0.display())]
    Locked(PathBuf),
    /// It is not empty, and has no mark.
    #[error(
        "cannot use {} as a cache of nars: it has files, and no {MARK} that says they are harmonia's\n  \
         help: set nar_cache.dir to a directory that is empty or does not exist yet, such as {}; if this was a cache \
         of harmonia, empty it",
        .0.display(), .0.join("harmonia").display()
    )]
    NotOurs(PathBuf),
    /// Everybody may write to it.
    #[error(
        "cannot use {} as a cache of nars: every user may write to it\n  help: set nar_cache.dir to a directory in it \
         that does not exist yet, such as {}",
        .0.display(), .0.join("harmonia").display()
    )]
    Public(PathBuf),
    /// It belongs to neither root nor the user of this process.
    #[error(
        "cannot use {} as a cache of nars: it belongs to another user\n  help: run this as that user (runuser -u USER), \
         or set nar_cache.dir to a directory that does not exist yet",
        .0.display()
    )]
    AnotherUsers(PathBuf),
    /// It is the Nix store, or in it.
    #[error(
        "cannot use {} as a cache of nars: it is in the nix store\n  help: set nar_cache.dir to a directory elsewhere",
        .0.display()
    )]
    Store(PathBuf),
}

impl DirectoryError {
    /// Whether the configuration has to name another directory: this one must not be used, though it could be.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::NotOurs(_) | Self::Public(_) | Self::Store(_))
    }
}

fn way_out(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => {
            "\n  help: run this as root or as the user that the directory belongs to, or give it to this one (chown)"
        }
        io::ErrorKind::NotADirectory => {
            "\n  help: nar_cache.dir names a directory, which is made where it does not exist yet"
        }
        _ => "",
    }
}

/// A directory with the mark, by its absolute path without symbolic links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheDirectory(PathBuf);

impl CacheDirectory {
    /// Looks at the directory that is configured, if one is, and changes nothing: `None` also where it is absent or empty,
    /// so that it can be made ours.
    pub fn configured(config: &Config) -> Result<Option<Self>, DirectoryError> {
        config.nar_cache.as_ref().map_or(Ok(None), |settings| Self::find(&settings.dir, config))
    }

    /// Looks at the directory at `dir`, as long as it is not in the store of this configuration.
    pub fn find(dir: &Path, config: &Config) -> Result<Option<Self>, DirectoryError> {
        Self::look(dir, &stores(config))
    }

    /// Takes the directory at `dir`, as long as it is not in the store of this configuration.
    pub(crate) fn take_configured(dir: &Path, config: &Config) -> Result<Self, DirectoryError> {
        Self::take(dir, &stores(config))
    }

    /// Looks at a directory, and changes nothing: `None` where there is none, or an empty one, that can be made ours.
    /// `stores` are the directories of the Nix store.
    fn look(dir: &Path, stores: &[&Path]) -> Result<Option<Self>, DirectoryError> {
        let failed = |cause| DirectoryError::Io { path: dir.to_owned(), cause };
        // A service manager makes it a link, if its user is made at start (DynamicUser=).
        let real = match dir.canonicalize() {
            Ok(real) => real,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                return if lies_in(&made_at(dir), stores) {
                    Err(DirectoryError::Store(dir.to_owned()))
                } else {
                    Ok(None)
                };
            }
            Err(cause) => return Err(failed(cause)),
        };
        if lies_in(&real, stores) {
            return Err(DirectoryError::Store(dir.to_owned()));
        }
        let metadata = real.metadata().map_err(failed)?;
        if !metadata.is_dir() {
            return Err(failed(io::ErrorKind::NotADirectory.into()));
        }
        if metadata.mode() & WRITABLE_BY_ALL != 0 {
            return Err(DirectoryError::Public(dir.to_owned()));
        }
        if has_mark(&real).map_err(failed)? {
            return Ok(Some(Self(real)));
        }
        if is_empty(&real).map_err(failed)? { Ok(None) } else { Err(DirectoryError::NotOurs(dir.to_owned())) }
    }

    /// Takes the directory at `dir`, which is made and marked if need be. `stores` are the directories of the Nix store.
    pub fn take(dir: &Path, stores: &[&Path]) -> Result<Self, DirectoryError> {
        let failed = |cause| DirectoryError::Io { path: dir.to_owned(), cause };
        let found = if let Some(found) = Self::look(dir, stores)? {
            found
        } else {
            DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
            Self(dir.canonicalize().map_err(failed)?)
        };
        // Its owner could put anything in the place of what is written.
        if !is_of_root_or_us(&found.0.metadata().map_err(failed)?) {
            return Err(DirectoryError::AnotherUsers(dir.to_owned()));
        }
        if !has_mark(&found.0).map_err(failed)? {
            write_mark(&found.0).map_err(failed)?;
        }
        Ok(found)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// The directories of the store, as clients see it and on this machine.
fn stores(config: &Config) -> Vec<&Path> {
    let real = config.real_nix_store.as_deref();
    real.into_iter().chain([Path::new(config.virtual_nix_store.as_str())]).collect()
}

/// Resolves a directory that does not exist, by the part of its path that does.
fn made_at(dir: &Path) -> PathBuf {
    let existing = dir.ancestors().find_map(|ancestor| Some((ancestor, ancestor.canonicalize().ok()?)));
    existing.map_or_else(
        || dir.to_owned(),
        |(ancestor, real)| dir.strip_prefix(ancestor).map_or_else(|_| dir.to_owned(), |rest| real.join(rest)),
    )
}

fn lies_in(dir: &Path, stores: &[&Path]) -> bool {
    stores.iter().any(|store| dir.starts_with(store) || store.canonicalize().is_ok_and(|real| dir.starts_with(real)))
}

fn is_of_root_or_us(metadata: &Metadata) -> bool {
    metadata.uid() == 0 || metadata.uid() == rustix::process::geteuid().as_raw()
}

fn has_mark(dir: &Path) -> io::Result<bool> {
    let path = dir.join(MARK);
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Ok(false),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(cause) => return Err(cause),
    }
    let mut text = Vec::with_capacity(MARK_TEXT.len());
    File::open(path)?.take(MARK_TEXT.len() as u64).read_to_end(&mut text)?;
    Ok(text == MARK_TEXT.as_bytes())
}

/// Whether there is nothing but what a new file system has, or the mark that could not be written for want of room.
fn is_empty(dir: &Path) -> io::Result<bool> {
    for entry in dir.read_dir()? {
        let entry = entry?;
        let is_nothing =
            entry.file_name() == LOST_AND_FOUND || entry.file_name() == MARK && entry.metadata()?.len() == 0;
        if !is_nothing {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes the mark so that it outlives a power failure as well as any file that is written after it.
fn write_mark(dir: &Path) -> io::Result<()> {
    let mut mark = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(dir.join(MARK))?;
    if let Err(cause) = mark.write_all(MARK_TEXT.as_bytes()) {
        let _ = fs::remove_file(dir.join(MARK));
        return Err(cause);
    }
    mark.sync_all()?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use tempfile::TempDir;

    use super::*;

    /// A directory below one that nobody else writes to.
    fn fresh() -> (TempDir, PathBuf) {
        let around = TempDir::new().unwrap();
        let dir = around.path().join("nars");
        (around, dir)
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            dir.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_directory_that_is_absent_or_empty_is_made_ours_and_stays_so_whatever_is_put_into_it() {
        let (_around, dir) = fresh();
        assert_eq!(CacheDirectory::look(&dir, &[]).unwrap(), None);
        assert!(!dir.exists(), "a look changes nothing");
        let taken = CacheDirectory::take(&dir, &[]).unwrap();
        assert_eq!((names(&dir), dir.metadata().unwrap().mode() & 0o777), (vec![MARK.to_owned()], 0o700));
        fs::write(dir.join("notes.txt"), "").unwrap();
        assert_eq!(CacheDirectory::look(&dir, &[]).unwrap(), Some(taken));
        for prepare in [
            |_: &Path| (),
            |dir: &Path| fs::create_dir(dir.join("lost+found")).unwrap(),
            |dir: &Path| {
                // There was no room for it.
                fs::write(dir.join(MARK), "").unwrap();
            },
        ] {
            let (_around, dir) = fresh();
            fs::create_dir(&dir).unwrap();
            prepare(&dir);
            assert_eq!(CacheDirectory::look(&dir, &[]).unwrap(), None);
            CacheDirectory::take(&dir, &[]).unwrap();
            assert!(CacheDirectory::look(&dir, &[]).unwrap().is_some());
        }
    }

    #[test]
    fn a_directory_with_files_and_without_our_mark_is_refused_and_left_as_it_is() {
        let tag_of_another = "Signature: 8a477f597d28d172789f06886806bc55\n# This file is a cache directory tag.\n";
        for (name, text) in [("tmp", ""), (".hidden", ""), (MARK, tag_of_another), ("lock", "")] {
            let (_around, dir) = fresh();
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join(name), text).unwrap();
            let error = CacheDirectory::take(&dir, &[]).unwrap_err();
            assert!(matches!(error, DirectoryError::NotOurs(_)) && error.is_refusal(), "{name}: {error}");
            assert!(error.to_string().contains("\n  help: set nar_cache.dir to a directory that is empty"), "{error}");
            assert_eq!(
                (names(&dir), fs::read_to_string(dir.join(name)).unwrap()),
                (vec![name.to_owned()], text.into())
            );
        }
        // The mark of another directory.
        let (around, dir) = fresh();
        CacheDirectory::take(&dir, &[]).unwrap();
        let linking = around.path().join("linking");
        fs::create_dir(&linking).unwrap();
        symlink(dir.join(MARK), linking.join(MARK)).unwrap();
        assert!(matches!(CacheDirectory::take(&linking, &[]), Err(DirectoryError::NotOurs(_))));
        for dir in ["/", "/usr", "/proc"] {
            let error = CacheDirectory::take(Path::new(dir), &[]).unwrap_err();
            assert!(matches!(error, DirectoryError::NotOurs(_)), "{dir}: {error}");
        }
    }

    #[test]
    fn a_link_to_a_directory_is_judged_by_where_it_leads() {
        let (around, dir) = fresh();
        let link = around.path().join("link");
        fs::create_dir(&dir).unwrap();
        symlink(&dir, &link).unwrap();
        let taken = CacheDirectory::take(&link, &[]).unwrap();
        assert_eq!(taken.path(), dir.canonicalize().unwrap());
        let link = around.path().join("root");
        symlink("/", &link).unwrap();
        assert!(matches!(CacheDirectory::take(&link, &[]), Err(DirectoryError::NotOurs(_))));
        // To nowhere.
        let link = around.path().join("dangling");
        symlink("nowhere", &link).unwrap();
        assert!(matches!(CacheDirectory::take(&link, &[]), Err(DirectoryError::Io { .. })));
        // A file is no directory.
        fs::write(around.path().join("file"), "").unwrap();
        assert!(matches!(CacheDirectory::take(&around.path().join("file"), &[]), Err(DirectoryError::Io { .. })));
    }

    #[test]
    fn a_directory_that_everybody_may_write_to_is_refused_though_it_is_empty() {
        let (_around, dir) = fresh();
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o1777)).unwrap();
        let error = CacheDirectory::take(&dir, &[]).unwrap_err();
        assert!(matches!(error, DirectoryError::Public(_)), "{error}");
        assert_eq!(names(&dir), [""; 0]);
        // The way out that is named.
        CacheDirectory::take(&dir.join("harmonia"), &[]).unwrap();
    }

    #[test]
    fn a_directory_of_another_user_may_be_looked_after_and_is_not_written_to() {
        let (_around, dir) = fresh();
        let taken = CacheDirectory::take(&dir, &[]).unwrap();
        // Only root can give one away.
        if std::os::unix::fs::chown(&dir, Some(4321), None).is_ok() {
            assert_eq!(CacheDirectory::look(&dir, &[]).unwrap(), Some(taken));
            let error = CacheDirectory::take(&dir, &[]).unwrap_err();
            assert!(matches!(error, DirectoryError::AnotherUsers(_)) && !error.is_refusal(), "{error}");
        }
    }

    #[test]
    fn a_right_that_is_missing_is_named() {
        let failed = |cause: io::ErrorKind| DirectoryError::Io { path: "/d".into(), cause: cause.into() }.to_string();
        assert!(failed(io::ErrorKind::PermissionDenied).contains("permission denied\n  help: run this as root or as"));
        assert!(failed(io::ErrorKind::NotADirectory).contains("\n  help: nar_cache.dir names a directory"));
        assert!(!failed(io::ErrorKind::StorageFull).contains("help"));
    }

    #[test]
    fn the_store_is_refused_and_every_place_in_it() {
        let (around, store) = fresh();
        fs::create_dir(&store).unwrap();
        let link = around.path().join("link");
        symlink(&store, &link).unwrap();
        for dir in [store.clone(), store.join("a/b"), link.clone(), link.join("a")] {
            for named in [&store, &link] {
                let error = CacheDirectory::take(&dir, &[named]).unwrap_err();
                assert!(matches!(error, DirectoryError::Store(_)), "{}: {error}", dir.display());
            }
        }
        assert_eq!(names(&store), [""; 0]);
    }
}
