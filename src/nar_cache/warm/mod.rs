//! NARs that an operator has compressed or removed by path, with `harmonia cache warm` and `harmonia cache remove`.

mod paths;
pub(super) mod queue;
mod run;

pub use paths::{WarmError, WarmOutcome, resolve, select};
