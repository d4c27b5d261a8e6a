//! Configuration.

mod bind;

pub use bind::{BindAddress, BindAddressError};
