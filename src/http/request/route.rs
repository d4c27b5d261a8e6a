//! Parses the target of a request into a route.
//!
//! Owns the URL grammar, current and former. A route is well-formed: a handler gets a `HashPart`, never a string. Any other
//! URL is [`Route::Unknown`] and never reaches nix-daemon. Percent-encoding is decoded within each segment, `+` stays a plus,
//! `//` is `/`, and a segment that contains a separator after decoding makes the URL unknown.

use std::borrow::Cow;
use std::fmt;

use harmonia_protocol::derivation_output::{DerivationOutput, OutputName};
use harmonia_protocol::hash::NarHash;
use harmonia_protocol::nar::{MAX_DEPTH, Name};
use harmonia_protocol::narinfo::{NarInfoError, Url};
use harmonia_protocol::{HashPart, StorePath};
use hyper::Uri;
use percent_encoding::percent_decode_str;

use crate::http::request::pasted_path::PastedPath;
use crate::nar_cache::EncodingTag;
use crate::push::UploadName;
use crate::store::BuildId;

/// Upper bound of segments in a URL. No route has more than three, except for [`ServePath`].
const MAX_SEGMENTS: usize = 16;
/// Upper bound of query parameters; later ones are ignored. No route has more than two.
const MAX_PARAMETERS: usize = 16;

/// Endpoint that a URL selects, with what the URL says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/`
    LandingPage,
    /// `/nix-cache-info`
    CacheInfo,
    /// `/version`
    Version,
    /// `/health`: whether this program is running.
    Health,
    /// `/ready`: whether nix-daemon responds; with `?path=` of a store path or its hash, whether that is in the bucket.
    Ready {
        /// Hash part of the path.
        path: Option<HashPart>,
    },
    /// `/metrics`
    Metrics,
    /// `/pubkey`: the public keys for `trusted-public-keys` of clients.
    PublicKeys,
    /// `/<hash>.narinfo`, in Nix's format, or with `?json` as JSON.
    NarInfo {
        /// Hash part of the path.
        hash: HashPart,
        /// Whether JSON is requested.
        json: bool,
    },
    /// `/<hash>.ls`: the listing of the NAR.
    Listing {
        /// Hash part of the path.
        hash: HashPart,
    },
    /// `/nar/<hash>-<nar hash>.nar`, as in narinfos; or `/nar/<nar hash>.nar?hash=<hash>`, as in those of upstream harmonia; or
    /// `/nar/<hash>.nar`, as in old ones of nix-serve. Clients cache narinfos, and so their URLs, for 30 days.
    Nar {
        /// Hash part of the path.
        hash: HashPart,
        /// Hash of the NAR: if the path has another one, the response is 404. `None` selects the one that it has.
        nar_hash: Option<NarHash>,
    },
    /// `/nar/<encoding>/<hash>-<nar hash>.nar.zst`, as in narinfos while NARs are compressed; or
    /// `/nar/<hash>-<nar hash>.nar.zst`, as requested by mirrors that store only the last segment (ncps).
    CompressedNar {
        /// Hash part of the path.
        hash: HashPart,
        /// Hash of the NAR.
        nar_hash: NarHash,
        /// Encoding; `None` accepts any.
        tag: Option<EncodingTag>,
    },
    /// `/nar/<file hash>.nar`, with or without the extension of a compression: a file that Nix uploads. Its narinfo says how
    /// it is compressed.
    UploadedNar {
        /// Hash and extension.
        file: UploadName,
    },
    /// `/realisations/sha256:<hex>!<output>.doi`, requested by Nix up to 2.34, or
    /// `/build-trace-v2/<name of the derivation>/<output>.doi`, requested by later releases.
    Realisation(DerivationOutput),
    /// `/log/<hash>-<name>`, of a derivation or an output, or `/log/<hash>`.
    BuildLog {
        /// Hash part of the path. The name is ignored: some releases of Nix send only a part of it.
        hash: HashPart,
    },
    /// `/debuginfo/<build id>`, as in hydra, or with `.debug`, as in Nix.
    DebugInfo {
        /// Build ID.
        id: BuildId,
    },
    /// `/serve/<hash>[/path]`, or `/serve/<nar hash>[/path]`
    Serve(ServePath),
    /// `/serve/<hash>-<name>`: the page about a path.
    PathPage {
        /// The path as in the URL. It is looked up by its hash part.
        path: StorePath,
    },
    /// A store path pasted behind the cache's URL, such as `/nix/store/<hash>-<name>/bin/sh`, or `/<hash>`.
    PastedPath(PastedPath),
    /// `/lookup?q=<text>`: a store path, a part of one, or a URL.
    Lookup {
        /// The text; `None` without such a parameter.
        text: Option<String>,
    },
    /// `/browse?q=<text>&from=<number>`: valid paths by name, if enabled.
    Browse {
        /// Text that the names contain.
        filter: String,
        /// Index among all paths at which the page starts.
        from: usize,
    },
    /// No endpoint.
    Unknown,
}

/// Store path that a `/serve/` URL names. The two kinds of hashes differ in length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServeRoot {
    /// The path with this hash part.
    Path(HashPart),
    /// Any path with this NAR.
    Nar(NarHash),
}

impl ServeRoot {
    fn parse(segment: &str) -> Option<Self> {
        NarHash::from_nix32(segment).map(Self::Nar).or_else(|| segment.parse().ok().map(Self::Path))
    }
}

impl fmt::Display for ServeRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(hash) => hash.fmt(f),
            Self::Nar(nar_hash) => f.write_str(&nar_hash.to_nix32()),
        }
    }
}

/// A file or directory in a store path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServePath {
    /// The store path.
    pub root: ServeRoot,
    /// Names from its root down.
    pub names: Vec<Name>,
    /// Whether the URL ends in a slash, as those of directories do.
    pub has_slash: bool,
}

impl ServePath {
    /// Parses the part after `/serve/`. Names are bytes, as in a NAR.
    fn parse(path: &str) -> Option<Self> {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let root = ServeRoot::parse(segments.next()?)?;
        let name = |segment| Name::new(&percent_decode_str(segment).collect::<Vec<_>>()).ok();
        let names = segments.map(name).take(MAX_DEPTH + 1).collect::<Option<Vec<_>>>()?;
        (names.len() <= MAX_DEPTH).then_some(Self { root, names, has_slash: path.ends_with('/') })
    }
}

impl Route {
    /// Template of narinfos.
    pub const NARINFO: &str = "/{hash}.narinfo";
    /// Template of uncompressed NARs.
    pub const NAR: &str = "/nar/{nar}";
    /// Template of compressed NARs.
    pub const COMPRESSED_NAR: &str = "/nar/{encoding}/{nar}";

    /// Parses the target of a request.
    #[must_use]
    pub fn parse(uri: &Uri) -> Self {
        Self::try_parse(uri).unwrap_or(Self::Unknown)
    }

    /// Returns the template of its URLs, for metrics: the same for every target, so that no client can make up labels.
    #[must_use]
    pub const fn template(&self) -> &'static str {
        match self {
            Self::LandingPage => "/",
            Self::CacheInfo => "/nix-cache-info",
            Self::Version => "/version",
            Self::Health => "/health",
            Self::Ready { .. } => "/ready",
            Self::Metrics => "/metrics",
            Self::PublicKeys => "/pubkey",
            Self::NarInfo { .. } => Self::NARINFO,
            Self::Listing { .. } => "/{hash}.ls",
            Self::Nar { .. } | Self::CompressedNar { tag: None, .. } | Self::UploadedNar { .. } => Self::NAR,
            Self::CompressedNar { tag: Some(_), .. } => Self::COMPRESSED_NAR,
            Self::Realisation(DerivationOutput::Hashed(_)) => "/realisations/{id}",
            Self::Realisation(DerivationOutput::Path(..)) => "/build-trace-v2/{drv}/{output}",
            Self::BuildLog { .. } => "/log/{drv}",
            Self::DebugInfo { .. } => "/debuginfo/{id}",
            Self::Serve(_) => "/serve/{path}",
            Self::PathPage { .. } => "/serve/{store path}",
            Self::PastedPath(_) => "/{store path}",
            Self::Lookup { .. } => "/lookup",
            Self::Browse { .. } => "/browse",
            Self::Unknown => "unknown",
        }
    }

    /// Returns the hash part of the store path, if the URL names one.
    #[must_use]
    pub const fn hash(&self) -> Option<HashPart> {
        match self {
            Self::NarInfo { hash, .. }
            | Self::Listing { hash }
            | Self::Nar { hash, .. }
            | Self::CompressedNar { hash, .. }
            | Self::BuildLog { hash }
            | Self::Serve(ServePath { root: ServeRoot::Path(hash), .. }) => Some(*hash),
            _ => None,
        }
    }

    fn try_parse(uri: &Uri) -> Option<Self> {
        // A host alone, as in CONNECT; with a scheme there is a path.
        if uri.path().is_empty() {
            return None;
        }
        if let Some(path) = uri.path().trim_start_matches('/').strip_prefix("serve/") {
            return ServePath::parse(path).map(Self::Serve).or_else(|| Self::path_page(path, uri));
        }
        Self::from_segments(uri).or_else(|| PastedPath::parse(uri.path()).map(Self::PastedPath))
    }

    /// Parses the part after `/serve/` as a store path with its name.
    fn path_page(path: &str, uri: &Uri) -> Option<Self> {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let (Some(name), None, false) = (segments.next(), segments.next(), path.ends_with('/')) else {
            return PastedPath::parse(uri.path()).map(Self::PastedPath);
        };
        let name = percent_decode_str(name).decode_utf8().ok()?;
        Some(Self::PathPage { path: StorePath::from_base_name(&name).ok()? })
    }

    fn from_segments(uri: &Uri) -> Option<Self> {
        let segments = segments(uri.path())?;
        let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
        match segments[..] {
            [] => Some(Self::LandingPage),
            ["nix-cache-info"] => Some(Self::CacheInfo),
            ["version"] => Some(Self::Version),
            ["health"] => Some(Self::Health),
            ["ready"] => match field(uri, "path") {
                None => Some(Self::Ready { path: None }),
                // Of a store path, the last part counts.
                Some(text) => Some(Self::Ready { path: Some(hash_part_of(text.rsplit('/').next()?)?) }),
            },
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
                None => file.strip_suffix(".nar").and_then(|name| Self::nar(name, uri)),
            }
            .or_else(|| Self::uploaded_nar(file, uri)),
            ["nar", tag, file] => Self::compressed_nar(file.strip_suffix(".nar.zst")?, Some(tag.parse().ok()?)),
            ["realisations", file] => {
                Some(Self::Realisation(DerivationOutput::Hashed(file.strip_suffix(".doi")?.parse().ok()?)))
            }
            ["build-trace-v2", derivation, file] => {
                let derivation = StorePath::from_base_name(derivation).ok().filter(StorePath::is_derivation)?;
                let output = OutputName::new(file.strip_suffix(".doi")?).ok()?;
                Some(Self::Realisation(DerivationOutput::Path(derivation, output)))
            }
            ["log", name] => Some(Self::BuildLog { hash: hash_part_of(name)? }),
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

    /// Parses the name of an uploaded file. The URL of a NAR that is served may look the same but for its query.
    fn uploaded_nar(file: &str, uri: &Uri) -> Option<Self> {
        if uri.query().is_some() {
            return None;
        }
        UploadName::parse(file).map(|file| Self::UploadedNar { file })
    }

    fn compressed_nar(name: &str, tag: Option<EncodingTag>) -> Option<Self> {
        let (hash, nar_hash) = name.split_once('-')?;
        Some(Self::CompressedNar { hash: hash.parse().ok()?, nar_hash: NarHash::from_nix32(nar_hash)?, tag })
    }
}

/// Returns the hash part of a base name, or of the beginning of one: Nix up to 2.31 sends a `?` in a name as it is, which
/// ends the path. A `!` precedes the name of an output.
fn hash_part_of(name: &str) -> Option<HashPart> {
    let (name, _) = name.split_once('!').unwrap_or((name, ""));
    match name.strip_suffix('-').unwrap_or(name).parse() {
        Ok(hash) => Some(hash),
        Err(_) => StorePath::from_base_name(name).ok().map(|path| path.hash_part()),
    }
}

/// Returns the URL of a NAR in a narinfo; the hash of the NAR is in nix32. It has no query: clients treat those differently.
pub fn nar_url(hash: HashPart, nar_hash: &str) -> Result<Url, NarInfoError> {
    Url::new(["nar/", hash.as_str(), "-", nar_hash, ".nar"].concat())
}

/// Returns the URL of a compressed NAR in a narinfo.
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

/// Returns the value of a form field, in which a plus is a space, unlike elsewhere in a URL.
fn field(uri: &Uri, name: &str) -> Option<String> {
    let fields = uri.query()?.split('&').take(MAX_PARAMETERS).filter_map(|field| field.split_once('='));
    let (_, value) = fields.into_iter().find(|(field, _)| *field == name)?;
    Some(percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests;
