//! Narinfos that were rendered and signed before: signing one costs more than all else that is done for it.
//!
//! Owns when such a text may be sent again: while it is of the very path info that the store has now, and was signed or
//! left unsigned, by the very keys and settings that are in use. Both are compared by their place in memory, which their
//! entry here keeps from being used for anything else. Leaves to `store` whether the info still holds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use harmonia_protocol::HashPart;

use super::text::Text;
use crate::bounded::Bounded;
use crate::metrics::{CacheName, Metrics};
use crate::signing::Signer;
use crate::store::ValidPath;

/// In which form a narinfo is told: whatever of a request, or of the moment, decides its bytes beside the path info and
/// who signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Form {
    pub(super) syntax: Syntax,
    pub(super) nar: NarForm,
}

/// How a narinfo is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Syntax {
    /// Nix's own.
    Nix,
    /// JSON, for programs.
    Json,
}

/// Which NAR a narinfo names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum NarForm {
    /// The NAR itself.
    Plain,
    /// Its compressed form.
    Compressed {
        /// Whether hash and size of that are known. They never change.
        is_measured: bool,
    },
}

/// What a narinfo is made of.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    pub(super) valid: Arc<ValidPath>,
    pub(super) signer: Arc<Signer>,
}

impl Sources {
    fn are(&self, others: &Self) -> bool {
        Arc::ptr_eq(&self.valid, &others.valid) && Arc::ptr_eq(&self.signer, &others.signer)
    }
}

/// Rendered narinfos, bounded in bytes.
#[derive(Debug)]
pub(super) struct NarinfoTexts(Mutex<Kept>);

#[derive(Debug)]
struct Kept {
    texts: Bounded<(HashPart, Form), (Sources, Arc<Text>)>,
    /// What was looked for last.
    wanted: Option<Form>,
}

impl NarinfoTexts {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self(Mutex::new(Kept { texts: Bounded::new(max_bytes), wanted: None }))
    }

    /// The text that was made of the same.
    pub(super) fn find(&self, form: Form, sources: &Sources) -> Option<Arc<Text>> {
        let mut kept = self.locked();
        kept.wanted = Some(form);
        let (made_of, text) = kept.texts.find(&(sources.valid.path.hash_part(), form))?;
        made_of.are(sources).then(|| Arc::clone(text))
    }

    /// The form of the narinfo that was looked for last: the next one is likely to be wanted so.
    pub(super) fn wanted(&self) -> Option<Form> {
        self.locked().wanted
    }

    /// Keeps a text.
    pub(super) fn keep(&self, form: Form, sources: Sources, text: &Arc<Text>) {
        // The store may have dropped the info, which is then here alone.
        let weight = text.weight() + sources.valid.weight();
        self.locked().texts.insert((sources.valid.path.hash_part(), form), (sources, Arc::clone(text)), weight);
    }

    /// Enters how many there are.
    pub(super) fn record(&self, metrics: &Metrics) {
        let kept = self.locked();
        metrics.cache(CacheName::Texts, kept.texts.len(), kept.texts.bytes());
    }

    fn locked(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use harmonia_protocol::StorePath;

    use super::*;

    const NIX: Form = Form { syntax: Syntax::Nix, nar: NarForm::Plain };
    const JSON: Form = Form { syntax: Syntax::Json, nar: NarForm::Plain };

    fn valid() -> Arc<ValidPath> {
        let path = StorePath::from_base_name("0123456789abcdfghijklmnpqrsvwxyz-path").unwrap();
        Arc::new(crate::store::tests::valid(path))
    }

    #[test]
    fn a_text_is_used_for_what_it_was_made_of_and_nothing_else() {
        let texts = NarinfoTexts::new(1 << 20);
        let sources = Sources { valid: valid(), signer: Arc::default() };
        assert!(texts.wanted().is_none() && texts.find(NIX, &sources).is_none());
        assert_eq!(texts.wanted(), Some(NIX));
        let text = Arc::new(Text::new("narinfo"));
        texts.keep(NIX, sources.clone(), &text);
        assert!(texts.find(NIX, &sources).is_some_and(|found| Arc::ptr_eq(&found, &text)));
        let compressed = Form { nar: NarForm::Compressed { is_measured: false }, ..NIX };
        assert!(texts.find(JSON, &sources).is_none() && texts.find(compressed, &sources).is_none());
        // What looks the same may have been otherwise in between.
        assert!(texts.find(NIX, &Sources { valid: valid(), ..sources.clone() }).is_none());
        assert!(texts.find(NIX, &Sources { signer: Arc::default(), ..sources }).is_none());
    }
}
