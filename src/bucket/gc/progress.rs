//! Progress of a garbage collection, for the command.

use std::time::Duration;

/// Step of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It lists objects, of which there are so many so far.
    List(usize),
    /// It has read so many of so many narinfos.
    Read(usize, usize),
    /// It waits for publishers.
    Wait(Duration),
    /// It has deleted so many of so many objects.
    Delete(usize, usize),
}

/// Whom a run tells what it does.
#[derive(Clone, Copy)]
pub(crate) struct Progress<'a>(&'a (dyn Fn(Step) + Sync));

impl<'a> Progress<'a> {
    /// Creates a progress that calls this.
    pub(crate) const fn new(tell: &'a (dyn Fn(Step) + Sync)) -> Self {
        Self(tell)
    }

    pub(super) fn listed(&self, objects: usize) {
        (self.0)(Step::List(objects));
    }

    pub(super) fn read(&self, read: usize, of: usize) {
        (self.0)(Step::Read(read, of));
    }

    pub(super) fn waits(&self, time: Duration) {
        (self.0)(Step::Wait(time));
    }

    pub(super) fn deleted(&self, deleted: usize, of: usize) {
        (self.0)(Step::Delete(deleted, of));
    }
}
