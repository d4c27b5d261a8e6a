//! Store paths that people paste behind the cache's URL.

use harmonia_protocol::nar::{MAX_DEPTH, Name};
use harmonia_protocol::{HashPart, StorePath};
use percent_encoding::percent_decode_str;

/// Upper bound of segments up to the store path. Store directories are not deeper.
const MAX_SEGMENTS: usize = 16;
/// First segments of endpoints, whose malformed URLs are not pasted paths.
const ENDPOINTS: [&str; 5] = ["nar", "log", "realisations", "build-trace-v2", "debuginfo"];

/// The path of a URL that contains a store path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastedPath {
    /// Text before the store path; may be empty.
    pub directory: String,
    /// Last segment of the store path.
    pub name: PathName,
    /// Names from the root of the store path down.
    pub names: Vec<Name>,
    /// Number of segments of the URL after the first.
    depth: usize,
}

/// Name of a store path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathName {
    /// Base name.
    Full(StorePath),
    /// Hash part alone, as the only segment.
    Hash(HashPart),
}

impl PastedPath {
    /// Finds a store path in the path of a URL.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let depth = path.bytes().filter(|byte| *byte == b'/').count().saturating_sub(1);
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        if let [only] = segments[..] {
            // A narinfo or a listing under a name.
            if [".narinfo", ".ls"].iter().any(|suffix| only.ends_with(suffix)) {
                return None;
            }
            if let Ok(hash) = only.parse() {
                return Some(Self { directory: String::new(), name: PathName::Hash(hash), names: Vec::new(), depth });
            }
        }
        if segments.first().is_some_and(|first| ENDPOINTS.contains(first)) {
            return None;
        }
        let mut directory = String::new();
        for (index, segment) in segments.iter().enumerate().take(MAX_SEGMENTS) {
            let segment = percent_decode_str(segment).decode_utf8().ok()?;
            if let Ok(path) = StorePath::from_base_name(&segment) {
                let names = names(segments[index + 1..].iter().copied())?;
                return Some(Self { directory, name: PathName::Full(path), names, depth });
            }
            directory.extend(["/", &segment]);
        }
        None
    }

    /// Makes a link that is relative to the cache's own URL relative to this URL: a proxy may serve the cache below any
    /// path.
    pub(crate) fn relative(&self, link: &str) -> String {
        if self.depth == 0 { format!("./{link}") } else { "../".repeat(self.depth) + link }
    }
}

/// Parses names, which may be percent-encoded.
fn names<'a>(segments: impl Iterator<Item = &'a str>) -> Option<Vec<Name>> {
    let name = |segment| Name::new(&percent_decode_str(segment).collect::<Vec<_>>()).ok();
    let names = segments.filter(|segment| !segment.is_empty()).map(name);
    names.take(MAX_DEPTH + 1).collect::<Option<Vec<_>>>().filter(|names| names.len() <= MAX_DEPTH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::links::{files_link, page_link};
    use proptest::prelude::*;

    const HASH: &str = "lq7lf2dg0c05ibn8r201m1cgdcj5i60a";

    #[test]
    fn a_pasted_path_is_found_behind_any_directory() {
        let pasted = |path: &str| PastedPath::parse(path).unwrap();
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
        assert_eq!(pasted(&format!("/{HASH}")).name, PathName::Hash(HASH.parse().unwrap()));
        let names = pasted(&format!("/nix/store/{HASH}-hello/bin/%e9b")).names;
        assert_eq!(files_link(HASH.parse().unwrap(), &names), format!("serve/{HASH}/bin/%E9b"));
        let odd = StorePath::from_base_name(&format!("{HASH}-a?b=c+d")).unwrap();
        assert_eq!(page_link(&odd), format!("serve/{HASH}-a%3Fb%3Dc%2Bd"));
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
            assert_eq!(PastedPath::parse(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_url_panics_and_no_link_leaves_the_cache(path in "/[ -~]{0,60}") {
            if let Some(pasted) = PastedPath::parse(&path) {
                let link = files_link(HASH.parse().unwrap(), &pasted.names);
                prop_assert!(link.split('/').all(|segment| !matches!(segment, "" | "." | "..")), "{}", link);
                prop_assert!(link.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%/".contains(&byte)));
            }
        }
    }
}
