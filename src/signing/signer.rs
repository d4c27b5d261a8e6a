//! Decides which paths are trusted, which are signed, and which are served at all.
//!
//! With `sign = "trusted"` a path is trusted for one of three reasons, and nothing else that nix-daemon says counts:
//!
//! - nix-daemon built it here (`ultimate`, which only trusted users of nix-daemon can set).
//! - A trusted key signed it, and the signature verifies. Any user can add any text as a signature of any path (with Nix
//!   2.26 and 2.34; 2.8 refuses).
//! - Its contents match its content address. With Nix 2.3 any user can add a path whose contents do not, and later
//!   releases keep what is in the store.
//!
//! Every supported nix-daemon reports all three: path info has the same encoding from Nix 2.3 on.

use std::collections::HashMap;
use std::sync::Arc;

use harmonia_protocol::derivation_output::DerivationOutput;
use harmonia_protocol::realisation::Realisation;
use harmonia_protocol::signature::{KeyName, PublicKey, Signature};
use harmonia_protocol::signature_set::{KnownKeys, MAX_PER_KNOWN_KEY};
use harmonia_protocol::{StoreDir, path_info::PathInfo, store_path::StorePath};

use super::keys::SigningKeys;
use crate::config::{SigningPolicy, TrustPolicy};

/// Upper bound of verified signatures per path or realisation, at 50 microseconds each.
pub(super) const MAX_VERIFIED: usize = MAX_PER_KNOWN_KEY;

/// Keys, and the policy of what they sign.
#[derive(Debug, Default)]
pub(crate) struct Signer {
    keys: Arc<SigningKeys>,
    sign: SigningPolicy,
    id: Arc<()>,
}

impl Signer {
    /// Creates a signer with an identity of its own.
    #[must_use]
    pub(crate) fn new(keys: Arc<SigningKeys>, sign: SigningPolicy) -> Self {
        Self { keys, sign, id: Arc::default() }
    }

    /// Returns the keys.
    #[must_use]
    pub(crate) const fn keys(&self) -> &Arc<SigningKeys> {
        &self.keys
    }

    /// Returns the policy of what is signed and served.
    #[must_use]
    pub(crate) const fn policy(&self) -> &SigningPolicy {
        &self.sign
    }

    /// Returns the identity of this value, unique for as long as it is referenced. Decisions are cached under it.
    #[must_use]
    pub(crate) const fn id(&self) -> &Arc<()> {
        &self.id
    }

    /// Returns the names of the keys whose signatures matter here: trusted ones, and our own.
    #[must_use]
    pub(crate) fn known_keys(&self) -> KnownKeys {
        let mut known = KnownKeys::default();
        known.extend(self.keys.public_keys().map(|key| key.name().clone()));
        if let SigningPolicy::Trusted(trusted) = &self.sign {
            known.extend(trusted.public_keys.iter().map(|key| key.name().clone()));
        }
        known
    }

    /// Returns whether every path is signed and served (`sign = "all"`).
    #[must_use]
    pub(crate) const fn trusts_all_paths(&self) -> bool {
        matches!(self.sign, SigningPolicy::All)
    }

    /// Returns whether untrusted paths are hidden from clients (`serve_untrusted = false`).
    #[must_use]
    pub(crate) const fn hides_untrusted(&self) -> bool {
        matches!(self.sign, SigningPolicy::Trusted(TrustPolicy { serve_untrusted: false, .. }))
    }

    /// Returns whether a path is trusted, or `None` if its NAR must be read to compare its contents with its content address.
    #[must_use]
    pub(crate) fn is_trusted(&self, path: &StorePath, info: &PathInfo, store: &StoreDir) -> Option<bool> {
        let SigningPolicy::Trusted(trusted) = &self.sign else { return Some(true) };
        let by_contents =
            info.content_address.as_ref().map_or(Some(false), |it| it.matches_contents(path, info, store));
        let is_signed = || has_signed(trusted, &info.fingerprint(path, store), &info.signatures);
        if info.ultimate || by_contents == Some(true) || is_signed() { Some(true) } else { by_contents }
    }

    /// Signs a trusted path with every key.
    #[must_use]
    pub(crate) fn sign_path(&self, path: &StorePath, info: &PathInfo, store: &StoreDir) -> Vec<Signature> {
        self.keys.sign(&info.fingerprint(path, store))
    }

    /// Signs a realisation of `output` with every key. Returns no signature if it is untrusted, and `None` if it must also be
    /// hidden.
    ///
    /// Only a signature makes it trusted: nix-daemon accepts realisations from any user and does not say which are its own.
    #[must_use]
    pub(crate) fn sign_realisation(
        &self,
        realisation: &Realisation,
        output: &DerivationOutput,
    ) -> Option<Vec<Signature>> {
        let fingerprints = realisation.fingerprints(output);
        let first_signed = match &self.sign {
            SigningPolicy::All => Some(0),
            // A signed fingerprint also covers those after it, which contain less.
            SigningPolicy::Trusted(trusted) => {
                fingerprints.iter().position(|it| has_signed(trusted, it, &realisation.signatures))
            }
        };
        match first_signed {
            Some(first) => Some(fingerprints[first..].iter().flat_map(|it| self.keys.sign(it)).collect()),
            None if self.hides_untrusted() => None,
            None => Some(Vec::new()),
        }
    }
}

/// Returns whether a trusted key signed this text.
///
/// Verifies one signature of each key name per round, so that forgeries under one name do not use up the limit.
fn has_signed(trusted: &TrustPolicy, fingerprint: &str, signatures: &[Signature]) -> bool {
    let mut by_name: HashMap<&KeyName, Vec<&Signature>> = HashMap::new();
    for signature in signatures {
        by_name.entry(signature.key()).or_default().push(signature);
    }
    let keys = || trusted.public_keys.iter().filter_map(|key| Some((key, by_name.get(key.name())?)));
    let rounds = keys().map(|(_, signatures)| signatures.len()).max().unwrap_or(0);
    let in_round = |round| keys().filter_map(move |(key, signatures)| Some((key, *signatures.get(round)?)));
    let verifies = |(key, signature): (&PublicKey, _)| key.verifies(fingerprint.as_bytes(), signature);
    (0..rounds).flat_map(in_round).take(MAX_VERIFIED).any(verifies)
}

#[cfg(test)]
pub(super) mod tests {
    use harmonia_protocol::content_address::ContentAddress;
    use harmonia_protocol::hash::NarHash;
    use harmonia_protocol::nix32;
    use harmonia_protocol::signature::{KeyName, SecretKey};
    use ring::digest::{SHA256, digest};

    use super::*;

    pub(in crate::signing) fn key(name: &str) -> SecretKey {
        SecretKey::generate(KeyName::new(name).unwrap()).unwrap().0
    }

    /// Creates a signer that trusts `trusted` and signs with another key.
    fn signer(trusted: &SecretKey, serve_untrusted: bool) -> Signer {
        let public_keys = vec![trusted.public_key().clone()];
        Signer::new(
            Arc::new(SigningKeys(vec![key("own-1")])),
            SigningPolicy::Trusted(TrustPolicy { public_keys, serve_untrusted }),
        )
    }

    pub(in crate::signing) fn path() -> StorePath {
        StorePath::from_base_name("0123456789abcdfghijklmnpqrsvwxyz-path").unwrap()
    }

    /// Returns unsigned path info of a NAR of 120 bytes.
    pub(in crate::signing) fn info() -> PathInfo {
        PathInfo {
            deriver: None,
            nar_hash: NarHash::from_digest([0; 32]),
            references: Vec::new(),
            registration_time: 0,
            nar_size: 120,
            ultimate: false,
            signatures: Vec::new(),
            content_address: None,
        }
    }

    fn signed_by(keys: &[&SecretKey]) -> PathInfo {
        let fingerprint = info().fingerprint(&path(), &StoreDir::default());
        PathInfo { signatures: keys.iter().map(|key| key.sign(fingerprint.as_bytes())).collect(), ..info() }
    }

    /// Returns a path of this kind, e.g. `source`, with a content address of this method and a digest of zeros.
    fn addressed(kind: &str, method: &str, info: PathInfo) -> (StorePath, PathInfo) {
        let fingerprint = format!("{kind}:sha256:{}:/nix/store:path", "0".repeat(64));
        let mut folded = [0; 20];
        for (place, byte) in digest(&SHA256, fingerprint.as_bytes()).as_ref().iter().enumerate() {
            folded[place % 20] ^= byte;
        }
        let path = StorePath::from_base_name(&format!("{}-path", nix32::encode(&folded))).unwrap();
        let content_address = ContentAddress::parse(&format!("{method}sha256:{}", "0".repeat(52)));
        assert!(content_address.is_some());
        (path, PathInfo { content_address, ..info })
    }

    #[test]
    fn only_a_signature_that_verifies_makes_a_path_trusted() {
        let (trusted, other) = (key("trusted-1"), key("other-1"));
        let signer = signer(&trusted, false);
        let store = StoreDir::default();
        let forger = key("trusted-1");
        let many: Vec<_> = vec![&forger; MAX_VERIFIED];
        let hidden = |before: usize| signed_by(&[&many[..before], &[&trusted]].concat());
        // The signature covers another size.
        let moved = PathInfo { nar_size: 121, ..signed_by(&[&trusted]) };
        for (case, info, is_trusted) in [
            ("nothing", info(), false),
            ("built here", PathInfo { ultimate: true, ..info() }, true),
            ("signed", signed_by(&[&trusted]), true),
            ("signed by another", signed_by(&[&other]), false),
            ("forged under the name", signed_by(&[&forger]), false),
            ("the same, and signed", signed_by(&[&other, &forger, &trusted]), true),
            ("a signature of another info", moved, false),
            ("behind forged ones", hidden(MAX_VERIFIED - 1), true),
            ("behind more of them than are looked at", hidden(MAX_VERIFIED), false),
        ] {
            assert_eq!(signer.is_trusted(&path(), &info, &store), Some(is_trusted), "{case}");
        }
        assert_eq!(signer.sign_path(&path(), &info(), &store).len(), 1);
    }

    #[test]
    fn a_content_address_counts_only_for_the_contents_that_it_names() {
        let signer = signer(&key("trusted-1"), false);
        let trusts = |(path, info): (StorePath, PathInfo)| signer.is_trusted(&path, &info, &StoreDir::default());
        let recursive = |info| addressed("source", "fixed:r:", info);
        assert_eq!(trusts(recursive(info())), Some(true));
        let of_others = PathInfo { nar_hash: NarHash::from_digest([1; 32]), ..info() };
        assert_eq!(trusts(recursive(of_others.clone())), Some(false));
        assert_eq!(trusts(recursive(PathInfo { ultimate: true, ..of_others })), Some(true));
        let (_, of_another_path) = recursive(info());
        assert_eq!(trusts((path(), of_another_path)), Some(false));
        // Its NAR has to be read.
        assert_eq!(trusts(addressed("text", "text:", info())), None);
    }

    #[test]
    fn forgeries_under_the_name_of_one_key_leave_time_for_the_others() {
        let (trusted, attacked) = (key("trusted-1"), key("attacked-1"));
        let public_keys = vec![attacked.public_key().clone(), trusted.public_key().clone()];
        let signer =
            Signer::new(Arc::default(), SigningPolicy::Trusted(TrustPolicy { public_keys, serve_untrusted: true }));
        let forger = key("attacked-1");
        let info = signed_by(&[&vec![&forger; MAX_VERIFIED][..], &[&trusted]].concat());
        assert_eq!(signer.is_trusted(&path(), &info, &StoreDir::default()), Some(true));
    }

    #[test]
    fn every_path_is_trusted_where_that_is_said() {
        let signer = Signer::new(Arc::default(), SigningPolicy::All);
        assert!(signer.trusts_all_paths() && !signer.hides_untrusted());
        assert_eq!(signer.is_trusted(&path(), &info(), &StoreDir::default()), Some(true));
    }

    #[test]
    fn of_a_realisation_no_more_is_signed_than_a_trusted_key_has() {
        let trusted = key("trusted-1");
        let output: DerivationOutput =
            DerivationOutput::Hashed(format!("sha256:{}!out", "7b".repeat(32)).parse().unwrap());
        let dependency = (format!("sha256:{}!out", "0a".repeat(32)).parse().unwrap(), path());
        let unsigned = Realisation { path: path(), dependencies: [dependency].into(), signatures: Vec::new() };
        let [whole, less] = &unsigned.fingerprints(&output)[..] else { panic!("not two") };
        let signed = |text: &str| Realisation { signatures: vec![trusted.sign(text.as_bytes())], ..unsigned.clone() };
        let count = |serve, it: &Realisation| signer(&trusted, serve).sign_realisation(it, &output).map(|it| it.len());
        for serve in [false, true] {
            assert_eq!((count(serve, &signed(whole)), count(serve, &signed(less))), (Some(2), Some(1)));
        }
        assert_eq!((count(false, &unsigned), count(true, &unsigned)), (None, Some(0)));
    }
}
