//! `harmonia quickstart`: a signed cache without preparation, and what to type on clients.

mod addresses;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use harmonia_protocol::signature::KeyName;
use tokio::time::sleep;

use crate::config::{Config, Environment, user_runtime_directory};
use crate::error::Error;
use crate::fairness::ClientId;
use crate::human_size::human_size;
use crate::output;
use crate::signing::{self, SigningKeys};
use crate::store::{Closure, ClosureLimits, Store, ValidPath};

/// Interval at which an empty store is checked again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Limits on the closure whose size is printed.
const CLOSURE_LIMITS: ClosureLimits = ClosureLimits { paths: 10_000, time: Some(Duration::from_secs(5)) };

/// Ensures that there is a signing key. If none is configured, uses one in the user's state directory, which is created on
/// first use and named after this machine.
pub(super) fn prepare(config: &mut Config) -> Result<(), Error> {
    if !config.sign_key_paths.is_empty() {
        return Ok(());
    }
    let path = state_directory()?.join("signing-key.secret");
    if !path.exists() {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let name = KeyName::new(&format!("{host}-1")).or_else(|_| KeyName::new("harmonia-1"));
        let name = name.map_err(|error| Error::NoStateDirectory(error.to_string()))?;
        signing::generate(&path, name)?;
        tracing::info!("created a signing key: {}", path.display());
    }
    config.sign_key_paths.push(path);
    Ok(())
}

/// Sets the directories that systemd sets for a service to those of the user (XDG base directories), where there are none.
pub(crate) fn set_directories(environment: &mut Environment) {
    let set = |variable: &mut Option<OsString>, default: Option<PathBuf>| {
        if variable.as_ref().is_none_or(|it| it.is_empty()) {
            *variable = default.map(PathBuf::into_os_string);
        }
    };
    set(&mut environment.cache_directory, cache_directory());
    set(&mut environment.runtime_directory, user_runtime_directory());
}

fn cache_directory() -> Option<PathBuf> {
    variable("XDG_CACHE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".cache")))
        .map(|it| it.join("harmonia"))
}

/// The text that tells what to type on another machine.
#[derive(Debug)]
pub(super) struct Guide {
    url: String,
    /// The bound address, if the server listens on all addresses without TLS.
    unspecified: Option<SocketAddr>,
    keys: String,
}

impl Guide {
    /// Creates a guide to the cache that signs with `keys` and listens on `address`, if that is a TCP address. `url` has this
    /// machine's name, which others may not be able to resolve.
    #[must_use]
    pub(super) fn new(url: String, address: Option<SocketAddr>, keys: &SigningKeys) -> Self {
        // With TLS only the name fits the certificate.
        let unspecified = address.filter(|address| address.ip().is_unspecified() && url.starts_with("http://"));
        Self { url, unspecified, keys: keys.trusted_public_keys() }
    }

    /// Prints the guide as soon as nix-daemon is available and its store has a path to try.
    pub(super) async fn print(self, store: &Store) {
        let path = example(store).await;
        let others = match self.unspecified {
            Some(address) => addresses::urls(address).await,
            None => Vec::new(),
        };
        let (url, others) = others.split_first().unwrap_or((&self.url, &[]));
        let closure = store.closure(&[Arc::clone(&path)], CLOSURE_LIMITS, |_| true, ClientId::Server).await;
        output::line(self.text(url, others, &store.directory().full_path(&path.path), &size(&closure)));
    }

    fn text(&self, url: &str, others: &[String], path: &str, size: &str) -> String {
        let keys = &self.keys;
        let also = match others {
            [] => String::new(),
            _ => format!("\nOther addresses of this machine: {}\n", others.join(" ")),
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

/// Renders the size of a closure.
fn size(closure: &Closure) -> String {
    let (nars, size) = (closure.members.len(), human_size(closure.nar_size()));
    let more = if closure.incomplete.is_some() { "more than " } else { "" };
    match nars {
        1 => format!("a path of {more}{size}"),
        _ => format!("a path and what it needs, {more}{nars} paths of {size},"),
    }
}

/// Finds a path to try the cache with. Waits while the store is empty or nix-daemon is unavailable, and prints why.
async fn example(store: &Store) -> Arc<ValidPath> {
    let mut printed = None;
    loop {
        let reason = match store.example_path().await {
            Ok(Some(path)) => return path,
            Ok(None) => format!(
                "\nThe store {} is empty. Add a file from another shell on this machine:\n\n  nix-store --add FILE\n",
                store.directory()
            ),
            Err(error) => format!("\nWaiting for nix-daemon: {error}\n"),
        };
        if printed.as_ref() != Some(&reason) {
            output::line(format_args!("{reason}"));
        }
        printed = Some(reason);
        sleep(RETRY_INTERVAL).await;
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Returns the user's state directory (XDG base directories, systemd's `StateDirectory=`), and creates it if it is missing.
fn state_directory() -> Result<PathBuf, Error> {
    let directory = variable("STATE_DIRECTORY")
        .or_else(|| variable("XDG_STATE_HOME").map(|state| state.join("harmonia")))
        .or_else(|| variable("HOME").map(|home| home.join(".local/state/harmonia")))
        .ok_or_else(|| Error::NoStateDirectory("neither STATE_DIRECTORY, XDG_STATE_HOME nor HOME is set".into()))?;
    std::fs::create_dir_all(&directory)
        .map_err(|cause| Error::NoStateDirectory(format!("{}: {cause}", directory.display())))?;
    Ok(directory)
}
