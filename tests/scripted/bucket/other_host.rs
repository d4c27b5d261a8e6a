//! Another host of the fleet: writes the objects of its paths into a directory, without the code under test.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::keys::{FOREIGN, Key};
use crate::support::scratch;
use crate::support::store_item::StoreItem;
pub(super) use crate::support::store_item::item;

/// A bucket that another host writes to.
pub(super) struct OtherHost {
    pub(super) bucket: PathBuf,
}

impl OtherHost {
    pub(super) fn new() -> Self {
        Self { bucket: scratch::fresh_dir().join("bucket") }
    }

    /// Returns the table of a host that reads the bucket and trusts the key of this one. Keys may follow.
    pub(super) fn table(&self) -> String {
        let url = format!("file://{}", self.bucket.display());
        format!("[bucket]\nurl = {url:?}\nhost = \"own\"\ntrusted_public_keys = [{:?}]\n", FOREIGN.public)
    }

    /// Publishes paths, signed, references included.
    pub(super) fn publish(&self, items: &[&StoreItem]) {
        for item in items {
            self.put_signed(item, &FOREIGN);
        }
        self.index(items);
    }

    /// Puts the objects of a path, signed by this key. Returns the URL of its NAR.
    pub(super) fn put_signed(&self, item: &StoreItem, key: &Key) -> String {
        let [nar, narinfo] = item.objects(key);
        for (name, bytes) in [&nar, &narinfo] {
            self.put(name, bytes);
        }
        nar.0
    }

    /// Adds paths to the index.
    pub(super) fn index(&self, items: &[&StoreItem]) {
        let decode = |item: &&StoreItem| harmonia_protocol::nix32::decode(item.hash_part().as_bytes()).unwrap();
        let mut hashes: Vec<_> = items.iter().map(decode).collect();
        hashes.sort();
        let counts = [u32::try_from(hashes.len()).unwrap(), 0].map(u32::to_le_bytes);
        let plain = [&b"harmidx1"[..], counts.as_flattened(), &hashes.concat()].concat();
        let mut compressor = zstd::bulk::Compressor::new(1).unwrap();
        compressor.include_checksum(true).unwrap();
        let segments = fs::read_dir(self.bucket.join("harmonia/v1/index/other")).map_or(0, Iterator::count);
        let name = format!("other/1799999999999-{segments:08}");
        self.put(&format!("harmonia/v1/index/{name}.zst"), &compressor.compress(&plain).unwrap());
        self.put("harmonia/v1/latest", format!("{name}\n").as_bytes());
    }

    /// Puts an object, at once.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) {
        let (path, new) = (self.bucket.join(name), self.bucket.with_extension("new"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&new, bytes).unwrap();
        fs::rename(new, path).unwrap();
    }

    /// Deletes an object.
    pub(super) fn delete(&self, name: &str) {
        fs::remove_file(self.bucket.join(name)).unwrap();
    }
}

/// Polls until this holds; panics after a timeout.
pub(super) fn until(holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "it never comes to it");
        thread::sleep(Duration::from_millis(50));
    }
}
