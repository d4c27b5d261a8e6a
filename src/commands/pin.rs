//! `harmonia pin`, `unpin` and `pins`: store paths that the garbage collector keeps under a name.

use std::time::Duration;

use harmonia_protocol::StoreDir;

use super::server::user;
use super::store_paths::store_path;
use super::times::{ago, until};
use crate::admin::{Client, PinPaths};
use crate::cli::PinOptions;
use crate::error::Error;
use crate::output::{self, counted};
use crate::process::log::escape_controls;
use crate::store::{Generation, Pin};

/// Pins paths.
pub(super) async fn pin(server: Client, store: StoreDir, options: &PinOptions) -> Result<(), Error> {
    let path = |path| Ok::<_, Error>(store_path(path, &store)?.base_name().to_owned());
    let paths = options.paths.iter().map(|named| path(named)).collect::<Result<_, _>>()?;
    let seconds = options.length.as_ref().map(Duration::as_secs);
    let request = PinPaths { name: options.name.clone(), paths, seconds, by: user() };
    let pin: Pin = server.post("/pins/add", &request).await?;
    print(&pin);
    Ok(())
}

/// Removes a pin.
pub(super) async fn unpin(server: Client, name: &str) -> Result<(), Error> {
    let pin: Pin = server.post("/pins/remove", &name).await?;
    output::line(format_args!("{}: removed {}", pin.name, counted(pin.generations.len() as u64, "generation")));
    Ok(())
}

/// Lists the pins.
pub(super) async fn list(server: Client, json: bool) -> Result<(), Error> {
    let pins: Vec<Pin> = server.get("/pins").await?;
    if json {
        // Serialising what was just parsed cannot fail.
        output::line(serde_json::to_string(&pins).unwrap_or_default());
    } else if pins.is_empty() {
        output::line("nothing is pinned");
    } else {
        pins.iter().for_each(print);
    }
    Ok(())
}

fn print(pin: &Pin) {
    output::line(format_args!("{}: {}", pin.name, pin.directory));
    for Generation { number, paths, by, since, until: end } in &pin.generations {
        let end = end.map_or_else(|| "for good".to_owned(), |end| format!("for {} more", until(end)));
        output::line(escape_controls(&format!("  {number}, pinned {} by {by}, {end}", ago(*since))));
        for path in paths {
            output::line(format_args!("    {path}"));
        }
    }
}
