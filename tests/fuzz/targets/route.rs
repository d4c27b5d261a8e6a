//! Targets of requests: a route is rendered to a target of the same route, in plain letters and percent-encoded, and no
//! name in it leads anywhere else.

use std::fmt::Write as _;

use harmonia::http::request::pasted_path::PastedPath;
use harmonia::http::request::route::{Route, ServePath, compressed_nar_url, nar_url};
use harmonia_protocol::derivation_output::DerivationOutput;
use hyper::Uri;

pub(super) fn property(input: &[u8]) {
    let Ok(uri) = Uri::try_from(input) else { return };
    let route = Route::parse(&uri);
    let Some(target) = rendered(&route) else { return };
    if !matches!(route, Route::PastedPath(_)) {
        is_of(&target, &route);
        is_of(&target.replace('/', "//"), &route);
    }
    if let Route::Serve(ServePath { names, .. }) | Route::PastedPath(PastedPath { names, .. }) = &route {
        for name in names {
            let name = name.as_bytes();
            assert!(!name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/') && !name.contains(&0));
        }
    } else if !target.contains('%') && !has_plain_words(&route) {
        let (path, query) = target.split_once('?').map_or((&*target, None), |(path, query)| (path, Some(query)));
        let segments: Vec<_> = path.split('/').map(|segment| encoded(segment.as_bytes())).collect();
        let query = query.map(|query| format!("?{}", encoded(query.as_bytes()))).unwrap_or_default();
        is_of(&format!("{}{query}", segments.join("/")), &route);
    }
}

/// Returns whether the fixed words of the route must be unescaped in a target.
fn has_plain_words(route: &Route) -> bool {
    matches!(route, Route::PathPage { .. } | Route::Lookup { .. } | Route::Browse { .. })
}

fn is_of(target: &str, route: &Route) {
    let uri: Uri = target.parse().unwrap_or_else(|error| panic!("{target:?} is no target: {error}"));
    assert_eq!(Route::parse(&uri), *route, "{target}");
}

fn rendered(route: &Route) -> Option<String> {
    Some(match route {
        Route::LandingPage => "/".to_owned(),
        Route::CacheInfo => "/nix-cache-info".to_owned(),
        Route::Version => "/version".to_owned(),
        Route::Health => "/health".to_owned(),
        Route::Ready { path: None } => "/ready".to_owned(),
        Route::Ready { path: Some(path) } => format!("/ready?path={path}"),
        Route::Metrics => "/metrics".to_owned(),
        Route::PublicKeys => "/pubkey".to_owned(),
        Route::NarInfo { hash, json } => format!("/{hash}.narinfo{}", if *json { "?json" } else { "" }),
        Route::Listing { hash } => format!("/{hash}.ls"),
        Route::Nar { hash, nar_hash: Some(nar_hash) } => {
            format!("/{}", nar_url(*hash, &nar_hash.to_nix32()).ok()?.as_str())
        }
        Route::Nar { hash, nar_hash: None } => format!("/nar/{hash}.nar"),
        Route::CompressedNar { hash, nar_hash, tag: None } => format!("/nar/{hash}-{}.nar.zst", nar_hash.to_nix32()),
        Route::CompressedNar { hash, nar_hash, tag: Some(tag) } => {
            format!("/{}", compressed_nar_url(*hash, &nar_hash.to_nix32(), tag).ok()?.as_str())
        }
        Route::UploadedNar { file } => format!("/nar/{file}"),
        // A question mark in a name would begin a query.
        Route::Realisation(DerivationOutput::Hashed(id)) => {
            format!("/realisations/{}.doi", id.to_string().replace('?', "%3f"))
        }
        Route::Realisation(DerivationOutput::Path(derivation, output)) => {
            let [derivation, output] = [derivation.base_name(), output.as_str()].map(|name| name.replace('?', "%3f"));
            format!("/build-trace-v2/{derivation}/{output}.doi")
        }
        Route::BuildLog { hash } => format!("/log/{hash}"),
        Route::DebugInfo { id } => format!("/debuginfo/{id:?}"),
        Route::Serve(ServePath { root, names, has_slash }) => {
            let names = names.iter().map(|name| format!("/{}", encoded(name.as_bytes())));
            format!("/serve/{root}{}{}", names.collect::<String>(), if *has_slash { "/" } else { "" })
        }
        Route::PathPage { path } => format!("/serve/{}", encoded(path.base_name().as_bytes())),
        // What is before the names is for the handler.
        Route::PastedPath(_) => "/a-store-path".to_owned(),
        Route::Lookup { text: None } => "/lookup".to_owned(),
        Route::Lookup { text: Some(text) } => format!("/lookup?q={}", encoded(text.as_bytes())),
        Route::Browse { filter, from } => format!("/browse?q={}&from={from}", encoded(filter.as_bytes())),
        Route::Unknown => return None,
    })
}

fn encoded(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "%{byte:02x}");
        text
    })
}
