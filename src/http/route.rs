//! From a request's target to what is asked for.
//!
//! Owns the URL grammar, old and new. A route that exists is well-formed: a handler gets a `HashPart`, never a string.
//! Everything else is [`Route::Unknown`] and never reaches the daemon. Percent-encoding is decoded within each
//! segment, `+` stays a plus, `//` is `/`, and a segment that would be another path after decoding is unknown.

use std::borrow::Cow;

use harmonia_protocol::hash::NarHash;
use harmonia_protocol::nar::{MAX_DEPTH, Name};
use harmonia_protocol::narinfo::{NarInfoError, Url};
use harmonia_protocol::realisation::{DerivationOutput, OutputName};
use harmonia_protocol::{HashPart, StorePath};
use hyper::Uri;
use percent_encoding::percent_decode_str;

use crate::nar_cache::EncodingTag;
use crate::store::BuildId;

/// Segments that are looked at; no route has more than three, but for [`Place`].
const MAX_SEGMENTS: usize = 16;
/// Query parameters that are looked at; no route has more than one.
const MAX_PARAMETERS: usize = 16;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/`
    LandingPage,
    /// `/nix-cache-info`
    CacheInfo,
    /// `/version`
    Version,
    /// `/health`: is this program alive?
    Health,
    /// `/ready`: does the daemon answer?
    Ready,
    /// `/metrics`
    Metrics,
    /// `/pubkey`: what clients list in `trusted-public-keys`.
    PublicKeys,
    /// `/<hash>.narinfo`, in Nix's format, or with `?json` as JSON.
    NarInfo {
        /// Whose.
        hash: HashPart,
        /// Whether JSON is asked for.
        json: bool,
    },
    /// `/<hash>.ls`: what is in the NAR.
    Listing {
        /// Whose.
        hash: HashPart,
    },
    /// `/nar/<hash>-<nar hash>.nar`, which narinfos name; or `/nar/<nar hash>.nar?hash=<hash>`, which harmonia's did:
    /// such URLs stay in the databases of clients for 30 days.
    Nar {
        /// Whose.
        hash: HashPart,
        /// Which NAR: if the path has another by now, there is none.
        nar_hash: NarHash,
    },
    /// `/nar/<encoding>/<hash>-<nar hash>.nar.zst`, which narinfos name where NARs are compressed.
    CompressedNar {
        /// Whose.
        hash: HashPart,
        /// Which NAR.
        nar_hash: NarHash,
        /// In which encoding.
        tag: EncodingTag,
    },
    /// `/realisations/sha256:<hex>!<output>.doi`, for clients up to Nix 2.34, or
    /// `/build-trace-v2/<name of the derivation>/<output>.doi`, for later ones.
    Realisation(DerivationOutput),
    /// `/log/<hash>-<name>`, of a derivation or an output, or `/log/<hash>`.
    BuildLog {
        /// Whose. The name says nothing more, and some releases of Nix send only a part of it.
        hash: HashPart,
    },
    /// `/debuginfo/<build id>`, as hydra calls it, or with `.debug`, as Nix does.
    DebugInfo {
        /// Of what build.
        id: BuildId,
    },
    /// `/serve/<hash>[/path]`
    Serve(Place),
    /// Nothing that is here.
    Unknown,
}

/// A place in a store path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Of the path.
    pub hash: HashPart,
    /// From its root down.
    pub names: Vec<Name>,
    /// Whether the URL ends in a slash, as those of directories do.
    pub slash: bool,
}

impl Place {
    /// From what follows `/serve/`: names are bytes, as in a NAR, and may hold whatever a name may.
    fn parse(path: &str) -> Option<Self> {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let hash = segments.next()?.parse().ok()?;
        let name = |segment| Name::new(&percent_decode_str(segment).collect::<Vec<_>>()).ok();
        let names = segments.map(name).take(MAX_DEPTH + 1).collect::<Option<Vec<_>>>()?;
        (names.len() <= MAX_DEPTH).then_some(Self { hash, names, slash: path.ends_with('/') })
    }
}

impl Route {
    /// Parses a request's target.
    #[must_use]
    pub fn parse(uri: &Uri) -> Self {
        Self::known(uri).unwrap_or(Self::Unknown)
    }

    /// What metrics call it: the same for every target of the route, so that no client can make a name.
    #[must_use]
    pub const fn template(&self) -> &'static str {
        match self {
            Self::LandingPage => "/",
            Self::CacheInfo => "/nix-cache-info",
            Self::Version => "/version",
            Self::Health => "/health",
            Self::Ready => "/ready",
            Self::Metrics => "/metrics",
            Self::PublicKeys => "/pubkey",
            Self::NarInfo { .. } => "/{hash}.narinfo",
            Self::Listing { .. } => "/{hash}.ls",
            Self::Nar { .. } => "/nar/{nar}",
            Self::CompressedNar { .. } => "/nar/{encoding}/{nar}",
            Self::Realisation(DerivationOutput::Hashed(_)) => "/realisations/{id}",
            Self::Realisation(DerivationOutput::Path(..)) => "/build-trace-v2/{drv}/{output}",
            Self::BuildLog { .. } => "/log/{drv}",
            Self::DebugInfo { .. } => "/debuginfo/{id}",
            Self::Serve(_) => "/serve/{path}",
            Self::Unknown => "unknown",
        }
    }

    fn known(uri: &Uri) -> Option<Self> {
        if let Some(path) = uri.path().trim_start_matches('/').strip_prefix("serve/") {
            return Place::parse(path).map(Self::Serve);
        }
        let segments = segments(uri.path())?;
        let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
        match segments[..] {
            [] => Some(Self::LandingPage),
            ["nix-cache-info"] => Some(Self::CacheInfo),
            ["version"] => Some(Self::Version),
            ["health"] => Some(Self::Health),
            ["ready"] => Some(Self::Ready),
            ["metrics"] => Some(Self::Metrics),
            ["pubkey"] => Some(Self::PublicKeys),
            [file] => match file.split_once('.')? {
                (hash, "narinfo") => {
                    let json = parameters(uri).any(|(name, _)| name == "json");
                    Some(Self::NarInfo { hash: hash.parse().ok()?, json })
                }
                (hash, "ls") => Some(Self::Listing { hash: hash.parse().ok()? }),
                _ => None,
            },
            ["nar", file] => {
                let name = file.strip_suffix(".nar")?;
                let (hash, nar_hash) = match name.split_once('-') {
                    Some((hash, nar_hash)) => (hash.parse().ok()?, nar_hash),
                    None => (parameters(uri).find(|(name, _)| name == "hash")?.1.parse().ok()?, name),
                };
                Some(Self::Nar { hash, nar_hash: NarHash::from_nix32(nar_hash)? })
            }
            ["nar", tag, file] => {
                let (hash, nar_hash) = file.strip_suffix(".nar.zst")?.split_once('-')?;
                Some(Self::CompressedNar {
                    hash: hash.parse().ok()?,
                    nar_hash: NarHash::from_nix32(nar_hash)?,
                    tag: tag.parse().ok()?,
                })
            }
            ["realisations", file] => {
                Some(Self::Realisation(DerivationOutput::Hashed(file.strip_suffix(".doi")?.parse().ok()?)))
            }
            ["build-trace-v2", derivation, file] => {
                let derivation = StorePath::from_base_name(derivation).ok().filter(StorePath::is_derivation)?;
                let output = OutputName::new(file.strip_suffix(".doi")?).ok()?;
                Some(Self::Realisation(DerivationOutput::Path(derivation, output)))
            }
            ["log", name] => Some(Self::BuildLog { hash: of_name(name)? }),
            ["debuginfo", file] => {
                let id = file.strip_suffix(".debug").unwrap_or(file);
                Some(Self::DebugInfo { id: id.parse().ok()? })
            }
            _ => None,
        }
    }
}

/// The hash part of a base name, or what is left of one: up to 2.31 Nix sends a `?` in a name as it is, which ends the
/// path. After a `!` comes the name of an output.
fn of_name(name: &str) -> Option<HashPart> {
    let (name, _) = name.split_once('!').unwrap_or((name, ""));
    match name.strip_suffix('-').unwrap_or(name).parse() {
        Ok(hash) => Some(hash),
        Err(_) => StorePath::from_base_name(name).ok().map(|path| path.hash_part()),
    }
}

/// The URL that a narinfo names for its NAR: no query, since clients treat those differently.
pub fn nar_url(hash: HashPart, nar_hash: &NarHash) -> Result<Url, NarInfoError> {
    Url::new(format!("nar/{hash}-{}.nar", nar_hash.to_nix32()))
}

/// The URL that a narinfo names for the compressed form of its NAR.
pub fn compressed_nar_url(hash: HashPart, nar_hash: &NarHash, tag: &EncodingTag) -> Result<Url, NarInfoError> {
    Url::new(format!("nar/{tag}/{hash}-{}.nar.zst", nar_hash.to_nix32()))
}

fn segments(path: &str) -> Option<Vec<Cow<'_, str>>> {
    let mut segments = Vec::new();
    for raw in path.split('/').filter(|segment| !segment.is_empty()) {
        let segment = percent_decode_str(raw).decode_utf8().ok()?;
        let is_other_path = segment == "." || segment == ".." || segment.contains(['/', '\\', '\0']);
        if is_other_path || segments.len() == MAX_SEGMENTS {
            return None;
        }
        segments.push(segment);
    }
    Some(segments)
}

fn parameters(uri: &Uri) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let decode = |text| percent_decode_str(text).decode_utf8_lossy();
    uri.query().into_iter().flat_map(|query| query.split('&')).take(MAX_PARAMETERS).map(move |parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        (decode(name), decode(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: &str = "lq7lf2dg0c05ibn8r201m1cgdcj5i60a";
    const NAR_HASH: &str = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";

    fn parse(target: &str) -> Route {
        Route::parse(&target.parse().unwrap())
    }

    fn nar() -> Route {
        Route::Nar { hash: HASH.parse().unwrap(), nar_hash: NarHash::from_nix32(NAR_HASH).unwrap() }
    }

    #[test]
    fn every_form_of_a_nar_url_is_the_same_route() {
        for target in [
            format!("/nar/{HASH}-{NAR_HASH}.nar"),
            format!("//nar///{HASH}-{NAR_HASH}.nar?x=1"),
            format!("/nar/{NAR_HASH}.nar?hash={HASH}"),
            format!("/nar/{NAR_HASH}.nar?a=b&hash={HASH}&c"),
            format!("/%6ear/{NAR_HASH}%2Enar?h%61sh={HASH}"),
        ] {
            assert_eq!(parse(&target), nar(), "{target}");
        }
        let url = nar_url(HASH.parse().unwrap(), &NarHash::from_nix32(NAR_HASH).unwrap()).unwrap();
        assert_eq!(parse(&format!("/{}", url.as_str())), nar());
    }

    #[test]
    fn a_compressed_nar_is_asked_for_by_its_encoding_too() {
        let (hash, nar_hash): (HashPart, _) = (HASH.parse().unwrap(), NarHash::from_nix32(NAR_HASH).unwrap());
        let tag: EncodingTag = "zstd1.5.7-3".parse().unwrap();
        let url = compressed_nar_url(hash, &nar_hash, &tag).unwrap();
        assert_eq!(url.as_str(), format!("nar/zstd1.5.7-3/{HASH}-{NAR_HASH}.nar.zst"));
        let route = Route::CompressedNar { hash, nar_hash, tag };
        assert_eq!(parse(&format!("//{}?x", url.as_str())), route);
        for tag in ["", "zst", "zstd%2f1", "zstd1/2", "ZSTD1"] {
            assert_eq!(parse(&format!("/nar/{tag}/{HASH}-{NAR_HASH}.nar.zst")), Route::Unknown, "{tag}");
        }
        assert_eq!(parse(&format!("/nar/zstd1/{HASH}-{NAR_HASH}.nar")), Route::Unknown);
        assert_eq!(parse(&format!("/nar/zstd1/{NAR_HASH}.nar.zst?hash={HASH}")), Route::Unknown);
    }

    #[test]
    fn narinfos_are_asked_for_by_hash_part() {
        let hash = HASH.parse().unwrap();
        assert_eq!(parse(&format!("/{HASH}.narinfo")), Route::NarInfo { hash, json: false });
        assert_eq!(parse(&format!("/{HASH}.narinfo?json")), Route::NarInfo { hash, json: true });
        assert_eq!(parse(&format!("/{HASH}.narinfo?a=1&json=1")), Route::NarInfo { hash, json: true });
        assert_eq!(parse("/nix-cache-info"), Route::CacheInfo);
        assert_eq!(parse(&format!("/{HASH}.ls")), Route::Listing { hash });
    }

    #[test]
    fn the_state_of_the_server_is_asked_for_by_one_segment() {
        assert_eq!(parse("/"), Route::LandingPage);
        assert_eq!(parse("//?x"), Route::LandingPage);
        assert_eq!(parse("/%2f"), Route::Unknown);
        assert_eq!(parse("/version"), Route::Version);
        assert_eq!(parse("/health?from=probe"), Route::Health);
        assert_eq!(parse("//ready/"), Route::Ready);
        assert_eq!(parse("/metrics"), Route::Metrics);
        assert_eq!(parse("/pubkey"), Route::PublicKeys);
        assert_eq!(parse("/Health"), Route::Unknown);
        assert_eq!(parse("/health/ready"), Route::Unknown);
    }

    #[test]
    fn s58_a_realisation_is_asked_for_by_id_however_its_exclamation_mark_is_sent() {
        let hash = "0f".repeat(32);
        let id = format!("sha256:{hash}!dev");
        let route = Route::Realisation(DerivationOutput::Hashed(id.parse().unwrap()));
        for sent in [&id, &id.replace('!', "%21"), &id.replace(':', "%3A")] {
            assert_eq!(parse(&format!("/realisations/{sent}.doi")), route, "{sent}");
        }
        for bad in [
            id.clone(),
            format!("{id}.doi/x"),
            format!("{id}.doi.json"),
            format!("sha256:{hash}.doi"),
            format!("sha256:{hash}!.doi"),
            format!("sha256:{hash}%21a%2fb.doi"),
            format!("sha256:{hash}!a%20b.doi"),
            format!("sha256:{hash}!a!b.doi"),
            format!("sha256:{}!out.doi", hash.to_uppercase()),
            format!("sha256:{}!out.doi", &hash[1..]),
            format!("sha256:{NAR_HASH}!out.doi"),
            format!("sha1:{}!out.doi", &hash[..40]),
            format!("{hash}!out.doi"),
            format!("sha256:{hash}!{}.doi", "x".repeat(212)),
        ] {
            assert_eq!(parse(&format!("/realisations/{bad}")), Route::Unknown, "{bad}");
        }
    }

    #[test]
    fn s59_a_build_trace_is_asked_for_by_derivation_and_output() {
        let derivation = StorePath::from_base_name(&format!("{HASH}-a+b.drv")).unwrap();
        let route = Route::Realisation(DerivationOutput::Path(derivation, OutputName::new("out").unwrap()));
        for sent in ["a+b.drv/out.doi", "a%2Bb.drv/out.doi", "a+b.drv//out%2Edoi"] {
            assert_eq!(parse(&format!("/build-trace-v2/{HASH}-{sent}")), route, "{sent}");
        }
        for bad in
            ["a.drv", "a.drv/out", "a/out.doi", "a.drv/.doi", "a.drv/a%2fb.doi", "a.drv/out.doi/x", "a%20.drv/out.doi"]
        {
            assert_eq!(parse(&format!("/build-trace-v2/{HASH}-{bad}")), Route::Unknown, "{bad}");
        }
        assert_eq!(parse("/build-trace-v2/x.drv/out.doi"), Route::Unknown);
    }

    #[test]
    fn s57_a_log_is_asked_for_by_hash_however_the_name_is_sent() {
        let log = Route::BuildLog { hash: HASH.parse().unwrap() };
        for name in
            ["", "-", "-a+b=c.drv", "-a%2Bb%3Dc.drv", "-?a.drv", "-a?b=c.drv", "-a.drv!out", "-a.drv%21out", "-out"]
        {
            assert_eq!(parse(&format!("/log/{HASH}{name}")), log, "{name}");
        }
        for name in ["x", "--/x", "-a%2fb.drv", "-a/../b.drv", "-a%20b.drv", "-a%00.drv", "a!b"] {
            assert_eq!(parse(&format!("/log/{HASH}{name}")), Route::Unknown, "{name}");
        }
    }

    #[test]
    fn s60_debug_info_is_asked_for_with_and_without_its_suffix() {
        let id = "00d3adbeef".repeat(4);
        let debug_info = Route::DebugInfo { id: id.parse().unwrap() };
        for target in ["", ".debug", "/", "%2edebug?x"] {
            assert_eq!(parse(&format!("//debuginfo/{id}{target}")), debug_info, "{target}");
        }
        for name in [
            "",
            ".debug",
            "abcd",
            &id[1..],
            &id.to_uppercase(),
            &"ab".repeat(65),
            &format!("{id}.debug.debug"),
            &format!("{id}.executable"),
            &format!("{id}/x"),
            &format!("..%2f{id}"),
            &format!("{}/{}.debug", &id[..2], &id[2..]),
        ] {
            assert_eq!(parse(&format!("/debuginfo/{name}")), Route::Unknown, "{name}");
        }
    }

    #[test]
    fn a_place_in_a_path_is_its_names_as_bytes_and_whether_there_is_a_slash() {
        let place = |names: &[&[u8]], slash| {
            let names = names.iter().map(|name| Name::new(name).unwrap()).collect();
            Route::Serve(Place { hash: HASH.parse().unwrap(), names, slash })
        };
        for (target, route) in [
            ("", place(&[], false)),
            ("/", place(&[], true)),
            ("/bin//sh?x", place(&[b"bin", b"sh"], false)),
            ("/%e9%5c/a%25+b/", place(&[b"\xe9\\", b"a%+b"], true)),
        ] {
            assert_eq!(parse(&format!("//serve//{HASH}{target}")), route, "{target}");
        }
        for target in
            ["/..", "/%2e%2e/x", "/a/./b", "/a%2fb", "/%00", "x", &format!("/{}", "x".repeat(256)), &"/x".repeat(2049)]
        {
            assert_eq!(parse(&format!("/serve/{HASH}{target}")), Route::Unknown, "{target}");
        }
        for target in
            ["/serve".to_owned(), "/serve/".to_owned(), format!("/serve/{NAR_HASH}/"), format!("/serve/../{HASH}")]
        {
            assert_eq!(parse(&target), Route::Unknown, "{target}");
        }
    }

    #[test]
    fn what_is_malformed_is_unknown() {
        for target in [
            "/nix-cache-info/".to_owned() + "x",
            format!("/{}.narinfo", &HASH[1..]),
            format!("/{HASH}0.narinfo"),
            format!("/{}.narinfo", "0".repeat(52)),
            format!("/{}.narinfo", HASH.to_uppercase()),
            format!("/{}.narinfo", "e".repeat(32)),
            format!("/{HASH}.narinfo%00"),
            format!("/{HASH}.narinfo.ls"),
            format!("/{}.ls", &HASH[1..]),
            format!("/..%2f{HASH}.narinfo"),
            format!("/../{HASH}.narinfo"),
            format!("/x/%2e%2e/{HASH}.narinfo"),
            format!("/nar/{NAR_HASH}.nar"),
            format!("/nar/{NAR_HASH}.nar?hash={HASH}0"),
            format!("/nar/{HASH}-{HASH}.nar"),
            format!("/nar/{HASH}-z{}.nar", &NAR_HASH[1..]),
            "/".repeat(1000) + &"x/".repeat(1000),
        ] {
            assert_eq!(parse(&target), Route::Unknown, "{target}");
        }
    }

    proptest! {
        #[test]
        fn no_target_panics(target in "/[ -~]{0,120}") {
            if let Ok(uri) = target.parse::<Uri>() {
                let _ = Route::parse(&uri);
            }
        }
    }
}
