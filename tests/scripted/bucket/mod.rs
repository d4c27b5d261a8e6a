//! A bucket in a directory, with what another host has published.

mod gateway;
mod misses;
mod narinfo;
mod other_host;
mod texts;
