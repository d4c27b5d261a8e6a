//! `harmonia status`: prints the status of the server on this machine, once or repeatedly.
//!
//! Leaves finding and querying the server to [`crate::admin`].

mod fetch;
mod lines;
mod path;
mod text;
mod watch;
mod words;

use fetch::{fetch, json};

use crate::admin::Client;
use crate::cli::StatusOptions;
use crate::config::Config;
use crate::error::Error;
use crate::output;

/// Queries the server and prints its status. Works with an invalid configuration too, since the server may run with an older
/// one.
pub(super) fn run(options: &StatusOptions, loaded: Result<(Config, Vec<String>), Error>) -> Result<(), Error> {
    let config = loaded.inspect_err(|error| tracing::warn!("{error}")).ok().map(|(config, _)| config);
    let store = config.as_ref().map(|config| config.virtual_nix_store.clone()).unwrap_or_default();
    let socket = config.and_then(|config| config.admin_socket);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|cause| Error::System { doing: "start the runtime", cause })?;
    runtime.block_on(async {
        if options.watch {
            return watch::run(options, socket.as_deref()).await;
        }
        let client = Client::find(socket.as_deref()).await?;
        if let Some(named) = &options.path {
            let status = client.get(&path::target(named, &store)).await?;
            output::print(if options.json { json(&status) } else { path::render(&status) });
            return Ok(());
        }
        let (text, is_well) = fetch(&client, options).await?;
        output::print(text);
        if is_well { Ok(()) } else { Err(Error::DaemonAway) }
    })
}
