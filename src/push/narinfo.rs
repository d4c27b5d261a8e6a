//! Checks of a pushed narinfo that need neither the uploaded file nor nix-daemon.

use harmonia_protocol::content_address::ContentAddress;
use harmonia_protocol::hash::{Hash, NarHash};
use harmonia_protocol::narinfo::{Compression, NarInfo, NarInfoError};
use harmonia_protocol::path_info::PathInfo;
use harmonia_protocol::signature::PublicKey;
use harmonia_protocol::{HashPart, StoreDir, StorePath};

use crate::push::file_name::UploadName;

/// Longest narinfo that may be pushed, in bytes: some 20,000 references, where the largest known paths have hundreds.
pub const MAX_NARINFO: usize = 1 << 20;

/// Requirements on pushed narinfos.
#[derive(Debug, Clone)]
pub struct PushRules {
    /// Logical store directory.
    pub store: StoreDir,
    /// Largest NAR, in bytes.
    pub max_nar_size: u64,
    /// Keys of which at least one must have signed a path whose contents do not match a content address. If empty, nix-daemon
    /// alone decides.
    pub trusted_public_keys: Vec<PublicKey>,
}

/// Reason why a narinfo may not be pushed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NarInfoFault {
    /// It is too long.
    #[error("the narinfo has more than {MAX_NARINFO} bytes: push a path with fewer references")]
    TooLong,
    /// It is not a narinfo.
    #[error("{0}: push with nix copy, which writes it as expected")]
    Malformed(String),
    /// The path is of another store directory.
    #[error("the narinfo has no StorePath in {0}: push from a store with that directory")]
    OtherStore(StoreDir),
    /// The URL of the request has another hash part than the path.
    #[error("{0} was pushed as the narinfo of another path: use the hash part of the path as the name")]
    OtherName(StorePath),
    /// The NAR is too large.
    #[error("the NAR of {path} has {size} bytes, more than push.max_nar_size ({max}) allows")]
    NarTooLarge {
        /// Store path.
        path: StorePath,
        /// Size in the narinfo, in bytes.
        size: u64,
        /// Largest size allowed, in bytes.
        max: u64,
    },
    /// The URL is not that of an uploaded file of this compression.
    #[error(
        "the narinfo of {0} has a URL that is not nar/FILEHASH.nar with the extension of its compression: push with nix copy"
    )]
    Url(StorePath),
    /// FileHash is not the hash in the URL.
    #[error("the narinfo of {0} has a FileHash that is not the hash in its URL: push with nix copy")]
    FileHash(StorePath),
    /// No trusted key signed the path.
    #[error(
        "{0} is not signed by a key in push.trusted_public_keys of this cache: sign it (nix store sign) and push again"
    )]
    Untrusted(StorePath),
}

impl NarInfoFault {
    /// Returns the status of the response.
    pub(crate) const fn status(&self) -> u16 {
        match self {
            Self::TooLong | Self::NarTooLarge { .. } => 413,
            Self::Untrusted(_) => 403,
            _ => 400,
        }
    }

    /// Returns the name of the reason in logs and metrics.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::TooLong | Self::NarTooLarge { .. } => "too_large",
            Self::Untrusted(_) => "untrusted",
            _ => "bad_narinfo",
        }
    }
}

/// A narinfo that may be pushed.
#[derive(Debug, Clone)]
pub struct PushedNarInfo {
    pub(crate) path: StorePath,
    pub(crate) info: PathInfo,
    pub(crate) file: UploadName,
    pub(crate) file_size: Option<u64>,
    pub(crate) compression: Compression,
    /// Content address that the bytes of the NAR have to be compared with: Nix 2.3 does not.
    pub(crate) unchecked: Option<ContentAddress>,
}

impl PushedNarInfo {
    /// Parses the body of a request for the narinfo of `hash`, and checks it against the rules.
    pub fn parse(body: &[u8], hash: HashPart, rules: &PushRules) -> Result<Self, NarInfoFault> {
        if body.len() > MAX_NARINFO {
            return Err(NarInfoFault::TooLong);
        }
        let text = std::str::from_utf8(body).map_err(|_| NarInfoFault::Malformed("the narinfo is not UTF-8".into()))?;
        let narinfo = NarInfo::parse(text, &rules.store).map_err(|error| match error {
            NarInfoError::Field("StorePath") => NarInfoFault::OtherStore(rules.store.clone()),
            error => NarInfoFault::Malformed(error.to_string()),
        })?;
        let path = narinfo.path;
        if path.hash_part() != hash {
            return Err(NarInfoFault::OtherName(path));
        }
        if narinfo.nar_size > rules.max_nar_size {
            return Err(NarInfoFault::NarTooLarge { path, size: narinfo.nar_size, max: rules.max_nar_size });
        }
        let file = UploadName::from_url(narinfo.url.as_str()).filter(|file| file.fits(narinfo.compression));
        let Some(file) = file else { return Err(NarInfoFault::Url(path)) };
        let in_url = Hash::from(NarHash::from_digest(*file.sha256()));
        if narinfo.file_hash.is_some_and(|hash| hash != in_url) {
            return Err(NarInfoFault::FileHash(path));
        }
        let mut references = narinfo.references;
        references.sort_unstable();
        references.dedup();
        let info = PathInfo {
            deriver: narinfo.deriver,
            nar_hash: narinfo.nar_hash,
            references,
            registration_time: 0,
            nar_size: narinfo.nar_size,
            ultimate: false,
            signatures: narinfo.signatures,
            content_address: narinfo.content_address,
        };
        if !rules.trust(&path, &info) {
            return Err(NarInfoFault::Untrusted(path));
        }
        let address = info.content_address.as_ref();
        let unchecked = address.filter(|it| it.matches_contents(&path, &info, &rules.store).is_none()).cloned();
        Ok(Self { path, info, file, file_size: narinfo.file_size, compression: narinfo.compression, unchecked })
    }

    /// Returns the store path.
    #[must_use]
    pub const fn path(&self) -> &StorePath {
        &self.path
    }

    /// Returns the paths that it refers to.
    #[must_use]
    pub(crate) fn references(&self) -> &[StorePath] {
        &self.info.references
    }

    /// Returns the size of the NAR, in bytes.
    #[must_use]
    pub const fn nar_size(&self) -> u64 {
        self.info.nar_size
    }

    /// Returns the name of the uploaded file that has the NAR.
    #[must_use]
    pub const fn file(&self) -> &UploadName {
        &self.file
    }
}

impl PushRules {
    /// Returns whether a required key signed the path, or none is required: the contents match its content address, as far
    /// as that is known without reading them.
    fn trust(&self, path: &StorePath, info: &PathInfo) -> bool {
        if self.trusted_public_keys.is_empty() {
            return true;
        }
        let matches = |it: &ContentAddress| it.matches_contents(path, info, &self.store) != Some(false);
        if info.content_address.as_ref().is_some_and(matches) {
            return true;
        }
        let fingerprint = info.fingerprint(path, &self.store);
        let verified = |key: &PublicKey| info.signatures.iter().any(|it| key.verifies(fingerprint.as_bytes(), it));
        self.trusted_public_keys.iter().any(verified)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use harmonia_protocol::signature::{KeyName, SecretKey};

    const HASH: &str = "lq7lf2dg0c05ibn8r201m1cgdcj5i60a";
    const TEXT: &str = "StorePath: /nix/store/lq7lf2dg0c05ibn8r201m1cgdcj5i60a-hello
URL: nar/0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73.nar.xz
Compression: xz
FileHash: sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73
FileSize: 100
NarHash: sha256:1mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73
NarSize: 120
References: lq7lf2dg0c05ibn8r201m1cgdcj5i60a-hello 3dcxyc6w8pkhc4nhbdpkq7shq6jkp94j-pb-b 3dcxyc6w8pkhc4nhbdpkq7shq6jkp94j-pb-b
";

    fn rules() -> PushRules {
        PushRules { store: StoreDir::default(), max_nar_size: 120, trusted_public_keys: Vec::new() }
    }

    fn parse(text: &str) -> Result<PushedNarInfo, NarInfoFault> {
        PushedNarInfo::parse(text.as_bytes(), HASH.parse().unwrap(), &rules())
    }

    #[test]
    fn what_nix_writes_is_a_narinfo_with_its_references_in_order() {
        let pushed = parse(TEXT).unwrap();
        assert_eq!(pushed.file().to_string(), "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73.nar.xz");
        let names: Vec<_> = pushed.info.references.iter().map(StorePath::base_name).collect();
        assert_eq!(names, ["3dcxyc6w8pkhc4nhbdpkq7shq6jkp94j-pb-b", "lq7lf2dg0c05ibn8r201m1cgdcj5i60a-hello"]);
        assert!(!pushed.info.ultimate && pushed.file_size == Some(100));
    }

    #[test]
    fn each_contradiction_is_refused_with_its_reason() {
        let refused = |from: &str, to: &str| {
            assert!(TEXT.contains(from), "{from}");
            parse(&TEXT.replace(from, to)).unwrap_err()
        };
        let path = parse(TEXT).unwrap().path;
        assert_eq!(
            refused("lq7lf2dg0c05ibn8r201m1cgdcj5i60a-hello\nU", "lq7lf2dg0c05ibn8r201m1cgdcj5i60b-hello\nU").label(),
            "bad_narinfo"
        );
        assert_eq!(refused("/nix/store/", "/gnu/store/"), NarInfoFault::OtherStore(StoreDir::default()));
        assert_eq!(refused("hello\nU", "../hello\nU"), NarInfoFault::OtherStore(StoreDir::default()));
        for url in [
            "nar/x.nar.xz",
            "../0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73.nar.xz",
            "nar/0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73.nar.zst",
        ] {
            let line = format!("URL: {url}\nC");
            let fault = refused("URL: nar/0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73.nar.xz\nC", &line);
            assert_eq!(fault, NarInfoFault::Url(path.clone()));
        }
        assert_eq!(refused("FileHash: sha256:0m", "FileHash: sha256:1m"), NarInfoFault::FileHash(path.clone()));
        assert_eq!(refused("Compression: xz", "Compression: none"), NarInfoFault::Url(path.clone()));
        assert_eq!(refused("NarHash: sha256:1", "NarHash: md5:1").status(), 400);
        assert_eq!(refused("References: ", "References: ../x ").status(), 400);
        let fault = refused("NarSize: 120", "NarSize: 121");
        assert_eq!((fault.status(), fault), (413, NarInfoFault::NarTooLarge { path, size: 121, max: 120 }));
        assert_eq!(parse(&format!("{TEXT}X: {}\n", "x".repeat(MAX_NARINFO))).unwrap_err(), NarInfoFault::TooLong);
        assert_eq!(PushedNarInfo::parse(b"\xff", HASH.parse().unwrap(), &rules()).unwrap_err().status(), 400);
    }

    #[test]
    fn a_signature_by_a_required_key_has_to_be_valid() {
        let (key, _) = SecretKey::generate(KeyName::new("ci-1").unwrap()).unwrap();
        let (other, _) = SecretKey::generate(KeyName::new("ci-1").unwrap()).unwrap();
        let pushed = parse(TEXT).unwrap();
        let fingerprint = pushed.info.fingerprint(&pushed.path, &StoreDir::default());
        let rules = PushRules { trusted_public_keys: vec![key.public_key().clone()], ..rules() };
        let signed = |by: &SecretKey| {
            let text = format!("{TEXT}Sig: {}\n", by.sign(fingerprint.as_bytes()));
            PushedNarInfo::parse(text.as_bytes(), HASH.parse().unwrap(), &rules)
        };
        assert!(signed(&key).is_ok());
        assert_eq!(signed(&other).unwrap_err(), NarInfoFault::Untrusted(pushed.path.clone()));
        let unsigned = PushedNarInfo::parse(TEXT.as_bytes(), HASH.parse().unwrap(), &rules);
        assert_eq!(unsigned.unwrap_err().status(), 403);
    }
}
