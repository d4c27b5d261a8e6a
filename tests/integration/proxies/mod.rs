//! Reverse proxies and caching proxies in front of harmonia.

pub(crate) mod nginx;
mod nginx_access;
mod nginx_releases;
mod varnish;
