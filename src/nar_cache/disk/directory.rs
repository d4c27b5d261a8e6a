//! The directory of the NAR cache. Files are written and removed only in one that bears harmonia's tag.
//!
//! Decides which directory may be used. One with the tag is harmonia's, whatever else is in it. A missing or empty one is
//! created and tagged. Any other contains somebody else's files and is refused, as is one that others can write to. Leaves
//! the names of files to `layout`.
//!
//! The tag is the file of the Cache Directory Tagging Specification (<https://bford.info/cachedir/>), so that backups skip the
//! directory, with a line that tells harmonia's from others.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::config::Config;

/// Name of the tag file.
const TAG: &str = "CACHEDIR.TAG";
/// First bytes of a tag file of harmonia.
const TAG_TEXT: &str = "Signature: 8a477f597d28d172789f06886806bc55
# The compressed NARs of harmonia, which removes files here. They are made again when they are asked for.
";
/// Directory at the root of an otherwise empty file system.
const LOST_AND_FOUND: &str = "lost+found";
/// Mode bit that lets everybody write.
const WRITABLE_BY_ALL: u32 = 0o002;

/// A reason why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// A system call failed.
    #[error("cannot use {} as the NAR cache: {cause}{}", path.display(), help(cause))]
    Io {
        /// The directory, or a file or directory in it.
        path: PathBuf,
        /// The system's reason.
        cause: io::Error,
    },
    /// Another process has locked it.
    #[error("cannot use {} as the NAR cache: another harmonia process uses it\n  help: stop that process, or give each a different nar_cache.dir", .0.display())]
    Locked(PathBuf),
    /// A directory with files but without the tag.
    #[error(
        "cannot use {} as the NAR cache: it has files but no {TAG} of harmonia\n  \
         help: set nar_cache.dir to a directory that is empty or does not exist yet, such as {}; if this was a NAR \
         cache of harmonia, empty it",
        .0.display(), .0.join("harmonia").display()
    )]
    NotOurs(PathBuf),
    /// Everybody may write to it.
    #[error(
        "cannot use {} as the NAR cache: every user can write to it\n  help: set nar_cache.dir to a subdirectory that \
         does not exist yet, such as {}",
        .0.display(), .0.join("harmonia").display()
    )]
    Public(PathBuf),
    /// A directory that belongs to neither root nor the user of this process.
    #[error(
        "cannot use {} as the NAR cache: it belongs to another user\n  help: run this command as that user (runuser -u USER), \
         or set nar_cache.dir to a directory that does not exist yet",
        .0.display()
    )]
    AnotherUsers(PathBuf),
    /// The Nix store, or a directory in it.
    #[error(
        "cannot use {} as the NAR cache: it is in the Nix store\n  help: set nar_cache.dir to a directory elsewhere",
        .0.display()
    )]
    Store(PathBuf),
}

impl DirectoryError {
    /// Returns whether the configuration must name another directory, since this one is not harmonia's to use.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::NotOurs(_) | Self::Public(_) | Self::Store(_))
    }
}

fn help(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => {
            "\n  help: run this command as root or as the owner of the directory, or change its owner (chown)"
        }
        io::ErrorKind::NotADirectory => {
            "\n  help: set nar_cache.dir to a directory; it is created if it does not exist"
        }
        _ => "",
    }
}

/// The absolute path, without symbolic links, of a directory with harmonia's tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheDirectory(PathBuf);

impl CacheDirectory {
    /// Finds the configured directory, without changes. `None` if none is configured, or if it is missing or empty and can be
    /// created.
    pub fn configured(config: &Config) -> Result<Option<Self>, DirectoryError> {
        config.nar_cache.as_ref().map_or(Ok(None), |settings| Self::find(&settings.dir, config))
    }

    /// Finds the directory at `dir`, without changes. Refuses one in the configured Nix store.
    pub fn find(dir: &Path, config: &Config) -> Result<Option<Self>, DirectoryError> {
        Self::find_outside(dir, &stores(config))
    }

    /// Opens or creates the directory at `dir`. Refuses one in the configured Nix store.
    pub(crate) fn create_configured(dir: &Path, config: &Config) -> Result<Self, DirectoryError> {
        Self::create(dir, &stores(config))
    }

    /// Finds a directory, without changes. `None` if it is missing or empty and can be created. `stores` are the directories of
    /// the Nix store.
    fn find_outside(dir: &Path, stores: &[&Path]) -> Result<Option<Self>, DirectoryError> {
        let failed = |cause| DirectoryError::Io { path: dir.to_owned(), cause };
        // systemd makes it a symbolic link for a service with DynamicUser=.
        let real = match dir.canonicalize() {
            Ok(real) => real,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                return if is_in_any(&resolve_missing(dir), stores) {
                    Err(DirectoryError::Store(dir.to_owned()))
                } else {
                    Ok(None)
                };
            }
            Err(cause) => return Err(failed(cause)),
        };
        if is_in_any(&real, stores) {
            return Err(DirectoryError::Store(dir.to_owned()));
        }
        let metadata = real.metadata().map_err(failed)?;
        if !metadata.is_dir() {
            return Err(failed(io::ErrorKind::NotADirectory.into()));
        }
        if metadata.mode() & WRITABLE_BY_ALL != 0 {
            return Err(DirectoryError::Public(dir.to_owned()));
        }
        if has_tag(&real).map_err(failed)? {
            return Ok(Some(Self(real)));
        }
        if is_empty(&real).map_err(failed)? { Ok(None) } else { Err(DirectoryError::NotOurs(dir.to_owned())) }
    }

    /// Opens the directory at `dir`, or creates and tags it. `stores` are the directories of the Nix store.
    pub fn create(dir: &Path, stores: &[&Path]) -> Result<Self, DirectoryError> {
        let failed = |cause| DirectoryError::Io { path: dir.to_owned(), cause };
        let found = if let Some(found) = Self::find_outside(dir, stores)? {
            found
        } else {
            DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
            Self(dir.canonicalize().map_err(failed)?)
        };
        // Its owner could replace any file that is written.
        if !is_owned_by_root_or_us(&found.0.metadata().map_err(failed)?) {
            return Err(DirectoryError::AnotherUsers(dir.to_owned()));
        }
        if !has_tag(&found.0).map_err(failed)? {
            write_tag(&found.0).map_err(failed)?;
        }
        Ok(found)
    }

    /// Returns its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// Returns the store directory as clients see it and as it is on this machine.
fn stores(config: &Config) -> Vec<&Path> {
    let real = config.real_nix_store.as_deref();
    real.into_iter().chain([Path::new(config.virtual_nix_store.as_str())]).collect()
}

/// Resolves the path of a directory that does not exist, by its nearest ancestor that does.
fn resolve_missing(dir: &Path) -> PathBuf {
    let existing = dir.ancestors().find_map(|ancestor| Some((ancestor, ancestor.canonicalize().ok()?)));
    existing.map_or_else(
        || dir.to_owned(),
        |(ancestor, real)| dir.strip_prefix(ancestor).map_or_else(|_| dir.to_owned(), |rest| real.join(rest)),
    )
}

fn is_in_any(dir: &Path, stores: &[&Path]) -> bool {
    stores.iter().any(|store| dir.starts_with(store) || store.canonicalize().is_ok_and(|real| dir.starts_with(real)))
}

fn is_owned_by_root_or_us(metadata: &Metadata) -> bool {
    metadata.uid() == 0 || metadata.uid() == rustix::process::geteuid().as_raw()
}

fn has_tag(dir: &Path) -> io::Result<bool> {
    let path = dir.join(TAG);
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Ok(false),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(cause) => return Err(cause),
    }
    let mut text = Vec::with_capacity(TAG_TEXT.len());
    File::open(path)?.take(TAG_TEXT.len() as u64).read_to_end(&mut text)?;
    Ok(text == TAG_TEXT.as_bytes())
}

/// Returns whether it is empty, apart from what a new file system has and from a tag file that a full disk left empty.
fn is_empty(dir: &Path) -> io::Result<bool> {
    for entry in dir.read_dir()? {
        let entry = entry?;
        let is_nothing =
            entry.file_name() == LOST_AND_FOUND || entry.file_name() == TAG && entry.metadata()?.len() == 0;
        if !is_nothing {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes and syncs the tag file, so that a power failure does not lose it and keep later files.
fn write_tag(dir: &Path) -> io::Result<()> {
    let mut tag = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(dir.join(TAG))?;
    if let Err(cause) = tag.write_all(TAG_TEXT.as_bytes()) {
        let _ = fs::remove_file(dir.join(TAG));
        return Err(cause);
    }
    tag.sync_all()?;
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
    fn a_directory_that_is_absent_or_empty_is_tagged_and_stays_ours_whatever_is_put_into_it() {
        let (_around, dir) = fresh();
        assert_eq!(CacheDirectory::find_outside(&dir, &[]).unwrap(), None);
        assert!(!dir.exists(), "finding changes nothing");
        let taken = CacheDirectory::create(&dir, &[]).unwrap();
        assert_eq!((names(&dir), dir.metadata().unwrap().mode() & 0o777), (vec![TAG.to_owned()], 0o700));
        fs::write(dir.join("notes.txt"), "").unwrap();
        assert_eq!(CacheDirectory::find_outside(&dir, &[]).unwrap(), Some(taken));
        for prepare in [
            |_: &Path| (),
            |dir: &Path| fs::create_dir(dir.join("lost+found")).unwrap(),
            |dir: &Path| {
                // The disk was full.
                fs::write(dir.join(TAG), "").unwrap();
            },
        ] {
            let (_around, dir) = fresh();
            fs::create_dir(&dir).unwrap();
            prepare(&dir);
            assert_eq!(CacheDirectory::find_outside(&dir, &[]).unwrap(), None);
            CacheDirectory::create(&dir, &[]).unwrap();
            assert!(CacheDirectory::find_outside(&dir, &[]).unwrap().is_some());
        }
    }

    #[test]
    fn a_directory_with_files_and_without_our_tag_is_refused_and_left_as_it_is() {
        let tag_of_another = "Signature: 8a477f597d28d172789f06886806bc55\n# This file is a cache directory tag.\n";
        for (name, text) in [("tmp", ""), (".hidden", ""), (TAG, tag_of_another), ("lock", "")] {
            let (_around, dir) = fresh();
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join(name), text).unwrap();
            let error = CacheDirectory::create(&dir, &[]).unwrap_err();
            assert!(matches!(error, DirectoryError::NotOurs(_)) && error.is_refusal(), "{name}: {error}");
            assert!(error.to_string().contains("\n  help: set nar_cache.dir to a directory that is empty"), "{error}");
            assert_eq!(
                (names(&dir), fs::read_to_string(dir.join(name)).unwrap()),
                (vec![name.to_owned()], text.into())
            );
        }
        // The tag of another directory.
        let (around, dir) = fresh();
        CacheDirectory::create(&dir, &[]).unwrap();
        let linking = around.path().join("linking");
        fs::create_dir(&linking).unwrap();
        symlink(dir.join(TAG), linking.join(TAG)).unwrap();
        assert!(matches!(CacheDirectory::create(&linking, &[]), Err(DirectoryError::NotOurs(_))));
        for dir in ["/", "/usr", "/proc"] {
            let error = CacheDirectory::create(Path::new(dir), &[]).unwrap_err();
            assert!(matches!(error, DirectoryError::NotOurs(_)), "{dir}: {error}");
        }
    }

    #[test]
    fn a_link_to_a_directory_is_judged_by_its_target() {
        let (around, dir) = fresh();
        let link = around.path().join("link");
        fs::create_dir(&dir).unwrap();
        symlink(&dir, &link).unwrap();
        let taken = CacheDirectory::create(&link, &[]).unwrap();
        assert_eq!(taken.path(), dir.canonicalize().unwrap());
        let link = around.path().join("root");
        symlink("/", &link).unwrap();
        assert!(matches!(CacheDirectory::create(&link, &[]), Err(DirectoryError::NotOurs(_))));
        // To nowhere.
        let link = around.path().join("dangling");
        symlink("nowhere", &link).unwrap();
        assert!(matches!(CacheDirectory::create(&link, &[]), Err(DirectoryError::Io { .. })));
        // A file is no directory.
        fs::write(around.path().join("file"), "").unwrap();
        assert!(matches!(CacheDirectory::create(&around.path().join("file"), &[]), Err(DirectoryError::Io { .. })));
    }

    #[test]
    fn a_directory_that_everybody_may_write_to_is_refused_though_it_is_empty() {
        let (_around, dir) = fresh();
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o1777)).unwrap();
        let error = CacheDirectory::create(&dir, &[]).unwrap_err();
        assert!(matches!(error, DirectoryError::Public(_)), "{error}");
        assert_eq!(names(&dir), [""; 0]);
        // The directory that the help names.
        CacheDirectory::create(&dir.join("harmonia"), &[]).unwrap();
    }

    #[test]
    fn a_directory_of_another_user_can_be_found_and_is_not_written_to() {
        let (_around, dir) = fresh();
        let taken = CacheDirectory::create(&dir, &[]).unwrap();
        // Only root can give one away.
        if std::os::unix::fs::chown(&dir, Some(4321), None).is_ok() {
            assert_eq!(CacheDirectory::find_outside(&dir, &[]).unwrap(), Some(taken));
            let error = CacheDirectory::create(&dir, &[]).unwrap_err();
            assert!(matches!(error, DirectoryError::AnotherUsers(_)) && !error.is_refusal(), "{error}");
        }
    }

    #[test]
    fn a_missing_permission_is_named() {
        let failed = |cause: io::ErrorKind| DirectoryError::Io { path: "/d".into(), cause: cause.into() }.to_string();
        assert!(
            failed(io::ErrorKind::PermissionDenied)
                .contains("permission denied\n  help: run this command as root or as")
        );
        assert!(failed(io::ErrorKind::NotADirectory).contains("\n  help: set nar_cache.dir to a directory; it is"));
        assert!(!failed(io::ErrorKind::StorageFull).contains("help"));
    }

    #[test]
    fn the_store_and_every_directory_in_it_are_refused() {
        let (around, store) = fresh();
        fs::create_dir(&store).unwrap();
        let link = around.path().join("link");
        symlink(&store, &link).unwrap();
        for dir in [store.clone(), store.join("a/b"), link.clone(), link.join("a")] {
            for named in [&store, &link] {
                let error = CacheDirectory::create(&dir, &[named]).unwrap_err();
                assert!(matches!(error, DirectoryError::Store(_)), "{}: {error}", dir.display());
            }
        }
        assert_eq!(names(&store), [""; 0]);
    }
}
