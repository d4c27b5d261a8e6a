//! `Accept-Encoding`: negotiates zstd or no content coding (RFC 9110, sections 12.4.2 and 12.5.3).
//!
//! zstd is selected if the client gives it a weight above zero, by name or by `*`, that is not below the weight that it
//! gives `identity` by name. An `identity` that is not named has no weight to compare: by the RFC it is acceptable, not
//! preferred.
//!
//! Without the header every coding is acceptable by the RFC, but nothing is encoded: Nix up to 2.13 sends none and cannot
//! decode. Nor is anything encoded under a header that makes nothing acceptable, which the RFC permits; a client that can
//! read the plain body would give up after a 406.

use hyper::header::{ACCEPT_ENCODING, HeaderMap, HeaderName};

/// Upper bound of items in a header; later ones are ignored. Real clients send six.
const MAX_ITEMS: usize = 64;

/// Content coding of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentCoding {
    /// None. Never sent as a `Content-Encoding`: Nix 2.3 to 2.33 fail on it.
    Identity,
    /// zstd with a window of at most 8 MiB (RFC 9659).
    Zstd,
}

/// Selects the coding of a body that is available in both.
#[must_use]
pub fn negotiate(headers: &HeaderMap) -> ContentCoding {
    let (mut zstd, mut identity, mut any) = (None, None, None);
    let items = headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .take(MAX_ITEMS)
        .filter_map(weighted);
    for (coding, weight) in items {
        let weight_of_coding = if coding.eq_ignore_ascii_case("zstd") {
            &mut zstd
        } else if coding.eq_ignore_ascii_case("identity") {
            &mut identity
        } else if coding == "*" {
            &mut any
        } else {
            continue;
        };
        weight_of_coding.get_or_insert(weight);
    }
    let zstd = zstd.or(any).unwrap_or(0);
    if zstd > 0 && zstd >= identity.unwrap_or(0) { ContentCoding::Zstd } else { ContentCoding::Identity }
}

/// Returns the highest weight that a header gives a value by name, whatever its parameters, in thousandths.
pub(crate) fn weight_of(headers: &HeaderMap, field: HeaderName, value: &str) -> Option<u16> {
    let lines = headers.get_all(field).iter().filter_map(|line| line.to_str().ok());
    let weights = lines.flat_map(|line| line.split(',')).take(MAX_ITEMS).filter_map(|item| {
        let mut parts = item.split(';').map(str::trim);
        let is_it = parts.next()?.eq_ignore_ascii_case(value);
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        weight.map_or(Some(1000), thousandths).filter(|_| is_it)
    });
    weights.max()
}

/// Parses an item: a coding and its weight in thousandths.
fn weighted(item: &str) -> Option<(&str, u16)> {
    let blank = [' ', '\t'];
    let Some((coding, weight)) = item.split_once(';') else {
        return Some((item.trim_matches(blank), 1000));
    };
    let (name, value) = weight.trim_matches(blank).split_once('=')?;
    if !name.eq_ignore_ascii_case("q") {
        return None;
    }
    Some((coding.trim_matches(blank), thousandths(value)?))
}

/// Parses a `qvalue`: "0" or "1" with at most three decimals, and not above one.
fn thousandths(value: &str) -> Option<u16> {
    let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
    let digits = decimals.bytes().all(|byte| byte.is_ascii_digit());
    if !matches!(whole, "0" | "1") || decimals.len() > 3 || !digits {
        return None;
    }
    let weight = format!("{whole}{decimals:0<3}").parse().ok()?;
    (weight <= 1000).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    fn negotiate_lines(lines: &[&str]) -> ContentCoding {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(ACCEPT_ENCODING, HeaderValue::from_str(line).unwrap());
        }
        negotiate(&headers)
    }

    #[test]
    fn real_clients_that_name_zstd_get_it() {
        for line in [
            "zstd, br, gzip, deflate, bzip2, xz",
            "deflate, gzip, br, zstd",
            "gzip, deflate, br, zstd;q=0.1",
            "ZSTD",
            "*",
            "*;q=0.5",
            "identity, zstd",
            "zstd;q=0.5, identity;q=0.5",
            "identity;q=0, zstd;q=0.001",
            "gzip ;\tQ=1.000 ,zstd ; q=0.9",
        ] {
            assert_eq!(negotiate_lines(&[line]), ContentCoding::Zstd, "{line}");
        }
    }

    #[test]
    fn nothing_is_encoded_unless_zstd_is_acceptable() {
        assert_eq!(negotiate_lines(&[]), ContentCoding::Identity);
        for line in
            ["", "gzip, br", "zstd;q=0", "zstd;q=0.000, *", "*;q=0", "identity", "identity;q=0", "x-zstd, zstd2"]
        {
            assert_eq!(negotiate_lines(&[line]), ContentCoding::Identity, "{line}");
        }
    }

    #[test]
    fn an_identity_of_higher_weight_wins() {
        assert_eq!(negotiate_lines(&["zstd;q=0.5, identity"]), ContentCoding::Identity);
        assert_eq!(negotiate_lines(&["zstd;q=0.8, identity;q=0.801"]), ContentCoding::Identity);
        assert_eq!(negotiate_lines(&["*;q=0.2, identity;q=0.3"]), ContentCoding::Identity);
    }

    #[test]
    fn several_lines_are_one_list_and_the_first_mention_counts() {
        assert_eq!(negotiate_lines(&["gzip", "br, zstd"]), ContentCoding::Zstd);
        assert_eq!(negotiate_lines(&["zstd;q=0", "zstd"]), ContentCoding::Identity);
    }

    #[test]
    fn a_malformed_item_is_ignored_and_the_others_stand() {
        for item in [
            "zstd;q=2",
            "zstd;q=1.001",
            "zstd;q=0.1234",
            "zstd;q=-1",
            "zstd;q=.5",
            "zstd;q=+1",
            "zstd;level=3",
            "zstd;q",
            "zstd;",
            "zstd;q=0,5",
        ] {
            assert_eq!(negotiate_lines(&[item, "gzip"]), ContentCoding::Identity, "{item}");
        }
        assert_eq!(negotiate_lines(&[";;;, =, ,zstd"]), ContentCoding::Zstd);
    }

    #[test]
    fn items_beyond_the_bound_are_not_read() {
        let filler = vec!["gzip"; MAX_ITEMS].join(",");
        assert_eq!(negotiate_lines(&[&filler, "zstd"]), ContentCoding::Identity);
    }

    proptest! {
        #[test]
        fn weights_are_compared_as_numbers(zstd in 0_u16..=1000, identity in 0_u16..=1000) {
            let text = |q: u16| format!("{}.{:03}", q / 1000, q % 1000);
            let line = format!("identity;q={}, zstd;q={}", text(identity), text(zstd));
            let expected = if zstd > 0 && zstd >= identity { ContentCoding::Zstd } else { ContentCoding::Identity };
            prop_assert_eq!(negotiate_lines(&[&line]), expected);
        }

        #[test]
        fn no_text_makes_it_panic(line in "[ -~\t]{0,60}") {
            let _ = negotiate_lines(&[&line]);
        }
    }
}
