//! Metrics for Prometheus.
//!
//! Owns names, labels and buckets; `http`, `store` and others record events. Every label value is made by this program, so
//! no client can add a series: paths are templates of routes, methods are three, statuses are our own.

mod access;
mod audit_log;
#[cfg(feature = "bucket")]
mod bucket;
#[cfg(feature = "bucket")]
mod bucket_lookups;
#[cfg(feature = "bucket")]
mod bucket_publishing;
mod certificate;
mod client_certificates;
mod connections;
mod daemon;
mod exposition;
mod gc_roots;
mod http;
mod labels;
mod nar_cache;
mod narinfo_cache;
mod passwords;
mod process;
mod push;
mod reclaimed;
mod registry;
mod request_notes;
mod samples;
mod token_keys;
mod views;

#[cfg(feature = "bucket")]
pub(crate) use bucket_lookups::BucketLookup;
pub(crate) use client_certificates::ClientCertificate;
pub(crate) use connections::{ConnectionGauges, ConnectionState};
pub(crate) use daemon::{Outcome, PoolName, PoolUsage};
pub(crate) use exposition::Exposition;
pub(crate) use gc_roots::RootOutcome;
pub(crate) use http::{AbortedBy, ByteCounter, InFlight, Method, Totals};
pub(crate) use nar_cache::{NarCacheEvent, NarCacheUsage};
pub(crate) use narinfo_cache::Lookup;
pub(crate) use passwords::PasswordResult;
pub(crate) use push::{PushMetrics, Upload};
pub(crate) use reclaimed::Reclaimed;
pub(crate) use registry::Metrics;
pub(crate) use request_notes::{RequestNotes, with_notes};
pub(crate) use samples::Samples;
pub(crate) use token_keys::{FetchCounter, TokenKeyMetrics};
