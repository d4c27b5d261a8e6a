//! A mutex that ignores poisoning.

use std::sync::{self, MutexGuard, PoisonError};

/// A [`sync::Mutex`] whose lock never fails.
///
/// The program keeps running after a panic in one request or task, and every value behind such a mutex is whole between
/// any two statements that may panic. Poisoning would only turn one failed request into a failure of all.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    /// Acquires the mutex, blocking the thread until it is free.
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_while_it_is_locked_does_not_fail_later_locks() {
        let mutex = Mutex::new(1);
        let panicked = std::thread::scope(|scope| {
            let panics = scope.spawn(|| {
                let _guard = mutex.lock();
                panic!("on purpose");
            });
            panics.join().is_err()
        });
        assert!(panicked && *mutex.lock() == 1);
    }
}
