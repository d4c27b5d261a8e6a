//! What was decided about a path, remembered beside what is known of it.
//!
//! Owns only that: what is decided, and by what rules, is for those above. As the daemon's knowledge of a path is one
//! value for as long as it stays the same, what follows from it need be found out once.

use crate::sync::Mutex;
use std::sync::Arc;

/// Yes or no, by rules that have an identity.
#[derive(Debug, Default)]
pub struct CachedVerdict(Mutex<Option<(Arc<()>, bool)>>);

impl CachedVerdict {
    /// What was decided by these rules, if that was the last decision.
    pub fn get(&self, rules: &Arc<()>) -> Option<bool> {
        self.0.lock().as_ref().filter(|(by, _)| Arc::ptr_eq(by, rules)).map(|(_, verdict)| *verdict)
    }

    /// Remembers what was decided by these rules, in place of what others have led to.
    pub fn set(&self, rules: &Arc<()>, verdict: bool) {
        *self.0.lock() = Some((Arc::clone(rules), verdict));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_of_the_rules_that_led_to_it() {
        let (verdict, rules, others) = (CachedVerdict::default(), Arc::default(), Arc::default());
        assert_eq!(verdict.get(&rules), None);
        verdict.set(&rules, false);
        assert_eq!((verdict.get(&rules), verdict.get(&others)), (Some(false), None));
        verdict.set(&others, true);
        assert_eq!((verdict.get(&rules), verdict.get(&others)), (None, Some(true)));
    }
}
