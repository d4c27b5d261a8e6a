//! What is signed with our keys, and what is given out at all.
//!
//! Owns whom a path is trusted by. Leaves the keys to [`SigningKeys`] and the settings to [`crate::config`].
//!
//! With `sign = "trusted"` the daemon's word counts for what it does itself: that it built the path here (`ultimate`,
//! which no client of a daemon can set unless it is a trusted user), and the content address, from which the path has to
//! follow. For what it only passes on, the signatures, nobody's word counts: any user of a daemon can add any text to any
//! path (with Nix 2.26 and 2.34; 2.8 refuses), so that a signature is one only if it verifies. Every daemon that is spoken
//! to tells all three: its path info is the same bytes from Nix 2.3 on.

use std::sync::Arc;

use harmonia_protocol::realisation::{DerivationOutput, Realisation};
use harmonia_protocol::signature::Signature;
use harmonia_protocol::{StoreDir, path_info::PathInfo, store_path::StorePath};

use super::SigningKeys;
use crate::config::{Sign, Trusted};

/// Signatures of one path that are verified, 50 microseconds each. Real paths have up to three, but any user of the
/// daemon can add more, each request for which would take its time.
const MAX_VERIFIED: usize = 256;

/// The keys, and what is signed with them.
#[derive(Debug, Default)]
pub struct Signer {
    keys: Arc<SigningKeys>,
    sign: Sign,
}

impl Signer {
    /// These keys sign what `sign` says.
    #[must_use]
    pub const fn new(keys: Arc<SigningKeys>, sign: Sign) -> Self {
        Self { keys, sign }
    }

    /// The keys.
    #[must_use]
    pub const fn keys(&self) -> &Arc<SigningKeys> {
        &self.keys
    }

    /// What is signed with them.
    #[must_use]
    pub const fn sign(&self) -> &Sign {
        &self.sign
    }

    /// Whether there are paths that are not given out.
    #[must_use]
    pub const fn withholds(&self) -> bool {
        matches!(self.sign, Sign::Trusted(Trusted { serve_untrusted: false, .. }))
    }

    /// Whether this path is given out.
    #[must_use]
    pub fn serves(&self, path: &StorePath, info: &PathInfo, store: &StoreDir) -> bool {
        !self.withholds() || self.vouches(path, info, store, &info.fingerprint(path, store))
    }

    /// The signature of each key of this path; none if it is not trusted.
    #[must_use]
    pub fn sign_path(&self, path: &StorePath, info: &PathInfo, store: &StoreDir) -> Vec<Signature> {
        let fingerprint = info.fingerprint(path, store);
        if self.vouches(path, info, store, &fingerprint) { self.keys.sign(&fingerprint) } else { Vec::new() }
    }

    /// The signature of each key of this realisation of `output`, none if it is not trusted; `None` if it is then not
    /// given out either. Daemons take realisations from anybody and do not say which are their own, so that it takes a
    /// signature.
    #[must_use]
    pub fn sign_realisation(&self, realisation: &Realisation, output: &DerivationOutput) -> Option<Vec<Signature>> {
        let fingerprints = realisation.fingerprints(output);
        let vouched = match &self.sign {
            Sign::All => Some(0),
            // What says less is told by what says more.
            Sign::Trusted(trusted) => {
                fingerprints.iter().position(|it| has_signed(trusted, it, &realisation.signatures))
            }
        };
        match vouched {
            Some(first) => Some(fingerprints[first..].iter().flat_map(|it| self.keys.sign(it)).collect()),
            None if self.withholds() => None,
            None => Some(Vec::new()),
        }
    }

    fn vouches(&self, path: &StorePath, info: &PathInfo, store: &StoreDir, fingerprint: &str) -> bool {
        let Sign::Trusted(trusted) = &self.sign else { return true };
        let follows = || info.content_address.as_ref().is_some_and(|it| it.names(path, &info.references, store));
        info.ultimate || follows() || has_signed(trusted, fingerprint, &info.signatures)
    }
}

/// Whether one of the trusted keys has signed this text.
fn has_signed(trusted: &Trusted, fingerprint: &str, signatures: &[Signature]) -> bool {
    let keys = &trusted.public_keys;
    let named =
        signatures.iter().flat_map(|it| keys.iter().filter(|key| key.name() == it.key()).map(move |key| (key, it)));
    named.take(MAX_VERIFIED).any(|(key, signature)| key.verifies(fingerprint.as_bytes(), signature))
}

#[cfg(test)]
mod tests {
    use harmonia_protocol::content_address::ContentAddress;
    use harmonia_protocol::hash::NarHash;
    use harmonia_protocol::signature::{KeyName, SecretKey};

    use super::*;

    fn key(name: &str) -> SecretKey {
        SecretKey::generate(KeyName::new(name).unwrap()).unwrap().0
    }

    /// Trusts this key, and signs with one of its own.
    fn signer(trusted: &SecretKey, serve_untrusted: bool) -> Signer {
        let public_keys = vec![trusted.public_key().clone()];
        Signer::new(Arc::new(SigningKeys(vec![key("own-1")])), Sign::Trusted(Trusted { public_keys, serve_untrusted }))
    }

    fn path() -> StorePath {
        StorePath::from_base_name("0123456789abcdfghijklmnpqrsvwxyz-path").unwrap()
    }

    fn info() -> PathInfo {
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

    #[test]
    fn only_a_signature_that_verifies_makes_a_path_trusted() {
        let (trusted, other) = (key("trusted-1"), key("other-1"));
        let signer = signer(&trusted, false);
        let store = StoreDir::default();
        let forger = key("trusted-1");
        let many: Vec<_> = vec![&forger; MAX_VERIFIED];
        let hidden = |before: usize| signed_by(&[&many[..before], &[&trusted]].concat());
        // Of other contents, which it does hold for.
        let moved = PathInfo { nar_size: 121, ..signed_by(&[&trusted]) };
        let follows_not = ContentAddress::parse(&format!("fixed:r:sha256:{}", "0".repeat(52)));
        for (case, info, is_trusted) in [
            ("nothing", info(), false),
            ("built here", PathInfo { ultimate: true, ..info() }, true),
            ("a content address of another path", PathInfo { content_address: follows_not, ..info() }, false),
            ("signed", signed_by(&[&trusted]), true),
            ("signed by another", signed_by(&[&other]), false),
            ("forged under the name", signed_by(&[&forger]), false),
            ("the same, and signed", signed_by(&[&other, &forger, &trusted]), true),
            ("a signature of another info", moved, false),
            ("behind forged ones", hidden(MAX_VERIFIED - 1), true),
            ("behind more of them than are looked at", hidden(MAX_VERIFIED), false),
        ] {
            assert_eq!(signer.serves(&path(), &info, &store), is_trusted, "{case}");
            assert_eq!(signer.sign_path(&path(), &info, &store).len(), usize::from(is_trusted), "{case}");
        }
    }

    #[test]
    fn what_is_not_trusted_is_signed_by_all_and_served_where_that_is_said() {
        let store = StoreDir::default();
        let all = Signer::new(Arc::new(SigningKeys(vec![key("own-1")])), Sign::All);
        assert!(all.serves(&path(), &info(), &store) && all.sign_path(&path(), &info(), &store).len() == 1);
        let trusting = signer(&key("trusted-1"), true);
        assert!(trusting.serves(&path(), &info(), &store) && trusting.sign_path(&path(), &info(), &store).is_empty());
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
