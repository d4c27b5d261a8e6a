//! The HTTP layer.

pub mod coding;
pub mod compress;
pub mod range;
