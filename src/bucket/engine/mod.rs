//! The object store as requests: engines, HTTP, access keys, attempts, uploads in parts.

mod answer;
mod credentials;
mod failure;
mod http_body;
mod http_client;
mod kind;
#[cfg(test)]
mod memory;
mod object_body;
mod old_uploads;
mod open;
mod pace;
mod patience;
#[cfg(test)]
mod request_limits;
mod store;
#[cfg(test)]
mod tests;
mod upload;
mod upload_list;
mod upload_rate;
mod walk;
mod web;

pub(crate) use failure::{BucketError, FailureKind, Operation};
pub(crate) use kind::OpenError;
pub(crate) use object_body::ObjectBody;
pub(crate) use patience::Patience;
pub(crate) use store::{BucketStore, ObjectInfo, Put, Replace};
pub(crate) use upload::{PARTS_FROM, Parts, Upload, part_size};
pub(crate) use web::{WebBody, WebCache};
