//! Metrics for Prometheus.
//!
//! Owns names, labels and buckets; `http`, `store` and others record events. Every label value is made by this program, so
//! no client can add a series: paths are templates of routes, methods are three, statuses are our own.

mod certificate;
mod connections;
mod daemon;
mod exposition;
mod gc_roots;
mod http;
mod labels;
mod nar_cache;
mod narinfo_cache;
mod process;
mod reclaimed;
mod registry;
mod request_notes;
mod samples;

pub use connections::{ConnectionGauges, ConnectionState};
pub use daemon::{Outcome, PoolName, PoolUsage};
pub use exposition::Exposition;
pub use gc_roots::RootOutcome;
pub use http::{AbortedBy, ByteCounter, InFlight, Method, Totals};
pub use nar_cache::{NarCacheEvent, NarCacheUsage};
pub use narinfo_cache::Lookup;
pub use reclaimed::Reclaimed;
pub use registry::Metrics;
pub use request_notes::{RequestNotes, with_notes};
pub use samples::Samples;
