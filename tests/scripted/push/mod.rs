//! Uploads: what comes into the spool, what is refused, and what is left behind.

mod accept;
mod audit;
mod references;
mod refusals;
mod spool;

use std::path::{Path, PathBuf};

use harmonia_protocol::hash::NarHash;
use ring::digest;

use crate::support::http::{Connection, Response};
use crate::support::scratch;
use crate::support::scripted_daemon::{Script, ScriptedDaemon};
use crate::support::server::Harmonia;

/// A server that accepts uploads from anybody, with a daemon that has no path.
struct Cache {
    harmonia: Harmonia,
    state: PathBuf,
    daemon: ScriptedDaemon,
    config: String,
    audit_log: PathBuf,
}

impl Cache {
    fn start(settings: &str) -> Self {
        Self::with_rights("access.anonymous = [\"read\", \"push\"]", settings)
    }

    fn with_rights(rights: &str, settings: &str) -> Self {
        let (daemon, state) = (ScriptedDaemon::start(Script::knowing_no_path()), scratch::fresh_dir());
        let audit_log = scratch::fresh_dir().join("audit.log");
        let config = format!(
            "{}\naudit.file = \"{}\"\nstate_dir = \"{}\"\n{rights}\npush.keep = \"1d\"\n{settings}",
            daemon.config(),
            audit_log.display(),
            state.display()
        );
        Self { harmonia: Harmonia::start(&config), state, daemon, config, audit_log }
    }

    fn restart(&mut self) {
        self.harmonia.kill();
        self.harmonia = Harmonia::start(&self.config);
    }

    fn connect(&self) -> Connection {
        self.harmonia.http().connect().unwrap()
    }

    /// Sends a PUT with its whole body.
    fn put(&self, target: &str, body: &[u8]) -> Response {
        self.put_with(target, &format!("Content-Length: {}\r\n", body.len()), body)
    }

    fn put_with(&self, target: &str, fields: &str, body: &[u8]) -> Response {
        let mut connection = self.connect();
        connection.send(head(target, fields).as_bytes()).unwrap();
        // The server may close before it has read all of it.
        let _ = connection.send(body);
        connection.receive(false).unwrap()
    }

    /// Returns the names of the files in the spool but the mark.
    fn spooled(&self) -> Vec<String> {
        files(&self.state.join("spool"))
    }

    /// Waits until the spool has no files.
    fn await_empty_spool(&self) {
        while !self.spooled().is_empty() {
            std::thread::yield_now();
        }
    }
}

fn files(dir: &Path) -> Vec<String> {
    let names = dir.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "CACHEDIR.TAG").collect()
}

fn head(target: &str, fields: &str) -> String {
    format!("PUT {target} HTTP/1.1\r\nHost: c\r\n{fields}\r\n")
}

/// Returns the target of a file with this content.
fn nar_target(content: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, content);
    format!("/nar/{}.nar.xz", NarHash::from_digest(digest.as_ref().try_into().unwrap()).to_nix32())
}
