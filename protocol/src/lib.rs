//! x
pub mod nar;
