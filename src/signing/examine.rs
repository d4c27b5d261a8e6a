//! Signatures of a path and the reason to trust it, for people. Whether it is served is for [`Signer::trusts`].

use std::collections::BTreeMap;

use harmonia_protocol::signature::{KeyName, PublicKey};
use harmonia_protocol::{StoreDir, path_info::PathInfo, store_path::StorePath};
use serde::{Deserialize, Serialize};

use super::Signer;
use super::signer::MAX_VERIFIED;
use crate::config::Sign;

/// A reason to trust a path, or that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// Every path is trusted (`sign = "all"`).
    All,
    /// The daemon built it itself.
    BuiltHere,
    /// Its contents are those that its content address names.
    ContentAddressed,
    /// A trusted key has signed it.
    TrustedKey,
    /// Nobody who is trusted vouches for it.
    Nobody,
}

/// The standing of the signatures of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignatureStatus {
    /// By a key of this cache.
    Ours,
    /// By one of `trusted_public_keys`.
    Trusted,
    /// By a key that is not known here, so that nothing can be said of it.
    Unknown,
    /// Under the name of a known key, which has not made it.
    Forged,
}

/// The signatures of a path under one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureReport {
    /// The name of the key.
    pub key: String,
    /// The standing of the best of them.
    pub status: SignatureStatus,
}

impl Signer {
    /// The reason for a verdict of whether a path is trusted.
    #[must_use]
    pub fn reason(&self, is_trusted: bool, path: &StorePath, info: &PathInfo, store: &StoreDir) -> Trust {
        let holds = || info.content_address.as_ref().and_then(|it| it.matches_contents(path, info, store));
        match self.sign() {
            Sign::All => Trust::All,
            Sign::Trusted(_) if !is_trusted => Trust::Nobody,
            Sign::Trusted(_) if info.ultimate => Trust::BuiltHere,
            Sign::Trusted(_) if holds() == Some(true) => Trust::ContentAddressed,
            Sign::Trusted(_) => {
                let is_signed =
                    self.signatures(false, path, info, store).iter().any(|it| it.status == SignatureStatus::Trusted);
                if is_signed { Trust::TrustedKey } else { Trust::ContentAddressed }
            }
        }
    }

    /// The names under which a path is signed when it is given out, ours first: those that the daemon tells, and ours if
    /// it `is_trusted`. No more signatures are verified than for the decision whether it is.
    #[must_use]
    pub fn signatures(
        &self,
        is_trusted: bool,
        path: &StorePath,
        info: &PathInfo,
        store: &StoreDir,
    ) -> Vec<SignatureReport> {
        let trusted: &[PublicKey] = match self.sign() {
            Sign::All => &[],
            Sign::Trusted(trusted) => &trusted.public_keys,
        };
        let known = || {
            let ours = self.keys().public_keys().map(|key| (key, SignatureStatus::Ours));
            ours.chain(trusted.iter().map(|key| (key, SignatureStatus::Trusted)))
        };
        let fingerprint = info.fingerprint(path, store);
        let mut verifications = MAX_VERIFIED;
        let mut by_name: BTreeMap<&KeyName, SignatureStatus> = BTreeMap::new();
        if is_trusted {
            by_name.extend(self.keys().public_keys().map(|key| (key.name(), SignatureStatus::Ours)));
        }
        for signature in &info.signatures {
            let name = signature.key();
            let mut status = SignatureStatus::Unknown;
            for (key, whose) in known().filter(|(key, _)| key.name() == name) {
                if verifications == 0 {
                    break;
                }
                verifications -= 1;
                if key.verifies(fingerprint.as_bytes(), signature) {
                    status = whose;
                    break;
                }
                status = SignatureStatus::Forged;
            }
            let best = by_name.entry(name).or_insert(status);
            *best = status.min(*best);
        }
        let mut reports: Vec<_> =
            by_name.into_iter().map(|(key, status)| SignatureReport { key: key.to_string(), status }).collect();
        reports.sort_by_key(|report| report.status);
        reports
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use harmonia_protocol::signature::SecretKey;

    use super::super::SigningKeys;
    use super::super::signer::tests::{info, key, path};
    use super::*;
    use crate::config::Trusted;

    #[test]
    fn signatures_are_told_by_whose_they_are_and_forged_ones_apart() {
        let (own, trusted, other, forger) = (key("own-1"), key("trusted-1"), key("other-1"), key("trusted-2"));
        let public_keys = vec![trusted.public_key().clone(), key("trusted-2").public_key().clone()];
        let sign = Sign::Trusted(Trusted { public_keys, serve_untrusted: false });
        let signer = Signer::new(Arc::new(SigningKeys(vec![own])), sign);
        let (path, info) = (path(), info());
        let store = StoreDir::default();
        let fingerprint = info.fingerprint(&path, &store);
        let of = |is_trusted, keys: &[&SecretKey]| {
            let signatures = keys.iter().map(|key| key.sign(fingerprint.as_bytes())).collect();
            let info = PathInfo { signatures, ..info.clone() };
            let reports = signer.signatures(is_trusted, &path, &info, &store);
            let reports = reports.into_iter().map(|report| (report.key, report.status)).collect::<Vec<_>>();
            (reports, signer.reason(is_trusted, &path, &info, &store))
        };
        let names = |names: &[(&str, SignatureStatus)]| {
            names.iter().map(|(name, status)| ((*name).to_owned(), *status)).collect::<Vec<_>>()
        };
        let (ours, theirs) = (SignatureStatus::Ours, SignatureStatus::Trusted);
        let (unknown, wrong) = (SignatureStatus::Unknown, SignatureStatus::Forged);
        let expected = [("own-1", ours), ("trusted-1", theirs), ("other-1", unknown), ("trusted-2", wrong)];
        assert_eq!(of(true, &[&forger, &other, &trusted]), (names(&expected), Trust::TrustedKey));
        assert_eq!(of(false, &[&forger]), (names(&[("trusted-2", wrong)]), Trust::Nobody));
        assert_eq!(of(false, &[]), (Vec::new(), Trust::Nobody));
        // One that holds is enough.
        let twice = of(true, &[&key("trusted-1"), &trusted]).0;
        assert_eq!(twice, names(&[("own-1", ours), ("trusted-1", theirs)]));
    }
}
