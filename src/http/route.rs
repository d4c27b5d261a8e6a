//! From a request's target to what is asked for.
//!
//! Owns the URL grammar, old and new. A route that exists is well-formed: a handler gets a `HashPart`, never a string.
//! Everything else is [`Route::Unknown`] and never reaches the daemon. Percent-encoding is decoded within each
//! segment, `+` stays a plus, `//` is `/`, and a segment that would be another path after decoding is unknown.

use std::borrow::Cow;
use std::fmt;

use harmonia_protocol::derivation_output::{DerivationOutput, OutputName};
use harmonia_protocol::hash::NarHash;
use harmonia_protocol::nar::{MAX_DEPTH, Name};
use harmonia_protocol::narinfo::{NarInfoError, Url};
use harmonia_protocol::{HashPart, StorePath};
use hyper::Uri;
use percent_encoding::percent_decode_str;

use super::pasted::Pasted;
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
    /// such URLs stay in the databases of clients for 30 days. So do old ones of nix-serve, `/nar/<hash>.nar`.
    Nar {
        /// Whose.
        hash: HashPart,
        /// Which NAR: if the path has another by now, there is none. `None` asks for the one that it has now.
        nar_hash: Option<NarHash>,
    },
    /// `/nar/<encoding>/<hash>-<nar hash>.nar.zst`, which narinfos name where NARs are compressed. Mirrors that keep only
    /// the last component of that (ncps) ask for `/nar/<hash>-<nar hash>.nar.zst`.
    CompressedNar {
        /// Whose.
        hash: HashPart,
        /// Which NAR.
        nar_hash: NarHash,
        /// In which encoding; `None` leaves it to the server.
        tag: Option<EncodingTag>,
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
    /// `/serve/<hash>[/path]`, or `/serve/<nar hash>[/path]`
    Serve(Place),
    /// `/serve/<hash>-<name>`: the page about a path.
    PathPage {
        /// As the URL has it; its hash part decides.
        path: StorePath,
    },
    /// A store path pasted behind the cache's URL, such as `/nix/store/<hash>-<name>/bin/sh`, or `/<hash>`.
    Pasted(Pasted),
    /// `/lookup?q=<text>`: a store path, a part of one, or a URL.
    Lookup {
        /// The text of the field; nothing if there is no such parameter.
        text: Option<String>,
    },
    /// `/browse?q=<text>&from=<number>`: valid paths by name, where that is on.
    Browse {
        /// A text that their names contain.
        filter: String,
        /// The place among all paths that the page begins at.
        from: usize,
    },
    /// Nothing that is here.
    Unknown,
}

/// A store path, by what tells its contents or itself; they differ in length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// The path with this hash part.
    Path(HashPart),
    /// Any path with this NAR.
    Nar(NarHash),
}

impl Root {
    fn parse(segment: &str) -> Option<Self> {
        NarHash::from_nix32(segment).map(Self::Nar).or_else(|| segment.parse().ok().map(Self::Path))
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(hash) => hash.fmt(f),
            Self::Nar(nar_hash) => f.write_str(&nar_hash.to_nix32()),
        }
    }
}

/// A place in a store path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The path.
    pub root: Root,
    /// From its root down.
    pub names: Vec<Name>,
    /// Whether the URL ends in a slash, as those of directories do.
    pub slash: bool,
}

impl Place {
    /// From what follows `/serve/`: names are bytes, as in a NAR, and may hold whatever a name may.
    fn parse(path: &str) -> Option<Self> {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let root = Root::parse(segments.next()?)?;
        let name = |segment| Name::new(&percent_decode_str(segment).collect::<Vec<_>>()).ok();
        let names = segments.map(name).take(MAX_DEPTH + 1).collect::<Option<Vec<_>>>()?;
        (names.len() <= MAX_DEPTH).then_some(Self { root, names, slash: path.ends_with('/') })
    }
}

impl Route {
    /// The templates of routes whose traffic visitors are told of.
    pub const NARINFO: &str = "/{hash}.narinfo";
    /// See [`Self::NARINFO`].
    pub const NAR: &str = "/nar/{nar}";
    /// See [`Self::NARINFO`].
    pub const COMPRESSED_NAR: &str = "/nar/{encoding}/{nar}";

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
            Self::NarInfo { .. } => Self::NARINFO,
            Self::Listing { .. } => "/{hash}.ls",
            Self::Nar { .. } | Self::CompressedNar { tag: None, .. } => Self::NAR,
            Self::CompressedNar { tag: Some(_), .. } => Self::COMPRESSED_NAR,
            Self::Realisation(DerivationOutput::Hashed(_)) => "/realisations/{id}",
            Self::Realisation(DerivationOutput::Path(..)) => "/build-trace-v2/{drv}/{output}",
            Self::BuildLog { .. } => "/log/{drv}",
            Self::DebugInfo { .. } => "/debuginfo/{id}",
            Self::Serve(_) => "/serve/{path}",
            Self::PathPage { .. } => "/serve/{store path}",
            Self::Pasted(_) => "/{store path}",
            Self::Lookup { .. } => "/lookup",
            Self::Browse { .. } => "/browse",
            Self::Unknown => "unknown",
        }
    }

    /// The hash part of the store path that it is about, if it names one.
    #[must_use]
    pub const fn hash(&self) -> Option<HashPart> {
        match self {
            Self::NarInfo { hash, .. }
            | Self::Listing { hash }
            | Self::Nar { hash, .. }
            | Self::CompressedNar { hash, .. }
            | Self::BuildLog { hash }
            | Self::Serve(Place { root: Root::Path(hash), .. }) => Some(*hash),
            _ => None,
        }
    }

    fn known(uri: &Uri) -> Option<Self> {
        // A host alone, as in CONNECT; with a scheme there is a path.
        if uri.path().is_empty() {
            return None;
        }
        if let Some(path) = uri.path().trim_start_matches('/').strip_prefix("serve/") {
            return Place::parse(path).map(Self::Serve).or_else(|| Self::of_path(path, uri));
        }
        Self::of_segments(uri).or_else(|| Pasted::parse(uri.path()).map(Self::Pasted))
    }

    /// Parses what follows `/serve/`, with a store path's whole name.
    fn of_path(path: &str, uri: &Uri) -> Option<Self> {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let (Some(name), None, false) = (segments.next(), segments.next(), path.ends_with('/')) else {
            return Pasted::parse(uri.path()).map(Self::Pasted);
        };
        let name = percent_decode_str(name).decode_utf8().ok()?;
        Some(Self::PathPage { path: StorePath::from_base_name(&name).ok()? })
    }

    fn of_segments(uri: &Uri) -> Option<Self> {
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
            ["lookup"] => Some(Self::Lookup { text: field(uri, "q") }),
            ["browse"] => {
                let from = field(uri, "from").and_then(|from| from.parse().ok()).unwrap_or(0);
                Some(Self::Browse { filter: field(uri, "q").unwrap_or_default(), from })
            }
            [file] => match file.split_once('.')? {
                (hash, "narinfo") => {
                    let json = parameters(uri).any(|(name, _)| name == "json");
                    Some(Self::NarInfo { hash: hash.parse().ok()?, json })
                }
                (hash, "ls") => Some(Self::Listing { hash: hash.parse().ok()? }),
                _ => None,
            },
            ["nar", file] => match file.strip_suffix(".nar.zst") {
                Some(name) => Self::compressed_nar(name, None),
                None => Self::nar(file.strip_suffix(".nar")?, uri),
            },
            ["nar", tag, file] => Self::compressed_nar(file.strip_suffix(".nar.zst")?, Some(tag.parse().ok()?)),
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

    fn nar(name: &str, uri: &Uri) -> Option<Self> {
        if let Some((hash, nar_hash)) = name.split_once('-') {
            return Some(Self::Nar { hash: hash.parse().ok()?, nar_hash: Some(NarHash::from_nix32(nar_hash)?) });
        }
        // The two hashes differ in length.
        match NarHash::from_nix32(name) {
            None => Some(Self::Nar { hash: name.parse().ok()?, nar_hash: None }),
            nar_hash => {
                let (_, hash) = parameters(uri).find(|(name, _)| name == "hash")?;
                Some(Self::Nar { hash: hash.parse().ok()?, nar_hash })
            }
        }
    }

    fn compressed_nar(name: &str, tag: Option<EncodingTag>) -> Option<Self> {
        let (hash, nar_hash) = name.split_once('-')?;
        Some(Self::CompressedNar { hash: hash.parse().ok()?, nar_hash: NarHash::from_nix32(nar_hash)?, tag })
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

/// The URL that a narinfo names for its NAR, whose hash is given in nix32: no query, since clients treat those differently.
pub fn nar_url(hash: HashPart, nar_hash: &str) -> Result<Url, NarInfoError> {
    Url::new(["nar/", hash.as_str(), "-", nar_hash, ".nar"].concat())
}

/// The URL that a narinfo names for the compressed form of its NAR.
pub fn compressed_nar_url(hash: HashPart, nar_hash: &str, tag: &EncodingTag) -> Result<Url, NarInfoError> {
    Url::new(["nar/", tag.as_str(), "/", hash.as_str(), "-", nar_hash, ".nar.zst"].concat())
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

/// Decodes the text of a form's field, in which a plus is a space, unlike elsewhere in a URL.
fn field(uri: &Uri, name: &str) -> Option<String> {
    let fields = uri.query()?.split('&').take(MAX_PARAMETERS).filter_map(|field| field.split_once('='));
    let (_, value) = fields.into_iter().find(|(field, _)| *field == name)?;
    Some(percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests;
