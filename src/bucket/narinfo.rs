//! Narinfos in the bucket: written for what this host publishes, and proven before another host's is believed.
//!
//! The URL is `nar/FILEHASH.nar.zst`, as `nix copy` names it, so that plain Nix can read the bucket. A narinfo of another
//! host is used only if it is about the path of its name, its file has the hash in its URL, and a trusted key signed it.

use std::borrow::Cow;

use harmonia_protocol::content_address::ContentAddress;
use harmonia_protocol::hash::{Algorithm, Hash, NarHash};
use harmonia_protocol::narinfo::{Compression, NarInfo, NarInfoError, Url};
use harmonia_protocol::path_info::PathInfo;
use harmonia_protocol::signature::{PublicKey, Signature};
use harmonia_protocol::signature_set::MAX_PER_KNOWN_KEY;
use harmonia_protocol::{HashPart, StoreDir, StorePath};

use super::file_hash::{FileHash, NarFile};
use crate::nar_cache::FileInfo;

/// Upper bound of a narinfo's size, in bytes: some ten thousand references.
pub(crate) const MAX_NARINFO: usize = 1 << 20;

/// Signatures that are taken over from a narinfo that is replaced.
const MAX_ADDED: usize = 16;

/// A narinfo of the bucket, about the path of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BucketNarInfo {
    narinfo: NarInfo,
    file: NarFile,
    file_size: u64,
}

/// Reason why an object is no narinfo that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BucketNarInfoError {
    /// Too long.
    #[error("more than {MAX_NARINFO} bytes")]
    TooLong,
    /// No UTF-8.
    #[error("not UTF-8")]
    Text,
    /// Malformed.
    #[error(transparent)]
    NarInfo(#[from] NarInfoError),
    /// About another path.
    #[error("about another path")]
    OtherPath,
    /// Its URL is not that of a file in the bucket, or has another hash or compression than its fields.
    #[error("URL does not match FileHash and Compression")]
    Url,
    /// No key that is trusted has signed it.
    #[error("no trusted key has signed it")]
    Untrusted,
}

impl BucketNarInfo {
    /// Creates the narinfo of a path whose compressed NAR is this file.
    pub(crate) fn new(
        path: &StorePath,
        info: &PathInfo,
        store: &StoreDir,
        file: FileInfo,
        signatures: Vec<Signature>,
    ) -> Result<Self, BucketNarInfoError> {
        let name = NarFile::zstd(FileHash::from_digest(file.sha256));
        let url = Url::new(format!("nar/{name}"))?;
        let mut narinfo = NarInfo::from_path_info(path, info, store, url, name.compression(), signatures);
        narinfo.file_hash = Some(Hash::from_sha256(file.sha256));
        narinfo.file_size = Some(file.size);
        Ok(Self { narinfo, file: name, file_size: file.size })
    }

    /// Creates the narinfo of a path of another cache, whose NAR is in this file.
    pub(crate) fn of_file(mut narinfo: NarInfo, file: NarFile, file_size: u64) -> Result<Self, BucketNarInfoError> {
        narinfo.url = Url::new(format!("nar/{file}"))?;
        narinfo.compression = file.compression();
        narinfo.file_hash = Some(Hash::from_sha256(*file.hash().as_bytes()));
        narinfo.file_size = Some(file_size);
        Ok(Self { narinfo, file, file_size })
    }

    /// Parses the object of this hash part. It is not trusted yet; see [`Self::check_signed`].
    pub(crate) fn parse(bytes: &[u8], hash: HashPart, store: &StoreDir) -> Result<Self, BucketNarInfoError> {
        if bytes.len() > MAX_NARINFO {
            return Err(BucketNarInfoError::TooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| BucketNarInfoError::Text)?;
        let mut narinfo = NarInfo::parse(text, store)?;
        if narinfo.path.hash_part() != hash {
            return Err(BucketNarInfoError::OtherPath);
        }
        // These are not signed, and clients abort on wrong ones.
        let follows = |address: &ContentAddress| address.matches_path(&narinfo.path, &narinfo.references, store);
        narinfo.content_address = narinfo.content_address.take().filter(follows);
        narinfo.deriver = narinfo.deriver.take().filter(StorePath::is_derivation);
        let file = NarFile::from_url(narinfo.url.as_str()).filter(|file| file.compression() == narinfo.compression);
        let file = file.ok_or(BucketNarInfoError::Url)?;
        let is_named = |hash: &Hash| hash.algorithm() == Algorithm::Sha256 && hash.digest() == file.hash().as_bytes();
        match (&narinfo.file_hash, narinfo.file_size) {
            (Some(hash), Some(file_size)) if is_named(hash) => Ok(Self { narinfo, file, file_size }),
            _ => Err(BucketNarInfoError::Url),
        }
    }

    /// Checks that one of these keys signed it. Verifies a bounded number of signatures for each key.
    pub(crate) fn check_signed(&self, keys: &[PublicKey], store: &StoreDir) -> Result<(), BucketNarInfoError> {
        if is_signed(&self.narinfo, keys, store) { Ok(()) } else { Err(BucketNarInfoError::Untrusted) }
    }

    /// Adds the signatures of another narinfo of the same path info by keys that have not signed this one.
    pub(crate) fn add_signatures(&mut self, other: &Self, store: &StoreDir) {
        let fingerprint = |it: &Self| it.path_info().fingerprint(it.path(), store);
        if fingerprint(self) == fingerprint(other) {
            let others = other.narinfo.signatures.iter().take(MAX_ADDED);
            let new: Vec<_> =
                others.filter(|it| self.narinfo.signatures.iter().all(|own| own.key() != it.key())).cloned().collect();
            self.narinfo.signatures.extend(new);
        }
    }

    /// Renders the object.
    pub(crate) fn render(&self, store: &StoreDir) -> String {
        self.narinfo.render(store)
    }

    /// Returns the narinfo for a client. Its URL is that in the bucket, which each host of the fleet serves, or for one that
    /// knows no zstd this URL of the NAR, which is decoded for it.
    pub(crate) fn for_client(&self, plain: Option<Url>) -> Cow<'_, NarInfo> {
        match plain.filter(|_| self.narinfo.compression == Compression::Zstd) {
            None => Cow::Borrowed(&self.narinfo),
            Some(url) => {
                let mut narinfo = self.narinfo.clone();
                (narinfo.url, narinfo.compression) = (url, Compression::None);
                narinfo.file_hash = Some(Hash::from_sha256(*narinfo.nar_hash.as_bytes()));
                narinfo.file_size = Some(narinfo.nar_size);
                Cow::Owned(narinfo)
            }
        }
    }

    /// Returns the memory that it takes beside its own size, in bytes, rounded up.
    pub(crate) fn memory(&self) -> usize {
        /// Of the text, its pointer and its allocation.
        const REFERENCE: usize = 80;
        /// Of a signature and its key's name.
        const SIGNATURE: usize = 160;
        let NarInfo { references, signatures, .. } = &self.narinfo;
        size_of::<Self>() + 400 + references.len() * REFERENCE + signatures.len() * SIGNATURE
    }

    /// Returns the store path.
    pub(crate) const fn path(&self) -> &StorePath {
        &self.narinfo.path
    }

    /// Returns the hash of the NAR.
    pub(crate) const fn nar_hash(&self) -> NarHash {
        self.narinfo.nar_hash
    }

    /// Returns the size of the NAR, in bytes.
    pub(crate) const fn nar_size(&self) -> u64 {
        self.narinfo.nar_size
    }

    /// Returns the name of the NAR's file.
    pub(crate) const fn file(&self) -> NarFile {
        self.file
    }

    /// Returns the size of the NAR's file, in bytes.
    pub(crate) const fn file_size(&self) -> u64 {
        self.file_size
    }

    /// Returns the hash parts of the references, without that of the path itself.
    pub(crate) fn references(&self) -> impl Iterator<Item = HashPart> + '_ {
        let own = self.narinfo.path.hash_part();
        self.narinfo.references.iter().map(StorePath::hash_part).filter(move |reference| *reference != own)
    }

    /// Returns the path info that it describes. What a narinfo does not say is empty.
    pub(crate) fn path_info(&self) -> PathInfo {
        path_info(&self.narinfo)
    }
}

/// Returns whether one of these keys has signed a narinfo. Verifies a bounded number of signatures for each key.
pub(crate) fn is_signed(narinfo: &NarInfo, keys: &[PublicKey], store: &StoreDir) -> bool {
    is_signed_by(&narinfo.path, &path_info(narinfo), &narinfo.signatures, keys, store)
}

/// Returns whether one of these keys has made one of these signatures of a path. Verifies a bounded number for each key.
pub(super) fn is_signed_by(
    path: &StorePath,
    info: &PathInfo,
    signatures: &[Signature],
    keys: &[PublicKey],
    store: &StoreDir,
) -> bool {
    let fingerprint = info.fingerprint(path, store);
    let is_by = |key: &PublicKey| {
        let named = signatures.iter().filter(|signature| signature.key() == key.name());
        named.take(MAX_PER_KNOWN_KEY).any(|signature| key.verifies(fingerprint.as_bytes(), signature))
    };
    keys.iter().any(is_by)
}

fn path_info(narinfo: &NarInfo) -> PathInfo {
    PathInfo {
        deriver: narinfo.deriver.clone(),
        nar_hash: narinfo.nar_hash,
        references: narinfo.references.clone(),
        registration_time: 0,
        nar_size: narinfo.nar_size,
        ultimate: false,
        signatures: narinfo.signatures.clone(),
        content_address: narinfo.content_address.clone(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use harmonia_protocol::signature::{KeyName, SecretKey};

    use super::*;

    /// The path of this number, with references to those of other numbers.
    pub(in crate::bucket) fn path(number: u64) -> StorePath {
        let mut digest = [0; 20];
        digest[..8].copy_from_slice(&number.to_le_bytes());
        StorePath::from_base_name(&format!("{}-p{number}", harmonia_protocol::nix32::encode(&digest))).unwrap()
    }

    pub(in crate::bucket) fn info(references: &[u64]) -> PathInfo {
        PathInfo {
            deriver: None,
            nar_hash: NarHash::from_digest([7; 32]),
            references: references.iter().map(|number| path(*number)).collect(),
            registration_time: 1,
            nar_size: 120,
            ultimate: false,
            signatures: Vec::new(),
            content_address: None,
        }
    }

    fn signed(key: &SecretKey, number: u64, references: &[u64]) -> BucketNarInfo {
        let (store, info) = (StoreDir::default(), info(references));
        let signature = key.sign(info.fingerprint(&path(number), &store).as_bytes());
        let file = FileInfo { sha256: [9; 32], size: 100 };
        BucketNarInfo::new(&path(number), &info, &store, file, vec![signature]).unwrap()
    }

    fn key() -> (SecretKey, PublicKey) {
        let (secret, _) = SecretKey::generate(KeyName::new("fleet-1").unwrap()).unwrap();
        let public = secret.public_key().clone();
        (secret, public)
    }

    #[test]
    fn what_is_written_is_read_and_proven() {
        let (store, (secret, public)) = (StoreDir::default(), key());
        let narinfo = signed(&secret, 1, &[1, 2]);
        let text = narinfo.render(&store);
        let read = BucketNarInfo::parse(text.as_bytes(), path(1).hash_part(), &store).unwrap();
        assert_eq!(read, narinfo);
        assert_eq!(read.references().collect::<Vec<_>>(), [path(2).hash_part()]);
        assert_eq!(read.check_signed(&[public], &store), Ok(()));
        assert!(text.contains(&format!("URL: nar/{}\n", narinfo.file())));
    }

    #[test]
    fn nothing_is_believed_that_no_trusted_key_has_signed() {
        let (store, (secret, _), (_, other)) = (StoreDir::default(), key(), key());
        let narinfo = signed(&secret, 1, &[2]);
        assert_eq!(narinfo.check_signed(&[other], &store), Err(BucketNarInfoError::Untrusted));
        assert_eq!(narinfo.check_signed(&[], &store), Err(BucketNarInfoError::Untrusted));
        let (secret, public) = key();
        let text = signed(&secret, 1, &[2]).render(&store).replace("NarSize: 120", "NarSize: 121");
        let forged = BucketNarInfo::parse(text.as_bytes(), path(1).hash_part(), &store).unwrap();
        assert_eq!(forged.check_signed(&[public], &store), Err(BucketNarInfoError::Untrusted));
    }

    #[test]
    fn a_narinfo_is_about_its_name_and_its_file() {
        let (store, (secret, _)) = (StoreDir::default(), key());
        let narinfo = signed(&secret, 1, &[]);
        let text = narinfo.render(&store);
        let parse = |text: &str| BucketNarInfo::parse(text.as_bytes(), path(1).hash_part(), &store);
        let other = BucketNarInfo::parse(text.as_bytes(), path(2).hash_part(), &store);
        assert_eq!(other, Err(BucketNarInfoError::OtherPath));
        let hash = narinfo.file().hash().to_string();
        for (from, to) in [
            (format!("nar/{hash}.nar.zst"), format!("nar/{hash}.nar.xz")),
            (format!("nar/{hash}.nar.zst"), "nar/x.nar.zst".to_owned()),
            (format!("FileHash: sha256:{hash}\n"), String::new()),
            ("FileSize: 100\n".to_owned(), String::new()),
        ] {
            assert!(text.contains(&from), "{from}");
            assert_eq!(parse(&text.replace(&from, &to)), Err(BucketNarInfoError::Url), "{from}");
        }
        assert_eq!(parse(&"x".repeat(MAX_NARINFO + 1)), Err(BucketNarInfoError::TooLong));
        let invalid = BucketNarInfo::parse(&[0xFF], path(1).hash_part(), &store);
        assert_eq!(invalid, Err(BucketNarInfoError::Text));
    }
}
