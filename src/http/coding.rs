//! Content negotiation between zstd and no coding (RFC 9110, sections 12.4.2 and 12.5.3).
//!
//! Owns the reading of `Accept-Encoding`; which bodies have an encoded form is the handlers' to
//! know.
//!
//! zstd is taken when the client gives it a weight above zero, by name or by `*`, that is not below
//! the weight which it gives `identity` by name. An `identity` that is not named has no weight to
//! compare: the RFC calls it acceptable, not preferred.
//!
//! Without the field every coding is acceptable to the RFC, yet the answer is plain: Nix up to 2.13
//! sends none and cannot decode. A field that leaves nothing acceptable is answered plain as well,
//! which the RFC allows; 406 would be final to a client that can read the plain body.

use hyper::header::{ACCEPT_ENCODING, HeaderMap, HeaderName};

/// Items of a field that are looked at; real clients send six.
const MAX_ITEMS: usize = 64;

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// Not at all. This is never written as a `Content-Encoding`: Nix 2.3 to 2.33 fail on it.
    Identity,
    /// zstd with a window of at most 8 MiB (RFC 9659).
    Zstd,
}

/// The coding for a body that can be had in either.
#[must_use]
pub fn negotiated(headers: &HeaderMap) -> Coding {
    let (mut zstd, mut identity, mut any) = (None, None, None);
    let items = headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .take(MAX_ITEMS)
        .filter_map(weighted);
    for (coding, weight) in items {
        let slot = if coding.eq_ignore_ascii_case("zstd") {
            &mut zstd
        } else if coding.eq_ignore_ascii_case("identity") {
            &mut identity
        } else if coding == "*" {
            &mut any
        } else {
            continue;
        };
        slot.get_or_insert(weight);
    }
    let zstd = zstd.or(any).unwrap_or(0);
    if zstd > 0 && zstd >= identity.unwrap_or(0) { Coding::Zstd } else { Coding::Identity }
}

/// The most weight that a field gives a value by name, whatever its parameters, in thousandths; nothing if it does not.
pub(super) fn weight_of(headers: &HeaderMap, field: HeaderName, value: &str) -> Option<u16> {
    let lines = headers.get_all(field).iter().filter_map(|line| line.to_str().ok());
    let weights = lines.flat_map(|line| line.split(',')).take(MAX_ITEMS).filter_map(|item| {
        let mut parts = item.split(';').map(str::trim);
        let is_it = parts.next()?.eq_ignore_ascii_case(value);
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        weight.map_or(Some(1000), thousandths).filter(|_| is_it)
    });
    weights.max()
}

/// A coding and its weight in thousandths; nothing if the item is malformed.
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

/// `qvalue`: "0" or "1" with at most three decimals, and not above one.
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

    fn accepted(lines: &[&str]) -> Coding {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(ACCEPT_ENCODING, HeaderValue::from_str(line).unwrap());
        }
        negotiated(&headers)
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
            assert_eq!(accepted(&[line]), Coding::Zstd, "{line}");
        }
    }

    #[test]
    fn statement_8_nothing_is_encoded_unless_zstd_is_acceptable() {
        assert_eq!(accepted(&[]), Coding::Identity);
        for line in
            ["", "gzip, br", "zstd;q=0", "zstd;q=0.000, *", "*;q=0", "identity", "identity;q=0", "x-zstd, zstd2"]
        {
            assert_eq!(accepted(&[line]), Coding::Identity, "{line}");
        }
    }

    #[test]
    fn an_identity_that_is_named_with_more_weight_wins() {
        assert_eq!(accepted(&["zstd;q=0.5, identity"]), Coding::Identity);
        assert_eq!(accepted(&["zstd;q=0.8, identity;q=0.801"]), Coding::Identity);
        assert_eq!(accepted(&["*;q=0.2, identity;q=0.3"]), Coding::Identity);
    }

    #[test]
    fn several_lines_are_one_list_and_the_first_mention_counts() {
        assert_eq!(accepted(&["gzip", "br, zstd"]), Coding::Zstd);
        assert_eq!(accepted(&["zstd;q=0", "zstd"]), Coding::Identity);
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
            assert_eq!(accepted(&[item, "gzip"]), Coding::Identity, "{item}");
        }
        assert_eq!(accepted(&[";;;, =, ,zstd"]), Coding::Zstd);
    }

    #[test]
    fn items_beyond_the_bound_are_not_read() {
        let filler = vec!["gzip"; MAX_ITEMS].join(",");
        assert_eq!(accepted(&[&filler, "zstd"]), Coding::Identity);
    }

    proptest! {
        #[test]
        fn weights_are_compared_as_numbers(zstd in 0_u16..=1000, identity in 0_u16..=1000) {
            let text = |q: u16| format!("{}.{:03}", q / 1000, q % 1000);
            let line = format!("identity;q={}, zstd;q={}", text(identity), text(zstd));
            let expected = if zstd > 0 && zstd >= identity { Coding::Zstd } else { Coding::Identity };
            prop_assert_eq!(accepted(&[&line]), expected);
        }

        #[test]
        fn no_text_makes_it_panic(line in "[ -~\t]{0,60}") {
            let _ = accepted(&[&line]);
        }
    }
}
