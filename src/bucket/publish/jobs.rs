//! Commands that wait until paths are in the bucket. Each asks again and again; one that has gone is forgotten.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use harmonia_protocol::HashPart;

use super::progress::Refused;

/// Upper bound of commands that wait.
const MAX_JOBS: usize = 256;
/// Time after which a command that has not asked is gone.
const GONE: Duration = Duration::from_secs(300);
/// Upper bound of refused paths that a command is told of.
const MAX_REFUSED: usize = 100;

/// Commands that wait.
#[derive(Debug)]
pub(super) struct Jobs {
    jobs: BTreeMap<u64, Job>,
    last: u64,
}

#[derive(Debug)]
struct Job {
    left: HashSet<HashPart>,
    refused: Vec<Refused>,
    asked: Instant,
}

impl Jobs {
    /// Creates a list whose numbers begin after this one: no command that waits through a restart is told of another's paths, as
    /// long as each process begins with a number that is higher than those of the one before, such as the time.
    pub(super) const fn new(last: u64) -> Self {
        Self { jobs: BTreeMap::new(), last }
    }

    /// Adds a command that waits for these paths, and returns its number; `None` if there are too many.
    pub(super) fn add(&mut self, paths: impl IntoIterator<Item = HashPart>) -> Option<u64> {
        self.jobs.retain(|_, job| job.asked.elapsed() < GONE);
        if self.jobs.len() >= MAX_JOBS {
            return None;
        }
        self.last += 1;
        let job = Job { left: paths.into_iter().collect(), refused: Vec::new(), asked: Instant::now() };
        self.jobs.insert(self.last, job);
        Some(self.last)
    }

    /// Returns the number of paths that a command still waits for, and those that are refused. It is forgotten when it waits
    /// for none. `None` if there is no such command.
    pub(super) fn ask(&mut self, number: u64) -> Option<(usize, Vec<Refused>)> {
        let job = self.jobs.get_mut(&number)?;
        job.asked = Instant::now();
        let progress = (job.left.len(), job.refused.clone());
        if progress.0 == 0 {
            self.jobs.remove(&number);
        }
        Some(progress)
    }

    /// Notes that a path is done, or not published for this reason. Returns whether a command has waited for it.
    pub(super) fn done(&mut self, path: &HashPart, reason: Option<&str>) -> bool {
        let mut is_awaited = false;
        for job in self.jobs.values_mut().filter(|job| job.left.contains(path)) {
            job.left.remove(path);
            is_awaited = true;
            if let Some(reason) = reason.filter(|_| job.refused.len() < MAX_REFUSED) {
                job.refused.push(Refused { path: path.to_string(), reason: reason.to_owned() });
            }
        }
        is_awaited
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::publish::plan::tests::part;

    #[test]
    fn a_command_is_told_of_its_paths() {
        let mut jobs = Jobs::new(0);
        let (one, two) = (jobs.add([part(1), part(2)]).unwrap(), jobs.add([part(2)]).unwrap());
        assert!(jobs.done(&part(2), Some("it is hidden")));
        assert!(!jobs.done(&part(9), None));
        let (left, refused) = jobs.ask(one).unwrap();
        assert_eq!((left, refused.len()), (1, 1));
        assert_eq!(jobs.ask(two).unwrap().0, 0);
        assert_eq!(jobs.ask(two), None, "it has been told");
        jobs.done(&part(1), None);
        assert_eq!(jobs.ask(one).unwrap().0, 0);
    }

    #[test]
    fn there_is_a_bounded_number_of_commands() {
        let mut jobs = Jobs::new(0);
        assert!((0..MAX_JOBS).all(|_| jobs.add([part(1)]).is_some()));
        assert_eq!(jobs.add([part(1)]), None);
    }

    #[test]
    fn after_a_restart_no_command_is_told_of_the_paths_of_another() {
        let (mut before, mut after) = (Jobs::new(1_000), Jobs::new(2_000));
        let numbers: Vec<_> = (0..10).map(|path| before.add([part(path)]).unwrap()).collect();
        assert!((0..10).all(|path| after.add([part(path)]).is_some()));
        assert!(numbers.into_iter().all(|number| after.ask(number).is_none()));
    }
}
