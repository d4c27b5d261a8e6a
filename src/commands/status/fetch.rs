//! Fetches the status and renders it as text or JSON.

use std::io::IsTerminal as _;

use serde::Serialize;

use super::text;
use crate::admin::Client;
use crate::admin::report::Status;
use crate::cli::StatusOptions;
use crate::error::Error;

/// Returns the rendered status, and whether nix-daemon is available.
pub(super) async fn fetch(client: &Client, options: &StatusOptions) -> Result<(String, bool), Error> {
    let status: Status = client.get(&format!("/status?limit={}", options.top)).await?;
    let is_well = status.daemon.is_up;
    Ok((if options.json { json(&status) } else { text::render(&status) }, is_well))
}

pub(super) fn json(value: &impl Serialize) -> String {
    // Serialising what was just parsed cannot fail.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

/// Returns whether standard output is a terminal.
pub(super) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}
