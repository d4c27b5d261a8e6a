//! A host of a fleet: a store with its nix-daemon, a harmonia that can be killed and started again at the same address, and a
//! proxy of its own before the object store.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use ring::digest::{SHA256, digest};

use super::shared_bucket::Fleet;
use crate::nix::content::Content;
use crate::nix::daemon::Daemon;
use crate::nix::prefix::Prefix;
use crate::nix::release::Release;
use crate::support::http::Http;
use crate::support::keys::{self, Key};
use crate::support::s3_proxy::S3Proxy;
use crate::support::scratch;
use crate::support::server::Harmonia;

/// A path to add to a store.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Full store path.
    pub(crate) path: String,
    pub(crate) contents: Vec<u8>,
    /// Full store paths.
    pub(crate) references: Vec<String>,
}

impl Item {
    /// Creates a path with this name, which decides its hash part, whatever the contents.
    pub(crate) fn new(name: &str, contents: impl Into<Vec<u8>>, references: &[&str]) -> Self {
        let hash = harmonia_protocol::nix32::encode(&digest(&SHA256, name.as_bytes()).as_ref()[..20]);
        let references = references.iter().copied().map(str::to_owned).collect();
        Self { path: format!("/nix/store/{hash}-{name}"), contents: contents.into(), references }
    }

    /// Returns a closure of so many paths: each of the first half has no references, and the last one refers to all others.
    pub(crate) fn closure(name: &str, paths: usize, size: usize) -> Vec<Self> {
        let mut items: Vec<Self> = Vec::new();
        for number in 0..paths {
            // Bytes that do not compress and are not those of another path.
            let seed = format!("{name}-{number}");
            let blocks = (0..size.div_ceil(32)).flat_map(|at| {
                let block = digest(&SHA256, format!("{seed}-{at}").as_bytes());
                <[u8; 32]>::try_from(block.as_ref()).unwrap()
            });
            let references: Vec<_> = match number {
                last if last + 1 == paths => items.iter().map(|item| item.path.as_str()).collect(),
                number if number >= paths / 2 => vec![items[number - paths / 2].path.as_str()],
                _ => Vec::new(),
            };
            let item = Self::new(&seed, blocks.take(size).collect::<Vec<_>>(), &references);
            items.push(item);
        }
        items
    }
}

/// A running host.
pub(crate) struct Host {
    pub(crate) name: &'static str,
    /// `None` for a gateway.
    daemon: Option<Daemon>,
    pub(crate) proxy: S3Proxy,
    pub(crate) server: Harmonia,
    config: PathBuf,
    pub(crate) state: PathBuf,
}

impl Host {
    pub(super) fn start(name: &'static str, fleet: &Fleet, key: &Key, keys: &str) -> Self {
        let prefix = Prefix::new(Release::Nix2_34, &["substitute = false".to_owned()]);
        let daemon = Daemon::on(prefix, Content::default());
        let lines = format!(
            "daemon_socket = \"{}\"\nreal_nix_store = \"{}\"\nsign_key_paths = [\"{}\"]\n",
            daemon.socket().display(),
            daemon.on_host("/nix/store").display(),
            key.secret.display()
        );
        Self::with(name, Some(daemon), fleet, &lines, keys)
    }

    pub(super) fn gateway(name: &'static str, fleet: &Fleet, keys: &str) -> Self {
        let lines = "daemon_socket = \"none\"\n";
        let trusted = format!("trusted_public_keys = [\"{}\"]\n{keys}", keys::OURS.public);
        Self::with(name, None, fleet, lines, &trusted)
    }

    fn with(name: &'static str, daemon: Option<Daemon>, fleet: &Fleet, lines: &str, keys: &str) -> Self {
        let dir = scratch::fresh_dir();
        let (config, state) = (dir.join("config.toml"), dir.join("state"));
        fs::create_dir(&state).unwrap();
        let proxy = S3Proxy::new(fleet.engine().address());
        let write = |address: &str| {
            let text = format!(
                "bind = \"{address}\"\nadmin_socket = \"{}\"\nstate_dir = \"{}\"\nnar_cache.dir = \"{}\"\n\
                 nar_cache.precompress = \"off\"\nshutdown_timeout = 1\n{lines}{}{keys}",
                dir.join("admin").display(),
                state.display(),
                dir.join("nars").display(),
                fleet.table(name, &proxy),
            );
            fs::write(&config, text).unwrap();
        };
        // Nobody's outgoing connections are from here, so that the port stays free between two servers.
        write("127.0.0.2:0");
        let address = launch(&config).address();
        write(&address.to_string());
        let mut server = launch(&config);
        server.daemon_log = daemon.as_ref().map(|daemon| daemon.log().to_owned());
        Self { name, daemon, proxy, server, config, state }
    }

    pub(crate) fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("a gateway has no store")
    }

    /// Adds paths to the store, in order, as if they were built: the store directory changes.
    pub(crate) fn add(&self, items: &[Item]) {
        for item in items {
            fs::write(self.daemon().on_host(&item.path), &item.contents).unwrap();
        }
        let paths: Vec<_> = items.iter().map(|item| (item.path.clone(), item.references.clone())).collect();
        self.daemon().register_all(&paths);
        // Nix changes it when it moves a path into it, after which it registers the path.
        let stamp = self.daemon().on_host(&format!("{}.lock", items[0].path));
        fs::write(&stamp, "").unwrap();
        fs::remove_file(&stamp).unwrap();
    }

    /// Runs a command of the program with the configuration of this host.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        let mut program = Harmonia::program();
        program.args(arguments).arg("--config").arg(&self.config);
        program.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap()
    }

    /// Runs `harmonia bucket publish`; panics unless it succeeds.
    pub(crate) fn publish(&self, paths: &[&str]) {
        let output = self.command(&[&["bucket", "publish"], paths].concat());
        assert!(output.status.success(), "{}: {output:?}\n{}", self.name, self.server.log());
    }

    /// Kills the server with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts the server that was killed, at the same address.
    pub(crate) fn restart(&mut self) {
        self.restart_as(launch(&self.config));
    }

    /// Takes this server in place of the one that was killed.
    pub(crate) fn restart_as(&mut self, server: Harmonia) {
        self.server = server;
        self.server.daemon_log = self.daemon.as_ref().map(|daemon| daemon.log().to_owned());
    }

    /// Returns the command that starts the server.
    pub(crate) fn program(&self) -> std::process::Command {
        let mut program = Harmonia::program();
        program.arg("--config").arg(&self.config);
        program
    }

    /// Changes the configuration, from the next start on.
    pub(crate) fn configure(&self, change: impl FnOnce(String) -> String) {
        fs::write(&self.config, change(fs::read_to_string(&self.config).unwrap())).unwrap();
    }

    pub(crate) fn http(&self) -> Http {
        self.server.http()
    }

    pub(crate) fn url(&self) -> &str {
        self.server.url()
    }
}

fn launch(config: &Path) -> Harmonia {
    let mut program = Harmonia::program();
    program.arg("--config").arg(config);
    Harmonia::launch(program)
}
