//! Clean-up process that outlives the test binary, to stop what the binary left running.

use std::ffi::OsStr;
use std::process::{Child, Command, Stdio};

/// Runs `stop`, a script of bash with `argument` as its `$0`, when standard input ends, which only the test binary holds.
pub(crate) fn at_the_end(stop: &str, argument: impl AsRef<OsStr>) -> Child {
    Command::new("bash")
        .args(["-c", &format!("cat >/dev/null; {stop}")])
        .arg(argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("cannot run bash")
}
