//! Base64 with padding, as Nix writes it. Each byte string has exactly one text.

use data_encoding::BASE64;

/// Decodes a text. Returns `None` if it is not the text of any byte string.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    // The library accepts several padded texts in a row.
    let is_one = !text.trim_end_matches('=').contains('=');
    BASE64.decode(text.as_bytes()).ok().filter(|_| is_one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_stands_at_the_end_alone() {
        assert_eq!(decode("AAAA"), Some(vec![0; 3]));
        assert_eq!(decode("AAA="), Some(vec![0; 2]));
        for bad in ["AAA=AAA=", "AA==AAAA", "AAA", "AAB=", "AAA= ", "AA-_", "===="] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
