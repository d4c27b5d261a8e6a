//! The users file on disk: reading it, and replacing it as a whole.
//!
//! A change is a new file that takes the name of the old one, so that a server that reads it at the same time gets the one or
//! the other. Changes by two processes follow each other: each locks the directory. Owner, group and mode stay.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};

use super::error::{MAX_FILE, UsersError};
use super::htpasswd::Htpasswd;
use crate::config::StoreDirectories;

/// Bits of a mode that let others than owner and group have a file, or the group write it.
const OPEN_TO_OTHERS: u32 = 0o027;

/// Path of a users file that may be used.
#[derive(Debug, Clone)]
pub(crate) struct UsersFile(PathBuf);

/// Effect of a change on the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change<T> {
    /// The file has been replaced.
    Written(T),
    /// There was no file, and now there is one of the user who ran the command.
    Created(T),
}

impl UsersFile {
    /// Checks that the file is outside of `stores`.
    pub(crate) fn new(path: &Path, stores: &StoreDirectories) -> Result<Self, UsersError> {
        match stores.find(path) {
            Some(found) => Err(UsersError::InStore { path: path.to_owned(), found }),
            None => Ok(Self(path.to_owned())),
        }
    }

    /// Returns the path, as it was given.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Reads the file. Returns its users with a warning for the log if others can read it.
    pub(crate) fn read(&self) -> Result<(Htpasswd, Option<String>), UsersError> {
        let unreadable = |cause| UsersError::Read { path: self.0.clone(), cause };
        // A FIFO would make the open wait for a writer.
        let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(&self.0).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(UsersError::NotAFile { path: self.0.clone() });
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(UsersError::TooLarge { path: self.0.clone() });
        }
        let text = String::from_utf8(bytes).map_err(|_| UsersError::NotText { path: self.0.clone() })?;
        let users = Htpasswd::parse(&text).map_err(|error| UsersError::Syntax { path: self.0.clone(), error })?;
        let mode = metadata.mode() & 0o777;
        let warning = (mode & OPEN_TO_OTHERS != 0).then(|| {
            let (path, closed) = (self.0.display(), mode & !OPEN_TO_OTHERS);
            format!("the users file {path} is open to others (mode {mode:04o})\n  help: chmod {closed:o} {path}")
        });
        Ok((users, warning))
    }

    /// Reads the file, applies `edit`, and replaces the file if `edit` returns `Some`. A file that does not exist is created
    /// with mode 0600, or with mode 0640 for a `group`.
    pub(crate) fn change<T>(
        &self,
        group: Option<u32>,
        edit: impl FnOnce(&mut Htpasswd) -> Option<T>,
    ) -> Result<Option<Change<T>>, UsersError> {
        let failed = |cause| UsersError::Write { path: self.0.clone(), cause };
        // The file itself is replaced, not a link to it.
        let target = match fs::canonicalize(&self.0) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => self.0.clone(),
            found => found.map_err(failed)?,
        };
        let (Some(directory), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(UsersError::NotAFile { path: self.0.clone() });
        };
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(failed)?;
        let lock = File::open(directory).map_err(failed)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;

        let old = match fs::metadata(&target) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => None,
            found => Some(found.map_err(failed)?),
        };
        let mut users = if old.is_some() { Self(target.clone()).read()?.0 } else { Htpasswd::default() };
        let Some(done) = edit(&mut users) else { return Ok(None) };

        let mut new = name.to_owned();
        new.push(".new");
        let new = target.with_file_name(new);
        let written = write(&new, &users.to_string(), old.as_ref(), group).and_then(|()| fs::rename(&new, &target));
        if let Err(cause) = written {
            // The first error is the one to report.
            drop(fs::remove_file(&new));
            return Err(failed(cause));
        }
        lock.sync_all().map_err(failed)?;
        Ok(Some(if old.is_some() { Change::Written(done) } else { Change::Created(done) }))
    }
}

/// Writes a new file with the owner, group and mode of the old one, or else for this user and `group`.
fn write(path: &Path, text: &str, old: Option<&fs::Metadata>, group: Option<u32>) -> io::Result<()> {
    // One that a crash left behind: whoever holds the lock is the only writer.
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    if let Some(old) = old {
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(Permissions::from_mode(old.mode() & 0o777))?;
    } else if group.is_some() {
        fchown(&file, None, group)?;
        file.set_permissions(Permissions::from_mode(0o640))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::access::users::password_hash::PasswordHash;

    fn users_file(path: &Path) -> UsersFile {
        UsersFile::new(path, &StoreDirectories::default()).unwrap()
    }

    fn add(file: &UsersFile, name: &str) -> Change<bool> {
        let hash = PasswordHash::with_cost(b"correct horse", 4).unwrap();
        file.change(None, |users| Some(users.set(&name.parse().unwrap(), hash))).unwrap().unwrap()
    }

    fn names(file: &UsersFile) -> Vec<String> {
        file.read().unwrap().0.users().map(|(name, _)| name.to_string()).collect()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_new_file_is_for_its_owner_only_and_an_old_one_keeps_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("etc/users");
        let file = users_file(&path);
        assert_eq!(add(&file, "alice"), Change::Created(false));
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert_eq!(add(&file, "bob"), Change::Written(false));
        assert_eq!(add(&file, "alice"), Change::Written(true));
        assert_eq!((mode(&path), names(&file)), (0o640, vec!["alice".into(), "bob".into()]));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "a file is left over");
    }

    #[test]
    fn a_new_file_for_a_group_is_readable_to_it_and_an_old_one_keeps_its_group() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        let own = rustix::process::getegid().as_raw();
        let change = |group| users_file(&path).change(Some(group), |_| Some(())).unwrap().unwrap();
        assert_eq!(change(own), Change::Created(()));
        let of_file = || (fs::metadata(&path).unwrap().gid(), mode(&path));
        assert_eq!(of_file(), (own, 0o640));
        assert_eq!(change(own + 1), Change::Written(()));
        assert_eq!(of_file(), (own, 0o640));
    }

    #[test]
    fn a_link_stays_a_link_and_a_left_over_file_is_no_obstacle() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("users"), directory.path().join("link"));
        add(&users_file(&path), "alice");
        symlink(&path, &link).unwrap();
        fs::write(directory.path().join("users.new"), "half a fi").unwrap();
        add(&users_file(&link), "bob");
        assert!(link.is_symlink());
        assert_eq!(names(&users_file(&path)), ["alice", "bob"]);
    }

    #[test]
    fn nothing_is_written_without_a_change_or_over_a_file_with_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        fs::write(&path, "# none\nalice:secret\n").unwrap();
        let file = users_file(&path);
        let before = fs::metadata(&path).unwrap().ino();
        let error = file.change(None, |_| Some(())).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}:2: user \"alice\": the password is ", path.display())), "{error}");
        assert!(error.contains("\n  help: ") && !error.contains("secret"), "{error}");
        fs::write(&path, "# none\n").unwrap();
        assert_eq!(file.change(None, |_| None::<()>).unwrap(), None);
        assert_eq!(fs::metadata(&path).unwrap().ino(), before);
    }

    #[test]
    fn changes_at_the_same_time_are_all_made() {
        let directory = tempfile::tempdir().unwrap();
        let file = users_file(&directory.path().join("users"));
        std::thread::scope(|scope| {
            for number in 0..8 {
                let file = &file;
                scope.spawn(move || add(file, &format!("user{number}")));
            }
        });
        assert_eq!(names(&file).len(), 8);
    }

    #[test]
    fn a_file_that_others_can_read_is_warned_about() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        let file = users_file(&path);
        add(&file, "alice");
        for (mode, closed) in [(0o644, Some("640")), (0o660, Some("640")), (0o600, None), (0o640, None)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let warning = closed.map(|closed| {
                let path = path.display();
                format!("the users file {path} is open to others (mode {mode:04o})\n  help: chmod {closed} {path}")
            });
            assert_eq!(file.read().unwrap().1, warning);
        }
    }

    #[test]
    fn what_is_no_users_file_is_refused_with_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("binary"), b"\xff\n").unwrap();
        File::create(at("large")).unwrap().set_len(MAX_FILE + 1).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        for (path, reason) in [
            (at("absent"), "cannot read the users file"),
            (at("binary"), "is not UTF-8"),
            (at("large"), "is larger than"),
            (at("fifo"), "is not a regular file"),
            (directory.path().to_owned(), "is not a regular file"),
            ("/dev/zero".into(), "is not a regular file"),
        ] {
            let message = users_file(&path).read().unwrap_err().to_string();
            assert!(message.contains(reason) && message.contains("\n  help: "), "{message}");
            assert!(message.contains(path.to_str().unwrap()), "{message}");
        }
        fs::write(at("users"), "").unwrap();
        let stores = StoreDirectories::new([directory.path().to_owned()]);
        let message = UsersFile::new(&at("users"), &stores).unwrap_err().to_string();
        assert!(message.contains("is no secret") && message.contains("\n  help: "), "{message}");
    }
}
