//! x

pub mod cli;
pub mod config;
pub mod signing;
pub mod store;
