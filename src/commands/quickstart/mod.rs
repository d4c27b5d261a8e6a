//! `harmonia quickstart`: a signed cache without any preparation, and what to type to use it.

mod addresses;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use harmonia_protocol::signature::KeyName;
use tokio::time::sleep;

use crate::config::Config;
use crate::error::Error;
use crate::fairness::ClientId;
use crate::human_size::human_size;
use crate::output;
use crate::signing::{self, SigningKeys};
use crate::store::{Closure, ClosureLimits, Store, ValidPath};

/// Between two looks at a store that has nothing to try yet.
const PAUSE: Duration = Duration::from_secs(1);
/// Newcomers do not wait for a number.
const CLOSURE: ClosureLimits = ClosureLimits { paths: 10_000, time: Some(Duration::from_secs(5)) };

/// Sees to it that there is a key: where none is configured, one of this machine's name is made on first use and kept
/// in the user's state directory.
pub fn prepare(config: &mut Config) -> Result<(), Error> {
    if !config.sign_key_paths.is_empty() {
        return Ok(());
    }
    let path = state_directory()?.join("signing-key.secret");
    if !path.exists() {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let name = KeyName::new(&format!("{host}-1")).or_else(|_| KeyName::new("harmonia-1"));
        let name = name.map_err(|error| Error::NoStateDirectory(error.to_string()))?;
        signing::generate(&path, name)?;
        tracing::info!("made a signing key: {}", path.display());
    }
    config.sign_key_paths.push(path);
    Ok(())
}

/// Where compressed NARs are kept unless something else is configured: in this user's directory for what programs can
/// make again (XDG base directories). Nothing where there is none.
#[must_use]
pub fn cache_directory() -> Option<PathBuf> {
    variable("XDG_CACHE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".cache")))
        .map(|it| it.join("harmonia"))
}

/// What a newcomer types on another machine.
#[derive(Debug)]
pub struct Guide {
    url: String,
    /// The bound address, if every address of this machine is listened on without TLS.
    everywhere: Option<SocketAddr>,
    keys: String,
}

impl Guide {
    /// A guide to the cache that signs with `keys` and listens at `address`, if that is one of TCP. `url` has this machine's
    /// name, which others may not know.
    #[must_use]
    pub fn new(url: String, address: Option<SocketAddr>, keys: &SigningKeys) -> Self {
        // A certificate is for names.
        let everywhere = address.filter(|address| address.ip().is_unspecified() && url.starts_with("http://"));
        Self { url, everywhere, keys: keys.trusted_public_keys() }
    }

    /// Prints it, as soon as there is a daemon, and a path in its store to try it with.
    pub async fn print(self, store: &Store) {
        let path = example(store).await;
        let others = match self.everywhere {
            Some(address) => addresses::urls(address).await,
            None => Vec::new(),
        };
        let (url, others) = others.split_first().unwrap_or((&self.url, &[]));
        let closure = store.closure(&[Arc::clone(&path)], CLOSURE, |_| true, ClientId::Server).await;
        output::line(self.text(url, others, &store.directory().full_path(&path.path), &size(&closure)));
    }

    fn text(&self, url: &str, others: &[String], path: &str, size: &str) -> String {
        let keys = &self.keys;
        let also = match others {
            [] => String::new(),
            _ => format!("\nThis machine answers at other addresses too: {}\n", others.join(" ")),
        };
        format!(
            "
On another machine with Nix, as root or a trusted user, this copies {size} from here:

  nix --extra-experimental-features nix-command copy --from {url} --option extra-trusted-public-keys '{keys}' {path}

To have that machine use this cache for everything, add two lines to its /etc/nix/nix.conf:

  extra-substituters = {url}
  extra-trusted-public-keys = {keys}
{also}
Press ctrl-C to stop.
"
        )
    }
}

/// The size of a copy of a path.
fn size(closure: &Closure) -> String {
    let (nars, size) = (closure.members.len(), human_size(closure.nar_size()));
    let more = if closure.incomplete.is_some() { "more than " } else { "" };
    match nars {
        1 => format!("a path of {more}{size}"),
        _ => format!("a path and what it needs, {more}{nars} paths of {size},"),
    }
}

/// A path to try the cache with. Where the store has none that waits until somebody puts one in, which they are told how to
/// do; where the daemon cannot be asked that waits for the daemon.
async fn example(store: &Store) -> Arc<ValidPath> {
    let mut said = None;
    loop {
        let trouble = match store.example_path().await {
            Ok(Some(path)) => return path,
            Ok(None) => format!(
                "\nThere is nothing in {} yet. From another shell on this machine, put a file in:\n\n  nix-store --add FILE\n",
                store.directory()
            ),
            Err(error) => format!("\nWaiting for nix-daemon: {error}\n"),
        };
        if said.as_ref() != Some(&trouble) {
            output::line(format_args!("{trouble}"));
        }
        said = Some(trouble);
        sleep(PAUSE).await;
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Where this user's programs keep their state (XDG base directories, systemd's `StateDirectory=`), made if need be.
fn state_directory() -> Result<PathBuf, Error> {
    let directory = variable("STATE_DIRECTORY")
        .or_else(|| variable("XDG_STATE_HOME").map(|state| state.join("harmonia")))
        .or_else(|| variable("HOME").map(|home| home.join(".local/state/harmonia")))
        .ok_or_else(|| Error::NoStateDirectory("neither STATE_DIRECTORY, XDG_STATE_HOME nor HOME is set".into()))?;
    std::fs::create_dir_all(&directory)
        .map_err(|cause| Error::NoStateDirectory(format!("{}: {cause}", directory.display())))?;
    Ok(directory)
}
