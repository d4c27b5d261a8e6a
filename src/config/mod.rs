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

mod access;
#[cfg_attr(not(feature = "bucket"), allow(dead_code, reason = "read to say that this program was built without it"))]
mod access_key;
mod access_log;
mod admin_socket;
mod audit;
mod bind;
#[cfg_attr(not(feature = "bucket"), allow(dead_code, reason = "read to say that this program was built without it"))]
mod bucket;
#[cfg_attr(not(feature = "bucket"), allow(dead_code, reason = "read to say that this program was built without it"))]
mod bucket_table;
#[cfg_attr(not(feature = "bucket"), allow(dead_code, reason = "read to say that this program was built without it"))]
mod bucket_url;
mod byte_size;
mod cidr;
mod daemon;
mod document;
mod duration;
mod environment;
mod error;
mod file;
#[cfg_attr(not(feature = "bucket"), allow(dead_code, reason = "read to say that this program was built without it"))]
mod gateway;
mod host_name;
mod jwks_url;
mod keyword;
mod nar;
mod nar_cache;
mod principal;
mod push;
mod reload;
mod resolve;
mod rights;
mod signing;
mod store_directories;
mod store_layout;
mod tables;
#[cfg(test)]
pub(crate) mod tests;
mod unix_socket;
mod value;
mod view_root;
mod views;

pub(crate) use access::{AccessConfig, Grant, JwksSource, JwtConfig};
#[cfg(feature = "bucket")]
pub(crate) use access_key::{AccessKey, AccessKeyError};
pub(crate) use access_log::{AccessLogConfig, AccessLogFormat};
pub(crate) use admin_socket::{admin_socket_path, default_admin_sockets, user_runtime_directory};
pub(crate) use audit::{AuditConfig, OnFailure};
pub(crate) use bind::BindAddress;
#[cfg(feature = "bucket")]
pub(crate) use bucket::{BucketConfig, Credentials};
#[cfg(any(test, feature = "bucket"))]
pub(crate) use bucket_table::Publish;
#[cfg(feature = "bucket")]
pub(crate) use bucket_table::{RedirectFrom, Unreachable};
#[cfg(feature = "bucket")]
pub(crate) use bucket_url::{BucketLocation, BucketUrlError, HttpUrl, HttpUrlError};
pub(crate) use byte_size::ByteSize;
pub(crate) use cidr::Cidr;
pub(crate) use daemon::{DaemonAddress, DaemonCommand, socket_path};
pub(crate) use duration::duration;
pub(crate) use environment::Environment;
pub(crate) use error::ConfigErrors;
#[cfg(feature = "bucket")]
pub(crate) use host_name::HostName;
pub(crate) use nar::{NarSource, Precompress, Verify};
pub(crate) use nar_cache::{EncodersConfig, NarCacheConfig, ZstdConfig};
pub(crate) use principal::PrincipalClass;
#[cfg(test)]
pub(crate) use principal::PrincipalPattern;
pub(crate) use push::PushConfig;
pub(crate) use resolve::{CliOverrides, Config, TlsConfig};
pub(crate) use rights::Rights;
pub(crate) use signing::{SigningPolicy, TrustPolicy};
pub(crate) use store_directories::StoreDirectories;
pub(crate) use unix_socket::SocketMode;
pub(crate) use views::ViewConfig;
