//! Limits on the signatures of one path or realisation, and which of them are kept.
//!
//! With Nix 2.26 and later, any user of nix-daemon can add any text as a signature of any path. So their number is limited,
//! and a flood of signatures must not displace those by other keys: each known key has a limit of its own, and the other
//! keys share one round-robin. Selection takes linear time.

use std::collections::{HashMap, HashSet};

use crate::signature::{KeyName, Signature};

/// Most signatures by each known key that are kept. At most one of them is genuine.
pub const MAX_PER_KNOWN_KEY: usize = 256;
/// Most signatures by all other keys together that are kept. Real paths have up to three.
pub const MAX_FROM_OTHER_KEYS: usize = 64;

/// Name of the key of cache.nixos.org, which nearly every client trusts.
const CACHE_NIXOS_ORG: &str = "cache.nixos.org-1";

/// Names of keys whose signatures take precedence. Extend it with names; the default has that of cache.nixos.org.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownKeys(HashSet<KeyName>);

impl Default for KnownKeys {
    fn default() -> Self {
        Self(KeyName::new(CACHE_NIXOS_ORG).into_iter().collect())
    }
}

impl Extend<KeyName> for KnownKeys {
    fn extend<T: IntoIterator<Item = KeyName>>(&mut self, names: T) {
        self.0.extend(names);
    }
}

impl KnownKeys {
    /// Returns the well-formed signatures among `texts`, in order and without duplicates, within the limits.
    pub(crate) fn select<'a>(&self, texts: impl IntoIterator<Item = &'a [u8]>) -> Vec<Signature> {
        // Number of signatures by each key that are kept so far.
        let mut counts: HashMap<&str, usize> = HashMap::new();
        let mut seen = HashSet::new();
        // Each with its round (its number among those by its key, 0 for known keys) and its position.
        let mut kept: Vec<(usize, usize, Signature)> = Vec::new();
        let mut other_keys = 0;
        for (position, text) in texts.into_iter().enumerate() {
            let Ok(text) = std::str::from_utf8(text) else { continue };
            let Some((name, _)) = text.split_once(':') else { continue };
            let is_known = self.0.contains(name);
            let count = counts.get(name).copied().unwrap_or(0);
            let is_full = match (is_known, count) {
                (true, count) => count == MAX_PER_KNOWN_KEY,
                (false, 0) => other_keys == MAX_FROM_OTHER_KEYS,
                (false, count) => count == MAX_FROM_OTHER_KEYS,
            };
            if is_full || seen.contains(text) {
                continue;
            }
            let Ok(signature) = Signature::parse(text) else { continue };
            seen.insert(text);
            counts.insert(name, count + 1);
            other_keys += usize::from(!is_known && count == 0);
            kept.push((if is_known { 0 } else { count + 1 }, position, signature));
        }
        // At most 64 by each of 64 keys: one by each key, then a second one, and so on.
        kept.sort_unstable_by_key(|(round, position, _)| (*round, *position));
        let known = kept.partition_point(|(round, ..)| *round == 0);
        kept.truncate(known + MAX_FROM_OTHER_KEYS);
        kept.sort_unstable_by_key(|(_, position, _)| *position);
        kept.into_iter().map(|(.., signature)| signature).collect()
    }
}

/// Returns a cache's own signatures, followed by the others that do not have the name of an own key. Clients trust one key
/// for each name, which is the one that the cache announces.
pub(crate) fn merge_signatures(own: Vec<Signature>, others: &[Signature]) -> Vec<Signature> {
    let ours: HashSet<KeyName> = own.iter().map(|signature| signature.key().clone()).collect();
    let mut signatures = own;
    signatures.extend(others.iter().filter(|signature| !ours.contains(signature.key())).cloned());
    signatures
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, number: usize) -> String {
        let mut bytes = [0; 64];
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        format!("{name}:{}", data_encoding::BASE64.encode(&bytes))
    }

    fn known(names: &[&str]) -> KnownKeys {
        let mut known = KnownKeys::default();
        known.extend(names.iter().map(|name| KeyName::new(name).unwrap()));
        known
    }

    fn select(known: &KnownKeys, texts: &[String]) -> Vec<String> {
        known.select(texts.iter().map(String::as_bytes)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn few_signatures_are_all_kept_in_their_order_and_each_once() {
        let mut texts = vec![text("b", 2), text("a", 1), text("b", 1), "bad".to_owned(), text("a", 1)];
        let kept = select(&KnownKeys::default(), &texts);
        texts.truncate(3);
        assert_eq!(kept, texts);
    }

    #[test]
    fn a_flood_under_one_name_does_not_displace_other_keys() {
        let mut texts: Vec<_> = (0..40_000).map(|number| text("flood", number)).collect();
        texts.extend([text("genuine-1", 1), text("genuine-2", 1)]);
        let kept = select(&KnownKeys::default(), &texts);
        assert_eq!(kept.len(), MAX_FROM_OTHER_KEYS);
        assert_eq!(kept[MAX_FROM_OTHER_KEYS - 2..], texts[40_000..]);
    }

    #[test]
    fn a_flood_under_many_names_does_not_displace_known_keys() {
        let mut texts: Vec<_> = (0..40_000).map(|number| text(&format!("a{number}"), number)).collect();
        texts.extend([text("cache.nixos.org-1", 1), text("ours-1", 1), text("unknown-1", 1)]);
        let kept = select(&known(&["ours-1"]), &texts);
        assert_eq!(kept.len(), MAX_FROM_OTHER_KEYS + 2);
        assert_eq!(kept[MAX_FROM_OTHER_KEYS..], texts[40_000..40_002]);
    }

    #[test]
    fn a_flood_under_a_known_name_is_bounded_and_displaces_no_others() {
        let mut texts: Vec<_> = (0..40_000).map(|number| text("ours-1", number)).collect();
        texts.extend([text("other", 1), text("cache.nixos.org-1", 1)]);
        let kept = select(&known(&["ours-1"]), &texts);
        assert_eq!(kept.len(), MAX_PER_KNOWN_KEY + 2);
        assert_eq!(kept[MAX_PER_KNOWN_KEY..], texts[40_000..]);
    }

    #[test]
    fn only_our_own_names_are_ours_alone() {
        let parse = |text: &String| Signature::parse(text).unwrap();
        let own = parse(&text("ours", 1));
        let others: Vec<_> = [text("theirs", 1), text("ours", 2), text("theirs", 2)].iter().map(parse).collect();
        let all = merge_signatures(vec![own.clone()], &others);
        assert_eq!(all, [own, others[0].clone(), others[2].clone()]);
        assert_eq!(merge_signatures(Vec::new(), &others), others);
    }
}
