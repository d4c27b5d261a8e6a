//! A users file, made by `harmonia user add`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;

use super::scratch;
use super::server::Harmonia;

/// Creates a users file with these names and passwords.
pub(crate) fn users_file(users: &[(&str, &str)]) -> PathBuf {
    let file = scratch::fresh_dir().join("users");
    for (name, password) in users {
        let mut program = Harmonia::program();
        program.args(["user", "add", name, "--file"]).arg(&file).stdin(Stdio::piped());
        let mut child = program.spawn().expect("cannot run harmonia");
        writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
        assert!(child.wait().unwrap().success(), "{name}");
    }
    file
}

/// Returns the value of `Authorization` for a name and a password (RFC 7617).
pub(crate) fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", data_encoding::BASE64.encode(format!("{name}:{password}").as_bytes()))
}
