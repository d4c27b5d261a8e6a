//! NARs of valid paths: where their bytes come from, how they are verified, and which paths failed.

pub(super) mod content_check;
pub(super) mod digest;
pub(super) mod events;
pub(super) mod expected;
pub(super) mod files;
pub(super) mod open;
pub(super) mod opener;
pub(super) mod options;
pub(super) mod quarantine;
pub(super) mod recheck;
pub(super) mod verified;
pub(super) mod verifying;
