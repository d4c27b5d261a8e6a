//! Base 64 as Nix writes it, with its padding: one text for each bytes.

use data_encoding::BASE64;

/// The bytes of a text; `None` if it is not the text that they have.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    // The library takes several padded texts in a row for one.
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
