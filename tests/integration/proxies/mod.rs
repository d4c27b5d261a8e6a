//! Reverse proxies and caching proxies in front of harmonia.

pub(crate) mod caching_proxy;
pub(crate) mod nginx;
mod nginx_access;
mod nginx_releases;
mod private;
mod varnish;
