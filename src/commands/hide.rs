//! `harmonia hide`, `unhide` and `hidden`: paths that clients do not get.

use harmonia_protocol::StoreDir;

use super::server::{named, user};
use super::times::ago;
use crate::admin::{Client, Hide, Unhidden};
use crate::cli::HideOptions;
use crate::error::Error;
use crate::output;
use crate::process::log::escape_controls;
use crate::store::HiddenPath;

/// Hides a path.
pub(super) async fn hide(server: Client, store: StoreDir, options: &HideOptions) -> Result<(), Error> {
    let HideOptions { path, reason, referrers } = options.clone();
    let request = Hide { of: named(&path, &store), referrers, reason, by: user() };
    let hidden: HiddenPath = server.post("/hidden/add", &request).await?;
    let referrers = if referrers { ", and for all paths that refer to it" } else { "" };
    output::line(format_args!("{}: clients get a 404 for it{referrers}", hidden.name()));
    if hidden.path.is_none() {
        output::line(format_args!("nix-daemon does not call it valid now: check the hash"));
    }
    Ok(())
}

/// Shows a path again.
pub(super) async fn unhide(server: Client, store: StoreDir, path: &str) -> Result<(), Error> {
    let Unhidden { path, still_hidden_by } = server.post("/hidden/remove", &named(path, &store)).await?;
    output::line(match &still_hidden_by {
        None => format!("{}: no longer hidden", path.name()),
        Some(by) => format!("{}: still hidden, since it refers to {}", path.name(), by.name()),
    });
    Ok(())
}

/// Lists the hidden paths.
pub(super) async fn list(server: Client, json: bool) -> Result<(), Error> {
    let hidden: Vec<HiddenPath> = server.get("/hidden").await?;
    if json {
        // Serialising what was just parsed cannot fail.
        output::line(serde_json::to_string(&hidden).unwrap_or_default());
    } else if hidden.is_empty() {
        output::line("no path is hidden");
    } else {
        for path in &hidden {
            output::line(described(path));
        }
    }
    Ok(())
}

fn described(path: &HiddenPath) -> String {
    let referrers = if path.referrers { " with referrers" } else { "" };
    let reason = path.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let text = format!("{}{referrers}, {} by {}{reason}", path.name(), ago(path.since), path.by);
    escape_controls(&text).into_owned()
}
