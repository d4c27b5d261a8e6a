//! A bucket in a directory, for the tests of the commands.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::BytesMut;
use harmonia_protocol::hash::NarHash;
use harmonia_protocol::nar::Node;
use harmonia_protocol::path_info::PathInfo;
use harmonia_protocol::signature::{KeyName, SecretKey};
use harmonia_protocol::{StoreDir, StorePath};
use ring::digest::{SHA256, digest};

use crate::bucket::{BucketNarInfo, BucketStore};
use crate::config::BucketConfig;
use crate::nar_cache::FileInfo;

/// A bucket of paths that refer to the one before.
pub(super) struct TestBucket {
    directory: tempfile::TempDir,
    pub(super) key: SecretKey,
    /// Names of narinfos.
    pub(super) names: Vec<String>,
    /// Names of the files of NARs.
    pub(super) files: Vec<String>,
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// Returns the path of this number.
pub(super) fn path(number: u8) -> StorePath {
    StorePath::from_base_name(&format!("{number:032}-p{number}")).unwrap()
}

impl TestBucket {
    pub(super) fn new(paths: u8) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (key, _) = SecretKey::generate(KeyName::new("fleet-1").unwrap()).unwrap();
        let mut bucket = Self { directory, key, names: Vec::new(), files: Vec::new() };
        std::fs::create_dir(bucket.path("nar")).unwrap();
        std::fs::write(bucket.path("nix-cache-info"), "StoreDir: /nix/store\n").unwrap();
        for number in 0..paths {
            bucket.add(number);
        }
        bucket
    }

    /// Returns where an object is.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Replaces a text in a narinfo.
    pub(super) fn edit(&self, number: usize, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path(&self.names[number])).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(self.path(&self.names[number]), text.replacen(from, to, 1)).unwrap();
    }

    /// Changes a byte of a file.
    pub(super) fn damage(&self, number: usize) {
        let mut bytes = std::fs::read(self.path(&self.files[number])).unwrap();
        bytes[20] ^= 1;
        std::fs::write(self.path(&self.files[number]), bytes).unwrap();
    }

    pub(super) async fn open(&self) -> Arc<BucketStore> {
        let config = BucketConfig::directory(self.directory.path().to_owned(), "test".parse().unwrap());
        Arc::new(BucketStore::open(&config, Arc::default()).await.unwrap())
    }

    fn add(&mut self, number: u8) {
        let store = StoreDir::default();
        let mut nar = BytesMut::new();
        Node::Regular { executable: false, contents: vec![number; 5_000].into() }.encode(&mut nar);
        let file = zstd::encode_all(&nar[..], 1).unwrap();
        let info = PathInfo {
            deriver: None,
            nar_hash: NarHash::from_digest(sha256(&nar)),
            references: (number > 0).then(|| path(number - 1)).into_iter().collect(),
            registration_time: 1,
            nar_size: nar.len() as u64,
            ultimate: false,
            signatures: Vec::new(),
            content_address: None,
        };
        let signature = self.key.sign(info.fingerprint(&path(number), &store).as_bytes());
        let file_info = FileInfo { sha256: sha256(&file), size: file.len() as u64 };
        let narinfo = BucketNarInfo::new(&path(number), &info, &store, file_info, vec![signature]).unwrap();
        self.names.push(format!("{}.narinfo", path(number).hash_part()));
        self.files.push(format!("nar/{}", narinfo.file()));
        std::fs::write(self.path(&self.names[usize::from(number)]), narinfo.render(&store)).unwrap();
        std::fs::write(self.path(&self.files[usize::from(number)]), file).unwrap();
    }
}
