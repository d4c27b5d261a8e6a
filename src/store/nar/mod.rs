//! NARs of valid paths: sources of their bytes, verification, and quarantine of paths that fail it.

pub(super) mod content_check;
pub(super) mod digest;
pub(super) mod events;
pub(super) mod expected;
pub(super) mod files;
pub(super) mod listing;
pub(super) mod open;
pub(super) mod opener;
pub(super) mod options;
pub(super) mod quarantine;
pub(super) mod recheck;
pub(super) mod verified;
pub(super) mod verifying;
