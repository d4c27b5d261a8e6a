//! Damaged stores and overload.

mod connection_limits;
mod load;
mod quarantine;
