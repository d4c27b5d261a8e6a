//! Fixtures of all tests: the program under test, a scripted nix-daemon, HTTP clients that show the raw response, and
//! metrics to wait for. Nothing here needs Nix.
//!
//! Nothing outlives the test binary, however it ends: see [`scratch`] for files and [`server`] for the program.

pub(crate) mod clock;
pub(crate) mod debug_info;
pub(crate) mod dice;
pub(crate) mod disk;
pub(crate) mod engine;
pub(crate) mod exit;
pub(crate) mod footprint;
pub(crate) mod http;
pub(crate) mod http2_frames;
pub(crate) mod issuer;
pub(crate) mod keys;
pub(crate) mod log_file;
pub(crate) mod metrics;
pub(crate) mod nar_cache;
pub(crate) mod narinfo;
pub(crate) mod object_server;
pub(crate) mod probes;
pub(crate) mod s3;
pub(crate) mod s3_proxy;
pub(crate) mod s3_request;
pub(crate) mod scratch;
pub(crate) mod scripted_daemon;
pub(crate) mod server;
pub(crate) mod store_item;
pub(crate) mod tls;
pub(crate) mod users;
pub(crate) mod watchdog;
pub(crate) mod wire;
