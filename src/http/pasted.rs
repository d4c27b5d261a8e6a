//! Store paths as people paste them: behind the cache's URL, and into the field that looks one up.
//!
//! Owns what is understood of such a text. It is looked for by its hash part alone, so that a name that was cut does not
//! matter; nothing here asks whether there is such a path.

use std::borrow::Cow;

use harmonia_protocol::hash::NarHash;
use harmonia_protocol::nar::{MAX_DEPTH, Name};
use harmonia_protocol::{HashPart, StoreDir, StorePath};
use percent_encoding::percent_decode_str;

use super::directory_page::encoded;

/// Segments that are looked at for a store path: store directories are not deeper.
const MAX_SEGMENTS: usize = 16;
/// Endpoints of which what is malformed is no pasted path.
const OTHERS: [&str; 5] = ["nar", "log", "realisations", "build-trace-v2", "debuginfo"];
/// The longest text that is looked at, in bytes: a store path, and a long way into it.
const MAX_TEXT: usize = 4096;

/// The path of a URL that has a store path in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pasted {
    /// The text before the store path; empty if there is none.
    pub directory: String,
    /// The last segment of the store path: its base name or its hash part.
    pub base: Base,
    /// The way into the store path.
    pub names: Vec<Name>,
    /// Levels of the URL below the cache's own.
    depth: usize,
}

/// A store path, as far as it is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// With its name.
    Path(StorePath),
    /// Only its hash part, and nothing before and after.
    Hash(HashPart),
}

impl Pasted {
    /// Looks for a store path in the path of a request's target.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let depth = path.bytes().filter(|byte| *byte == b'/').count().saturating_sub(1);
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        if let [only] = segments[..] {
            // A narinfo or a listing that is asked for by more than its hash.
            if [".narinfo", ".ls"].iter().any(|suffix| only.ends_with(suffix)) {
                return None;
            }
            if let Ok(hash) = only.parse() {
                return Some(Self { directory: String::new(), base: Base::Hash(hash), names: Vec::new(), depth });
            }
        }
        if segments.first().is_some_and(|first| OTHERS.contains(first)) {
            return None;
        }
        let mut directory = String::new();
        for (at, segment) in segments.iter().enumerate().take(MAX_SEGMENTS) {
            let segment = percent_decode_str(segment).decode_utf8().ok()?;
            if let Ok(path) = StorePath::from_base_name(&segment) {
                let names = names(segments[at + 1..].iter().copied())?;
                return Some(Self { directory, base: Base::Path(path), names, depth });
            }
            directory.extend(["/", &segment]);
        }
        None
    }

    /// A relative reference from the URL to this place below the cache's own, since proxies may have put that anywhere.
    pub(super) fn relative(&self, place: &str) -> String {
        if self.depth == 0 { format!("./{place}") } else { "../".repeat(self.depth) + place }
    }
}

/// Returns the place of the files, below the cache's URL.
pub(super) fn files_place(hash: HashPart, names: &[Name]) -> String {
    let mut place = format!("serve/{hash}");
    for name in names {
        place.extend(["/", &encoded(name.as_bytes())]);
    }
    place
}

/// Returns the place of the page about a path, below the cache's URL.
pub(super) fn page_place(path: &StorePath) -> String {
    format!("serve/{}", encoded(path.base_name().as_bytes()))
}

/// Names in a path, each of which may be percent-encoded.
fn names<'a>(segments: impl Iterator<Item = &'a str>) -> Option<Vec<Name>> {
    let name = |segment| Name::new(&percent_decode_str(segment).collect::<Vec<_>>()).ok();
    let names = segments.filter(|segment| !segment.is_empty()).map(name);
    names.take(MAX_DEPTH + 1).collect::<Option<Vec<_>>>().filter(|names| names.len() <= MAX_DEPTH)
}

/// The subject of a look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Nothing yet.
    Nothing,
    /// The path with this hash part, or what these names lead to in it.
    Path(HashPart, Vec<Name>),
    /// A path with this NAR.
    Nar(NarHash),
    /// A path of another store directory.
    OtherStore,
    /// Something that is none of that.
    Unclear,
}

impl Wanted {
    /// Understands a store path, its base name or hash part, a place in it, the hash of a NAR, and URLs that have one of
    /// these in them.
    pub(super) fn parse(text: &str, store: &StoreDir) -> Self {
        let text = text.trim_matches(|c: char| c.is_whitespace() || "\"'`,;".contains(c));
        if text.is_empty() {
            return Self::Nothing;
        }
        if text.len() > MAX_TEXT {
            return Self::Unclear;
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
        for (at, segment) in segments.iter().enumerate().take(MAX_SEGMENTS) {
            let segment = decode(segment);
            let Some(hash) = hash_part(&segment) else {
                match NarHash::parse(segment.split('.').next().unwrap_or_default()) {
                    Ok(nar_hash) => return Self::Nar(nar_hash),
                    Err(_) => continue,
                }
            };
            let before = &segments[..at];
            let is_path = segment.as_bytes().get(HashPart::LEN) == Some(&b'-');
            let own: Vec<&str> = store.as_str().split('/').filter(|part| !part.is_empty()).collect();
            if is_path && !is_url && text.starts_with('/') && before != own {
                return Self::OtherStore;
            }
            let below = segments[at + 1..].iter().map(|segment| {
                if is_url {
                    Name::new(&percent_decode_str(segment).collect::<Vec<_>>())
                } else {
                    Name::new(segment.as_bytes())
                }
            });
            let names: Result<Vec<_>, _> = below.take(MAX_DEPTH).collect();
            return names.map_or(Self::Unclear, |names| Self::Path(hash, names));
        }
        Self::Unclear
    }
}

fn split_query(text: &str) -> (&str, &str) {
    let text = text.split('#').next().unwrap_or_default();
    text.split_once('?').unwrap_or((text, ""))
}

/// The hash part that a segment begins with: that of a base name, of a narinfo, a listing or a NAR, or alone.
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

    fn wanted(text: &str) -> Wanted {
        Wanted::parse(text, &StoreDir::default())
    }

    fn path(names: &[&str]) -> Wanted {
        let names = names.iter().map(|name| Name::new(name.as_bytes()).unwrap()).collect();
        Wanted::Path(HASH.parse().unwrap(), names)
    }

    #[test]
    fn every_form_of_a_store_path_is_understood() {
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
            assert_eq!(wanted(&text), path(&[]), "{text}");
        }
        assert_eq!(wanted(&format!("/nix/store/{HASH}-hello/bin/a%41+b")), path(&["bin", "a%41+b"]));
        assert_eq!(wanted(&format!("https://cache/serve/{HASH}/bin/a%41+b")), path(&["bin", "aA+b"]));
    }

    #[test]
    fn hashes_of_nars_are_understood_and_what_is_neither_is_not() {
        let nar = Wanted::Nar(NarHash::from_nix32(NAR_HASH).unwrap());
        let hex = NarHash::from_nix32(NAR_HASH).unwrap().to_hex();
        for text in [
            NAR_HASH.to_owned(),
            format!("sha256:{NAR_HASH}"),
            format!("sha256:{hex}"),
            hex,
            format!("nar/{NAR_HASH}.nar"),
        ] {
            assert_eq!(wanted(&text), nar, "{text}");
        }
        assert_eq!(wanted(&format!("/gnu/store/{HASH}-hello")), Wanted::OtherStore);
        for text in ["", " ", "\"\""] {
            assert_eq!(wanted(text), Wanted::Nothing, "{text:?}");
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
            assert_eq!(wanted(text), Wanted::Unclear, "{text:?}");
        }
    }

    #[test]
    fn a_pasted_path_is_found_behind_any_directory_and_leads_back() {
        let pasted = |path: &str| Pasted::parse(path).unwrap();
        let place = |path: &str| pasted(path).relative("serve/x");
        for (path, directory, relative) in [
            (format!("/{HASH}-hello"), "", "./serve/x"),
            (format!("/nix/store/{HASH}-hello"), "/nix/store", "../../serve/x"),
            (format!("/nix/store/{HASH}-hello/"), "/nix/store", "../../../serve/x"),
            (format!("//nix//store/{HASH}-hello"), "/nix/store", "../../../../serve/x"),
            (format!("/serve/{HASH}-hello/bin"), "/serve", "../../serve/x"),
        ] {
            assert_eq!((&*pasted(&path).directory, &*place(&path)), (directory, relative), "{path}");
        }
        assert_eq!(pasted(&format!("/{HASH}")).base, Base::Hash(HASH.parse().unwrap()));
        let names = pasted(&format!("/nix/store/{HASH}-hello/bin/%e9b")).names;
        assert_eq!(files_place(HASH.parse().unwrap(), &names), format!("serve/{HASH}/bin/%E9b"));
        let odd = StorePath::from_base_name(&format!("{HASH}-a?b=c+d")).unwrap();
        assert_eq!(page_place(&odd), format!("serve/{HASH}-a%3Fb%3Dc%2Bd"));
        for path in [
            &format!("/{HASH}-hello.narinfo"),
            &format!("/{HASH}-hello.ls"),
            "/",
            "/nix/store",
            &format!("/x/{HASH}"),
            &format!("/{HASH}-a%2fb"),
            &format!("/nix/store/{HASH}-a/.."),
            &format!("/{}{HASH}-a", "x/".repeat(20)),
        ] {
            assert_eq!(Pasted::parse(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_no_place_leaves_the_cache(text in "\\PC{0,60}", path in "/[ -~]{0,60}") {
            let _ = wanted(&text);
            let _ = wanted(&format!("{HASH}-{text}/{text}"));
            if let Some(pasted) = Pasted::parse(&path) {
                let place = files_place(HASH.parse().unwrap(), &pasted.names);
                prop_assert!(place.split('/').all(|segment| !matches!(segment, "" | "." | "..")), "{}", place);
                prop_assert!(place.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%/".contains(&byte)));
            }
        }
    }
}
