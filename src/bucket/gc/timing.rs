//! Times by which publishers and garbage collections agree without talking to each other.
//!
//! A publisher puts narinfos for [`LOOK_AGAIN`] after it has looked for plans, and gives up on those of one request after
//! [`PUT_TIME`]. A run waits for [`WAIT`] after its plan is there, so that whatever was put without seeing it is there too.

use std::time::Duration;

/// Time for which a publisher relies on what it has seen of plans.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(20);
/// Upper bound of the time in which narinfos are put that were begun within [`LOOK_AGAIN`].
pub(crate) const PUT_TIME: Duration = Duration::from_secs(60);
/// Time between the plan and the first deletion: the sum of both, and half of it again for requests that arrive late.
pub(crate) const WAIT: Duration = Duration::from_secs(120);
/// Time after which a run whose lease was not renewed counts as dead, by the clocks of two machines.
pub(crate) const ABANDONED: Duration = Duration::from_secs(3_600);
/// Time between two looks of a publisher that waits for the end of a run.
pub(crate) const POLL: Duration = Duration::from_secs(5);

const _: () = assert!(WAIT.as_secs() >= (LOOK_AGAIN.as_secs() + PUT_TIME.as_secs()) * 3 / 2);
