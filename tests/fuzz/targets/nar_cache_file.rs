//! Files of the cache of NARs: one is kept exactly if it is the compressed form of the NAR in its name, and any other is
//! found out and removed.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use harmonia::nar_cache;
use harmonia_protocol::hash::NarHash;
use ring::digest::{SHA256, digest};
use twox_hash::XxHash3_64;

use super::Parameters;

/// Bytes under one sum.
const BLOCK: usize = 128 << 10;
/// A store path that it may have been made for.
const NAME: &[u8] = b"00000000000000000000000000000000-name";
/// Longer NARs are not decoded here.
const MAX_NAR: u64 = 4 << 20;

pub(super) fn property(input: &[u8]) {
    let mut parameters = Parameters(input);
    let (kind, wrong_by) = (parameters.byte() % 4, parameters.number());
    let bytes = parameters.rest();
    let nar = decoded(bytes);
    let mut hash = sha256(nar.as_deref().unwrap_or_default());
    // That of another NAR, in footer and name alike.
    let is_another = kind == 2;
    hash[0] ^= u8::from(is_another);
    let is_raw = kind == 3;
    let file = if is_raw { bytes.to_vec() } else { with_trailer(bytes, nar.as_deref(), wrong_by, &hash) };
    let name = NarHash::from_digest(hash);

    let dir = tempfile::tempdir().expect("a directory");
    let cache = nar_cache::CacheDirectory::create(dir.path(), &[]).expect("an empty directory");
    let path = place(cache.path(), &name);
    fs::create_dir_all(path.parent().expect("a directory around it")).expect("a directory");
    fs::write(&path, &file).expect("a file");
    let verdicts: Vec<_> = nar_cache::verify(&cache).expect("a look into the directory").collect();
    let [verdict] = &verdicts[..] else { panic!("{verdicts:?}") };
    assert_eq!(verdict.path, path);
    assert_eq!(path.exists(), verdict.fault.is_none(), "{verdict:?}");
    if verdict.fault.is_none() {
        let nar = nar.expect("a file that was kept decodes");
        assert!(wrong_by == 0 && !is_another && !nar.is_empty());
        // Another byte of what was kept is noticed, wherever it is.
        let mut rotten = file.clone();
        let at = usize::from(input[input.len() - 1]) * 7 % rotten.len();
        rotten[at] ^= 1;
        fs::write(&path, rotten).expect("a file");
        let fault = nar_cache::verify(&cache).expect("a look").next().and_then(|verdict| verdict.fault);
        assert!(fault.is_some(), "byte {at} is not looked at");
    }
}

/// `<encoding>/<last digit>/<NAR hash>`
fn place(dir: &Path, name: &NarHash) -> PathBuf {
    let hash = name.to_nix32();
    dir.join("zstd1").join(&hash[hash.len() - 1..]).join(&hash)
}

/// The NAR, as any decoder has it.
fn decoded(served: &[u8]) -> Option<Vec<u8>> {
    let mut nar = Vec::new();
    zstd::Decoder::new(served).and_then(|decoder| decoder.take(MAX_NAR).read_to_end(&mut nar)).ok()?;
    Some(nar)
}

/// Returns the served bytes with a matching trailer, but for a hash and a NAR size that is off by `wrong_by`.
fn with_trailer(served: &[u8], nar: Option<&[u8]>, wrong_by: u64, hash: &[u8; 32]) -> Vec<u8> {
    let size = (nar.unwrap_or_default().len() as u64).wrapping_add(wrong_by);
    let sums: Vec<u8> = served.chunks(BLOCK).flat_map(|block| XxHash3_64::oneshot(block).to_le_bytes()).collect();
    let mut footer = b"harmnar2".to_vec();
    footer.extend((served.len() as u64).to_le_bytes());
    footer.extend(size.to_le_bytes());
    footer.extend(hash);
    footer.extend(sha256(served));
    let sums_and_name = [&sums, NAME].concat();
    footer.extend(XxHash3_64::oneshot(&sums_and_name).to_le_bytes());
    footer.extend((NAME.len() as u64).to_le_bytes());
    footer.extend(XxHash3_64::oneshot(&footer).to_le_bytes());
    [served, &sums_and_name, &footer].concat()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("32 bytes")
}
