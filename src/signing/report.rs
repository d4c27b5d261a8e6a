//! Reports on the signatures of a path and the reason to trust it. [`Signer::is_trusted`] makes the decision itself.

use std::collections::BTreeMap;

use harmonia_protocol::signature::{KeyName, PublicKey};
use harmonia_protocol::{StoreDir, path_info::PathInfo, store_path::StorePath};
use serde::{Deserialize, Serialize};

use super::signer::{MAX_VERIFIED, Signer};
use crate::config::SigningPolicy;

/// Reason why a path is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Trust {
    /// Every path is trusted (`sign = "all"`).
    All,
    /// nix-daemon built it itself.
    BuiltHere,
    /// Its contents match its content address.
    ContentAddressed,
    /// A trusted key signed it.
    TrustedKey,
    /// None: the path is untrusted.
    Nobody,
}

/// Status of the signatures under one key name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SignatureStatus {
    /// Made by a key of this cache.
    Ours,
    /// Made by one of `trusted_public_keys`.
    Trusted,
    /// Made by an unknown key, so that it cannot be verified.
    Unknown,
    /// Signature that the known key of that name did not make.
    Forged,
}

/// Signatures of a path under one key name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SignatureReport {
    /// Name of the key.
    pub key: String,
    /// Status of the best of them.
    pub status: SignatureStatus,
}

impl Signer {
    /// Returns the reason for the decision that a path `is_trusted` or not.
    #[must_use]
    pub(crate) fn trust_reason(&self, is_trusted: bool, path: &StorePath, info: &PathInfo, store: &StoreDir) -> Trust {
        let holds = || info.content_address.as_ref().and_then(|it| it.matches_contents(path, info, store));
        match self.policy() {
            SigningPolicy::All => Trust::All,
            SigningPolicy::Trusted(_) if !is_trusted => Trust::Nobody,
            SigningPolicy::Trusted(_) if info.ultimate => Trust::BuiltHere,
            SigningPolicy::Trusted(_) if holds() == Some(true) => Trust::ContentAddressed,
            SigningPolicy::Trusted(_) => {
                let is_signed = self
                    .signature_reports(false, path, info, store)
                    .iter()
                    .any(|it| it.status == SignatureStatus::Trusted);
                if is_signed { Trust::TrustedKey } else { Trust::ContentAddressed }
            }
        }
    }

    /// Returns the key names that sign a path when it is served, ours first.
    ///
    /// These are nix-daemon's signatures, and ours if the path `is_trusted`. Verifies at most `MAX_VERIFIED` signatures.
    #[must_use]
    pub(crate) fn signature_reports(
        &self,
        is_trusted: bool,
        path: &StorePath,
        info: &PathInfo,
        store: &StoreDir,
    ) -> Vec<SignatureReport> {
        let trusted: &[PublicKey] = match self.policy() {
            SigningPolicy::All => &[],
            SigningPolicy::Trusted(trusted) => &trusted.public_keys,
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

    use super::*;
    use crate::config::TrustPolicy;
    use crate::signing::keys::SigningKeys;
    use crate::signing::signer::tests::{info, key, path};

    #[test]
    fn signatures_are_told_by_whose_they_are_and_forged_ones_apart() {
        let (own, trusted, other, forger) = (key("own-1"), key("trusted-1"), key("other-1"), key("trusted-2"));
        let public_keys = vec![trusted.public_key().clone(), key("trusted-2").public_key().clone()];
        let sign = SigningPolicy::Trusted(TrustPolicy { public_keys, serve_untrusted: false });
        let signer = Signer::new(Arc::new(SigningKeys(vec![own])), sign);
        let (path, info) = (path(), info());
        let store = StoreDir::default();
        let fingerprint = info.fingerprint(&path, &store);
        let of = |is_trusted, keys: &[&SecretKey]| {
            let signatures = keys.iter().map(|key| key.sign(fingerprint.as_bytes())).collect();
            let info = PathInfo { signatures, ..info.clone() };
            let reports = signer.signature_reports(is_trusted, &path, &info, &store);
            let reports = reports.into_iter().map(|report| (report.key, report.status)).collect::<Vec<_>>();
            (reports, signer.trust_reason(is_trusted, &path, &info, &store))
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
