//! The way in for a user whom the permissions of the daemon's socket keep out.
//!
//! Debian's nix-setup-systemd opens the directory of the socket to the group nix-users alone. Which group it is on this
//! machine is read from the first directory, or else the socket, that others may not enter; names come from /etc/group
//! and /etc/passwd. A user of a directory service has none there, and is named by number.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Users below are the system's: they do not log in (`SYS_UID_MAX` of login.defs(5)).
const FIRST_USER: u32 = 1000;

/// Says how this user gets in to the socket at `path`.
pub(crate) fn help(path: &Path) -> String {
    let user = rustix::process::geteuid().as_raw();
    match group_that_may(path) {
        None => "may this user enter the socket's directory, and write to the socket?".to_owned(),
        Some(group) => advice(&named("/etc/group", group), &named("/etc/passwd", user), user),
    }
}

fn advice(group: &str, user: &str, id: u32) -> String {
    if id != 0 && id < FIRST_USER {
        return format!(
            "only the group {group} may: give the service it, by SupplementaryGroups={group} in its unit, or as root: \
             usermod -aG {group} {user}"
        );
    }
    format!(
        "only the group {group} may; as root: usermod -aG {group} {user} -- then, in this shell: newgrp {group}, or log in again"
    )
}

/// The group that the first directory on the way, or the socket, lets in where it does not let in everybody.
fn group_that_may(path: &Path) -> Option<u32> {
    let mut ways: Vec<_> = path.ancestors().collect();
    ways.reverse();
    ways.into_iter().find_map(|way| {
        let found = fs::metadata(way).ok()?;
        let needed = if found.is_dir() { 0o1 } else { 0o2 };
        lets_in_its_group_alone(&found, needed).then_some(found.gid())
    })
}

fn lets_in_its_group_alone(found: &Metadata, needed: u32) -> bool {
    found.mode() & needed == 0 && found.mode() & (needed << 3) != 0
}

/// The name that belongs to this id in a file like /etc/passwd, or the bare id.
pub(crate) fn named(file: &str, id: u32) -> String {
    let id = id.to_string();
    let lines = fs::read_to_string(file).unwrap_or_default();
    let name = lines.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id).then(|| name.to_owned())
    });
    name.unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_group_is_that_of_the_first_that_lets_in_no_others() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("daemon-socket");
        fs::create_dir(&inner).unwrap();
        let socket = inner.join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(directory.path(), 0o755);
        for (directory_mode, socket_mode, is_told) in
            [(0o755, 0o666, false), (0o750, 0o666, true), (0o755, 0o660, true), (0o700, 0o666, false)]
        {
            mode(&inner, directory_mode);
            mode(&socket, socket_mode);
            let group = fs::metadata(&inner).unwrap().gid();
            assert_eq!(group_that_may(&socket), is_told.then_some(group), "{directory_mode:o} {socket_mode:o}");
        }
    }

    #[test]
    fn who_logs_in_gets_the_whole_command_and_a_service_its_line() {
        let person = advice("nix-users", "alice", 1000);
        assert!(person.contains("as root: usermod -aG nix-users alice -- then, in this shell: newgrp nix-users"));
        assert!(advice("nix-users", "harmonia", 999).contains("SupplementaryGroups=nix-users in its unit"));
    }

    #[test]
    fn ids_have_the_names_of_the_file_or_stay_numbers() {
        assert_eq!(named("/etc/passwd", 0), "root");
        assert_eq!(named("/etc/group", 4_000_000), "4000000");
    }
}
