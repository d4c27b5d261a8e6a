//! A bucket in a directory, or on a server that plays a script, with what another host has published.

mod files;
mod garbage;
mod gateway;
mod misses;
mod narinfo;
mod nars;
mod other_host;
mod pages;
mod texts;
