//! Texts that people look up: store paths, hashes and URLs in any form.
//!
//! A path is identified by its hash part alone, so that a truncated name does not matter. Does not check whether there is
//! such a path.

use std::borrow::Cow;

use harmonia_protocol::hash::NarHash;
use harmonia_protocol::nar::{MAX_DEPTH, Name};
use harmonia_protocol::{HashPart, StoreDir};
use percent_encoding::percent_decode_str;

/// Upper bound of segments up to the hash.
const MAX_SEGMENTS: usize = 16;
/// Upper bound of a text, in bytes.
const MAX_TEXT: usize = 4096;

/// Subject of a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LookupQuery {
    /// The text is empty.
    Empty,
    /// The path with this hash part, or the file at these names in it.
    Path(HashPart, Vec<Name>),
    /// A path with this NAR.
    Nar(NarHash),
    /// A path in another store directory.
    OtherStore,
    /// A text that names no path.
    Unrecognized,
}

impl LookupQuery {
    /// Parses a store path, its base name or hash part, a file in it, the hash of a NAR, or a URL that contains one of these.
    pub(crate) fn parse(text: &str, store: &StoreDir) -> Self {
        let text = text.trim_matches(|c: char| c.is_whitespace() || "\"'`,;".contains(c));
        if text.is_empty() {
            return Self::Empty;
        }
        if text.len() > MAX_TEXT {
            return Self::Unrecognized;
        }
        if let Ok(nar_hash) = NarHash::parse(text) {
            return Self::Nar(nar_hash);
        }
        let (text, is_url) = match text.split_once("://") {
            Some((_, rest)) => (rest.split_once('/').map_or("", |(_, path)| path), true),
            None => (text, false),
        };
        let (text, query) = if is_url { split_query(text) } else { (text, "") };
        let decode =
            |segment| if is_url { percent_decode_str(segment).decode_utf8_lossy() } else { Cow::from(segment) };
        if let Some(hash) = query.split('&').find_map(|parameter| parameter.strip_prefix("hash=")?.parse().ok()) {
            return Self::Path(hash, Vec::new());
        }
        let segments: Vec<&str> = text.split('/').filter(|segment| !segment.is_empty()).collect();
        for (index, segment) in segments.iter().enumerate().take(MAX_SEGMENTS) {
            let segment = decode(segment);
            let Some(hash) = hash_part(&segment) else {
                match NarHash::parse(segment.split('.').next().unwrap_or_default()) {
                    Ok(nar_hash) => return Self::Nar(nar_hash),
                    Err(_) => continue,
                }
            };
            let before = &segments[..index];
            let is_path = segment.as_bytes().get(HashPart::LEN) == Some(&b'-');
            let own: Vec<&str> = store.as_str().split('/').filter(|part| !part.is_empty()).collect();
            if is_path && !is_url && text.starts_with('/') && before != own {
                return Self::OtherStore;
            }
            let below = segments[index + 1..].iter().map(|segment| {
                if is_url {
                    Name::new(&percent_decode_str(segment).collect::<Vec<_>>())
                } else {
                    Name::new(segment.as_bytes())
                }
            });
            let names: Result<Vec<_>, _> = below.take(MAX_DEPTH).collect();
            return names.map_or(Self::Unrecognized, |names| Self::Path(hash, names));
        }
        Self::Unrecognized
    }
}

fn split_query(text: &str) -> (&str, &str) {
    let text = text.split('#').next().unwrap_or_default();
    text.split_once('?').unwrap_or((text, ""))
}

/// Returns the hash part at the start of a segment: a base name, a narinfo, a listing, a NAR, or the hash part alone.
fn hash_part(segment: &str) -> Option<HashPart> {
    let hash = segment.get(..HashPart::LEN)?.parse().ok()?;
    let rest = &segment[HashPart::LEN..];
    (rest.is_empty() || rest.starts_with(['-', '.', '!', ' ', '^'])).then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: &str = "lq7lf2dg0c05ibn8r201m1cgdcj5i60a";
    const NAR_HASH: &str = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";

    fn parse(text: &str) -> LookupQuery {
        LookupQuery::parse(text, &StoreDir::default())
    }

    fn path(names: &[&str]) -> LookupQuery {
        let names = names.iter().map(|name| Name::new(name.as_bytes()).unwrap()).collect();
        LookupQuery::Path(HASH.parse().unwrap(), names)
    }

    #[test]
    fn every_form_of_a_store_path_is_recognized() {
        for text in [
            HASH.to_owned(),
            format!("  /nix/store/{HASH}-hello-2.12\n"),
            format!("\"/nix/store/{HASH}-hello\";"),
            format!("{HASH}-hello"),
            format!("{HASH}-a b"),
            format!("nix/store/{HASH}-hello/"),
            format!("/nix/store/{HASH}-hello^out"),
            format!("{HASH}.narinfo"),
            format!("/{HASH}.ls"),
            format!("https://cache.example.org/{HASH}.narinfo?json"),
            format!("http://cache/below/serve/{HASH}-hello"),
            format!("https://cache/nar/{HASH}-{NAR_HASH}.nar"),
            format!("https://cache/nar/zstd1.5.7-3/{HASH}-{NAR_HASH}.nar.zst#x"),
            format!("https://cache/nar/{NAR_HASH}.nar?hash={HASH}"),
            format!("https://other/gnu/store/{HASH}-hello"),
            format!("file:///nix/store/{HASH}-hello"),
            format!("https://cache/log/{HASH}-hello.drv"),
        ] {
            assert_eq!(parse(&text), path(&[]), "{text}");
        }
        assert_eq!(parse(&format!("/nix/store/{HASH}-hello/bin/a%41+b")), path(&["bin", "a%41+b"]));
        assert_eq!(parse(&format!("https://cache/serve/{HASH}/bin/a%41+b")), path(&["bin", "aA+b"]));
    }

    #[test]
    fn hashes_of_nars_are_recognized_and_other_texts_are_not() {
        let nar = LookupQuery::Nar(NarHash::from_nix32(NAR_HASH).unwrap());
        let hex = NarHash::from_nix32(NAR_HASH).unwrap().to_hex();
        for text in [
            NAR_HASH.to_owned(),
            format!("sha256:{NAR_HASH}"),
            format!("sha256:{hex}"),
            hex,
            format!("nar/{NAR_HASH}.nar"),
        ] {
            assert_eq!(parse(&text), nar, "{text}");
        }
        assert_eq!(parse(&format!("/gnu/store/{HASH}-hello")), LookupQuery::OtherStore);
        for text in ["", " ", "\"\""] {
            assert_eq!(parse(text), LookupQuery::Empty, "{text:?}");
        }
        for text in [
            "hello",
            "/nix/store",
            "https://",
            "https://cache",
            &HASH[1..],
            &HASH.to_uppercase(),
            &format!("{HASH}x"),
            &format!("x{HASH}"),
            &format!("/nix/store/{HASH}-hello/../x"),
            &format!("/nix/store/{HASH}-hello{}", "x".repeat(MAX_TEXT)),
            "\u{202e}\0<script>",
        ] {
            assert_eq!(parse(text), LookupQuery::Unrecognized, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}") {
            let _ = parse(&text);
            let _ = parse(&format!("{HASH}-{text}/{text}"));
        }
    }
}
