//! Help for a user whom the permissions of nix-daemon's socket exclude.
//!
//! Debian's nix-setup-systemd opens the directory of the socket to the group nix-users only. The group on this machine
//! is that of the first directory on the path, or else of the socket, that is closed to others. Names come from
//! /etc/group and /etc/passwd; users of a directory service are shown by number.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// First id of users that log in; lower ones are system users (`SYS_UID_MAX` in login.defs(5)).
const FIRST_USER: u32 = 1000;

/// Returns how this user gets access to the socket at `path`.
pub(crate) fn help(path: &Path) -> String {
    let user = rustix::process::geteuid().as_raw();
    match group_that_may(path) {
        None => "check that this user may enter the socket's directory and write to the socket".to_owned(),
        Some(group) => advice(&named("/etc/group", group), &named("/etc/passwd", user), user),
    }
}

fn advice(group: &str, user: &str, id: u32) -> String {
    if id != 0 && id < FIRST_USER {
        return format!(
            "only the group {group} may connect: add SupplementaryGroups={group} to the service's unit, or as root: \
             usermod -aG {group} {user}"
        );
    }
    format!(
        "only the group {group} may connect; as root: usermod -aG {group} {user} -- then, in this shell: newgrp {group}, or log in again"
    )
}

/// Returns the group of the first component of the path that is open to its group but not to others.
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

/// Returns the name of an id in a file like /etc/passwd, or the id itself.
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
    fn the_group_is_that_of_the_first_component_closed_to_others() {
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
        assert!(advice("nix-users", "harmonia", 999).contains("SupplementaryGroups=nix-users to the service's unit"));
    }

    #[test]
    fn ids_have_the_names_of_the_file_or_stay_numbers() {
        assert_eq!(named("/etc/passwd", 0), "root");
        assert_eq!(named("/etc/group", 4_000_000), "4000000");
    }
}
