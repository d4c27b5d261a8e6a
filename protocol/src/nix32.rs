//! Nix's base-32 encoding, used in store paths and for hashes in narinfos.
//!
//! Nix encodes from the least significant bit of the first byte on and then reverses the text: an LSB-first base-32 read
//! backwards.
//!
//! Source: Nix `src/libutil/base-nix-32.cc` (`hash.cc` before 2.30).

use std::sync::LazyLock;

use data_encoding::{BitOrder, Encoding, Specification};

/// The 32 characters in order of their values: digits and lower-case letters without `e`, `o`, `t`, `u`.
pub const ALPHABET: &str = "0123456789abcdfghijklmnpqrsvwxyz";

static LSB_FIRST: LazyLock<Option<Encoding>> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str(ALPHABET);
    specification.bit_order = BitOrder::LeastSignificantFirst;
    specification.encoding().ok()
});

/// Error of decoding nix32: a character outside of the alphabet, or bits that are not a whole number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a nix32 string")]
pub struct Nix32Error;

/// Encodes `bytes` as `ceil(8 * len / 5)` characters.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let text = LSB_FIRST.as_ref().map(|encoding| encoding.encode(bytes)).unwrap_or_default();
    let mut text = text.into_bytes();
    text.reverse();
    // The alphabet is ASCII.
    String::from_utf8(text).unwrap_or_default()
}

/// Decodes a text. Each byte string has exactly one text.
pub fn decode(text: &[u8]) -> Result<Vec<u8>, Nix32Error> {
    let reversed: Vec<u8> = text.iter().rev().copied().collect();
    let encoding = LSB_FIRST.as_ref().ok_or(Nix32Error)?;
    encoding.decode(&reversed).map_err(|_| Nix32Error)
}

/// Returns whether `character` is in the [`ALPHABET`].
#[must_use]
pub const fn is_digit(character: u8) -> bool {
    matches!(character, b'0'..=b'9' | b'a'..=b'd' | b'f'..=b'n' | b'p'..=b's' | b'v'..=b'z')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_empty_files_sha256_reads_as_nix_hash_prints_it() {
        let digest = ring::digest::digest(&ring::digest::SHA256, b"");
        assert_eq!(encode(digest.as_ref()), "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73");
    }

    #[test]
    fn is_digit_agrees_with_the_alphabet() {
        for character in 0..=u8::MAX {
            assert_eq!(is_digit(character), ALPHABET.as_bytes().contains(&character), "{character:#x}");
        }
    }

    #[test]
    fn bits_beyond_the_last_byte_are_refused() {
        // 52 characters hold 260 bits: the first one may only carry the 256th.
        assert!(decode("1".repeat(52).as_bytes()).is_ok());
        assert!(decode(format!("2{}", "0".repeat(51)).as_bytes()).is_err());
        assert!(decode(format!("z{}", "0".repeat(51)).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let text = encode(&bytes);
            prop_assert_eq!(text.len(), (bytes.len() * 8).div_ceil(5));
            prop_assert_eq!(decode(text.as_bytes()), Ok(bytes));
        }

        #[test]
        fn what_decodes_is_the_only_text_of_its_bytes(text in "[0-9a-z]{0,60}") {
            if let Ok(bytes) = decode(text.as_bytes()) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }
    }
}
