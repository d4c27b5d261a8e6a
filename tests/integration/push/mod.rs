//! Pushes to real daemons, which do not trust harmonia's user.

mod compressions;
mod concurrent;
mod credentials;
mod disk;
mod keep;
mod kills;
mod outages;
mod refusals;
mod releases;
pub(crate) mod source;

use std::path::PathBuf;

use crate::nix::content::Content;
use crate::nix::daemon::Daemon;
use crate::nix::prefix::Prefix;
use crate::nix::release::Release;
use crate::support::http::{Http, Response};
use crate::support::keys;
use crate::support::scratch;
use crate::support::server::Harmonia;
use source::File;

/// A server that anybody may push to, before a daemon that has no path, and trusts signatures of [`keys::FOREIGN`].
struct Cache {
    harmonia: Harmonia,
    daemon: Daemon,
    state: PathBuf,
    config: String,
}

impl Cache {
    fn start(release: Release) -> Self {
        Self::start_with(release, "")
    }

    /// Starts a server with more lines in its configuration.
    fn start_with(release: Release, more: &str) -> Self {
        let config = [
            "substitute = false".to_owned(),
            // By default root is trusted, which harmonia may run as in a test.
            "trusted-users = nobody".to_owned(),
            format!("trusted-public-keys = {}", keys::FOREIGN.public),
        ];
        let daemon = Daemon::on(Prefix::new(release, &config), Content::default());
        let state = scratch::fresh_dir();
        let config = config_of(&daemon, &state.display().to_string()) + more;
        Self { harmonia: Harmonia::start(&config), daemon, state, config }
    }

    /// Kills the server and starts it again.
    fn restart(&mut self) {
        self.harmonia.kill();
        self.harmonia = Harmonia::start(&self.config);
    }

    fn is_valid(&self, path: &str) -> bool {
        self.daemon.run(&["nix-store", "--check-validity", path]).succeeded()
    }

    /// Returns the number of files in the spool but the mark.
    fn spooled(&self) -> usize {
        let entries = self.state.join("spool").read_dir().unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().file_name() != "CACHEDIR.TAG").count()
    }
}

fn config_of(daemon: &Daemon, state: &str) -> String {
    format!(
        "daemon_socket = \"{}\"\nsign_key_paths = [\"{}\"]\nstate_dir = \"{state}\"\ngc_protection = 0\n\
         access.anonymous = [\"read\", \"push\"]\npush.keep = \"1d\"\n",
        daemon.socket().display(),
        keys::OURS.secret.display(),
    )
}

/// Uploads a file as Nix does.
fn put(http: Http, file: &File) -> Response {
    put_with(http, &file.target, &format!("Content-Length: {}", file.content.len()), &file.content)
}

fn put_with(http: Http, target: &str, field: &str, body: &[u8]) -> Response {
    let mut connection = http.connect().unwrap();
    connection.send(format!("PUT /{target} HTTP/1.1\r\nHost: c\r\n{field}\r\n\r\n").as_bytes()).unwrap();
    // The server may close before it has read all of it.
    let _ = connection.send(body);
    connection.receive(false).unwrap()
}
