//! What the tests stand on: releases of Nix in private prefixes, the daemons and clients of them, the content that
//! they hold, and the program under test with an HTTP client that shows what was sent.
//!
//! Nothing here outlives the test binary, however it ends: see [`scratch`] for files, [`prefix`] for daemons and
//! [`server`] for the program.

pub(crate) mod client;
pub(crate) mod content;
pub(crate) mod daemon;
pub(crate) mod exit;
pub(crate) mod footprint;
pub(crate) mod http;
pub(crate) mod http2_frames;
pub(crate) mod keys;
pub(crate) mod metrics;
pub(crate) mod prefix;
pub(crate) mod proxied;
pub(crate) mod proxy;
pub(crate) mod release;
pub(crate) mod scratch;
pub(crate) mod scripted_daemon;
pub(crate) mod served;
pub(crate) mod server;
pub(crate) mod store_item;
pub(crate) mod watchdog;
pub(crate) mod wire;
