//! Lists of hash parts as objects: one zstd frame of lines, each a hash part, in ascending order.

use std::collections::BTreeSet;
use std::str::FromStr as _;

use harmonia_protocol::HashPart;

/// Upper bound of hash parts in an object.
pub(crate) const MAX_HASHES: usize = 200_000;
/// Length of a line, in bytes.
const LINE: usize = 33;
const MAX_PLAIN: usize = MAX_HASHES * LINE;
/// Upper bound of an object's size, in bytes. Hashes compress to two thirds of their text.
pub(crate) const MAX_HASH_LIST: usize = MAX_PLAIN;
const LEVEL: i32 = 3;

/// Renders an object of as many of the hash parts as fit. Fails only if memory is exhausted.
pub(crate) fn encode(hashes: &BTreeSet<HashPart>) -> std::io::Result<Vec<u8>> {
    let lines: String = hashes.iter().take(MAX_HASHES).flat_map(|hash| [hash.as_str(), "\n"]).collect();
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    compressor.include_checksum(true)?;
    compressor.compress(lines.as_bytes())
}

/// Parses an object; `None` if it is none.
pub(crate) fn decode(bytes: &[u8]) -> Option<BTreeSet<HashPart>> {
    let plain = zstd::bulk::decompress(bytes, MAX_PLAIN).ok()?;
    std::str::from_utf8(&plain).ok()?.lines().map(|line| HashPart::from_str(line).ok()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bucket::publish::plan::tests::part;

    #[test]
    fn what_is_written_is_read_up_to_a_limit() {
        let hashes: BTreeSet<_> = (0..10).map(part).collect();
        assert_eq!(decode(&encode(&hashes).unwrap()), Some(hashes));
        assert_eq!(decode(&encode(&BTreeSet::new()).unwrap()), Some(BTreeSet::new()));
        let many: BTreeSet<_> = (0..=MAX_HASHES as u64).map(part).collect();
        let encoded = encode(&many).unwrap();
        assert!(encoded.len() <= MAX_HASH_LIST);
        assert_eq!(decode(&encoded).unwrap().len(), MAX_HASHES);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = decode(&bytes);
            let _ = decode(&zstd::bulk::compress(&bytes, 1).unwrap());
        }
    }
}
