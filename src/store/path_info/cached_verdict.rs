//! A decision about a path, cached with its path info.
//!
//! The caller has the rules. An unchanged path info keeps its decision, so that it is made once.

use crate::sync::Mutex;
use std::sync::Arc;

/// A cached decision, with the identity of the rules that led to it.
#[derive(Debug, Default)]
pub struct CachedVerdict(Mutex<Option<(Arc<()>, bool)>>);

impl CachedVerdict {
    /// Returns the decision, if these rules made it.
    pub fn get(&self, rules: &Arc<()>) -> Option<bool> {
        self.0.lock().as_ref().filter(|(by, _)| Arc::ptr_eq(by, rules)).map(|(_, verdict)| *verdict)
    }

    /// Caches a decision of these rules, replacing that of others.
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
