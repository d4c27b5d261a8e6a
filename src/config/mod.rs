//! Configuration: from a TOML file, the environment and the command line to one [`Config`].
//!
//! Owns the names of the keys, their ranges and defaults, and the rule of precedence: flags over environment over
//! file over defaults. `file` is what a file says (every key optional, each with its line), `resolve` is what the
//! program uses (nothing optional that has a default, no contradictions left). Leaves opening anything but the
//! configuration file itself to others: keys are loaded by [`crate::signing`], sockets by the listeners.
//!
//! Keys, defaults and their meaning are those of harmonia's README, so that a file written for it loads unchanged;
//! `config.example.toml` lists them all and a test holds it to this module. A relative path, in the file as in the
//! environment, is relative to the working directory of the process.

mod access_log;
mod admin_socket;
mod bind;
mod byte_size;
mod cidr;
mod daemon;
mod environment;
mod error;
mod file;
mod keyword;
mod nar;
mod nar_cache;
mod reload;
mod resolve;
mod signing;
mod store_directories;
mod store_layout;
#[cfg(test)]
mod tests;
mod unix_socket;
mod value;

pub use access_log::{AccessLogConfig, AccessLogFormat};
pub use admin_socket::{
    AdminSocketError, SYSTEM_ADMIN_SOCKET, admin_socket_path, default_admin_sockets, user_runtime_directory,
};
pub use bind::BindAddress;
pub use byte_size::{ByteSize, ByteSizeError};
pub use cidr::{Cidr, CidrError};
pub use daemon::{Daemon, DaemonAddress, DaemonAddressError, DaemonCommand, DaemonSource, socket_path};
pub use environment::Environment;
pub use error::{ConfigError, ConfigErrors, Problem};
pub use keyword::KeywordError;
pub use nar::{NarSource, Precompress, Verify};
pub use nar_cache::{EncodersConfig, NarCacheConfig, ZstdConfig};
pub use reload::ReloadReport;
pub use resolve::{CliOverrides, Config, NarinfoCacheConfig, TlsConfig};
pub use signing::{SigningPolicy, TrustPolicy};
pub use store_directories::StoreDirectories;
pub use unix_socket::SocketMode;
