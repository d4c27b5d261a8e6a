//! Commands that ask the running server to do something.

use std::path::Path;

use harmonia_protocol::StoreDir;

use crate::admin::Client;
use crate::config::Config;
use crate::error::Error;

/// Calls `ask` with a client of the running server, and the store directory. Works with an invalid configuration too, since the
/// server may run with an older one.
pub(super) fn ask<F>(
    loaded: Result<(Config, Vec<String>), Error>,
    ask: impl FnOnce(Client, StoreDir) -> F,
) -> Result<(), Error>
where
    F: Future<Output = Result<(), Error>>,
{
    let config = loaded.inspect_err(|error| tracing::warn!("{error}")).ok().map(|(config, _)| config);
    let store = config.as_ref().map(|config| config.virtual_nix_store.clone()).unwrap_or_default();
    let socket = config.and_then(|config| config.admin_socket);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|cause| Error::System { doing: "start the runtime", cause })?;
    runtime.block_on(async { ask(Client::find(socket.as_deref()).await?, store).await })
}

/// Returns the text that names a path on the server. Follows symbolic links on this machine, except store paths, which may
/// be links themselves.
pub(super) fn named(named: &str, store: &StoreDir) -> String {
    let may_be_link = named.contains('/') && !named.contains("://") && !Path::new(named).starts_with(store.as_str());
    // The target of a link may have been garbage collected.
    let follow = || Path::new(named).canonicalize().or_else(|_| Path::new(named).read_link());
    let followed = if may_be_link { follow().ok() } else { None };
    followed.as_deref().and_then(Path::to_str).unwrap_or(named).to_owned()
}

/// Returns the name of the user who runs this command, by sudo too, or else the user ID.
pub(super) fn user() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"].into_iter().filter_map(|name| std::env::var(name).ok());
    let mut usable = named.filter(|name| !name.is_empty() && name.len() < 64 && !name.contains(char::is_control));
    usable.next().unwrap_or_else(|| format!("user {}", rustix::process::getuid().as_raw()))
}
