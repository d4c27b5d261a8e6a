//! Tests of the URL grammar.

use super::*;
use proptest::prelude::*;

const HASH: &str = "lq7lf2dg0c05ibn8r201m1cgdcj5i60a";
const NAR_HASH: &str = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";

fn parse(target: &str) -> Route {
    Route::parse(&target.parse().unwrap())
}

fn nar() -> Route {
    Route::Nar { hash: HASH.parse().unwrap(), nar_hash: Some(NarHash::from_nix32(NAR_HASH).unwrap()) }
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
    let old = Route::Nar { hash: HASH.parse().unwrap(), nar_hash: None };
    assert_eq!(parse(&format!("/nar/{HASH}.nar")), old);
    let url = nar_url(HASH.parse().unwrap(), NAR_HASH).unwrap();
    assert_eq!(parse(&format!("/{}", url.as_str())), nar());
}

#[test]
fn a_compressed_nar_url_names_its_encoding() {
    let (hash, nar_hash): (HashPart, _) = (HASH.parse().unwrap(), NarHash::from_nix32(NAR_HASH).unwrap());
    let tag: EncodingTag = "zstd1.5.7-3".parse().unwrap();
    let url = compressed_nar_url(hash, NAR_HASH, &tag).unwrap();
    assert_eq!(url.as_str(), format!("nar/zstd1.5.7-3/{HASH}-{NAR_HASH}.nar.zst"));
    let route = Route::CompressedNar { hash, nar_hash, tag: Some(tag) };
    assert_eq!(parse(&format!("//{}?x", url.as_str())), route);
    for tag in ["zst", "zstd%2f1", "zstd1/2", "ZSTD1"] {
        assert_eq!(parse(&format!("/nar/{tag}/{HASH}-{NAR_HASH}.nar.zst")), Route::Unknown, "{tag}");
    }
    assert_eq!(parse(&format!("/nar/zstd1/{HASH}-{NAR_HASH}.nar")), Route::Unknown);
    // Mirrors that keep only the last component.
    let (_, last) = url.as_str().rsplit_once('/').unwrap();
    assert_eq!(parse(&format!("/nar/{last}")), Route::CompressedNar { hash, nar_hash, tag: None });
    for name in [HASH.to_owned(), format!("{NAR_HASH}-{HASH}"), format!("{HASH}_{NAR_HASH}")] {
        assert_eq!(parse(&format!("/nar/{name}.nar.zst")), Route::Unknown, "{name}");
    }
    assert_eq!(parse(&format!("/nar/zstd1/{NAR_HASH}.nar.zst?hash={HASH}")), Route::Unknown);
}

#[test]
fn a_narinfo_url_has_the_hash_part() {
    let hash = HASH.parse().unwrap();
    assert_eq!(parse(&format!("/{HASH}.narinfo")), Route::NarInfo { hash, json: false });
    assert_eq!(parse(&format!("/{HASH}.narinfo?json")), Route::NarInfo { hash, json: true });
    assert_eq!(parse(&format!("/{HASH}.narinfo?a=1&json=1")), Route::NarInfo { hash, json: true });
    assert_eq!(parse("/nix-cache-info"), Route::CacheInfo);
    assert_eq!(parse(&format!("/{HASH}.ls")), Route::Listing { hash });
}

#[test]
fn urls_about_the_server_have_one_segment() {
    assert_eq!(parse("/"), Route::LandingPage);
    assert_eq!(parse("//?x"), Route::LandingPage);
    assert_eq!(parse("/%2f"), Route::Unknown);
    assert_eq!(parse("/version"), Route::Version);
    assert_eq!(parse("/health?from=probe"), Route::Health);
    assert_eq!(parse("//ready/"), Route::Ready { path: None });
    assert_eq!(parse("/metrics"), Route::Metrics);
    assert_eq!(parse("/pubkey"), Route::PublicKeys);
    assert_eq!(parse("/Health"), Route::Unknown);
    assert_eq!(parse("/health/ready"), Route::Unknown);
}

#[test]
fn a_realisation_url_has_an_id_with_an_exclamation_mark_in_any_encoding() {
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
fn a_build_trace_url_has_the_derivation_and_the_output() {
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
fn a_log_url_is_understood_whatever_is_left_of_the_name() {
    let log = Route::BuildLog { hash: HASH.parse().unwrap() };
    for name in ["", "-", "-a+b=c.drv", "-a%2Bb%3Dc.drv", "-?a.drv", "-a?b=c.drv", "-a.drv!out", "-a.drv%21out", "-out"]
    {
        assert_eq!(parse(&format!("/log/{HASH}{name}")), log, "{name}");
    }
    for name in ["x", "--/x", "-a%2fb.drv", "-a/../b.drv", "-a%20b.drv", "-a%00.drv", "a!b"] {
        assert_eq!(parse(&format!("/log/{HASH}{name}")), Route::Unknown, "{name}");
    }
}

#[test]
fn a_debug_info_url_may_have_a_suffix() {
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
fn a_serve_path_has_names_as_bytes_and_maybe_a_slash() {
    let place = |root: &ServeRoot, names: &[&[u8]], has_slash| {
        let names = names.iter().map(|name| Name::new(name).unwrap()).collect();
        Route::Serve(ServePath { root: root.clone(), names, has_slash })
    };
    for root in [ServeRoot::Path(HASH.parse().unwrap()), ServeRoot::Nar(NarHash::from_nix32(NAR_HASH).unwrap())] {
        for (target, route) in [
            ("", place(&root, &[], false)),
            ("/", place(&root, &[], true)),
            ("/bin//sh?x", place(&root, &[b"bin", b"sh"], false)),
            ("/%e9%5c/a%25+b/", place(&root, &[b"\xe9\\", b"a%+b"], true)),
        ] {
            assert_eq!(parse(&format!("//serve//{root}{target}")), route, "{target}");
        }
    }
    for target in
        ["/..", "/%2e%2e/x", "/a/./b", "/a%2fb", "/%00", "x", &format!("/{}", "x".repeat(256)), &"/x".repeat(2049)]
    {
        assert_eq!(parse(&format!("/serve/{HASH}{target}")), Route::Unknown, "{target}");
    }
    for target in [
        "/serve".to_owned(),
        "/serve/".to_owned(),
        format!("/serve/{NAR_HASH}0/"),
        format!("/serve/{}/", &NAR_HASH[1..]),
        format!("/serve/{}/", "z".repeat(52)),
        format!("/serve/sha256:{NAR_HASH}/"),
        format!("/serve/../{HASH}"),
    ] {
        assert_eq!(parse(&target), Route::Unknown, "{target}");
    }
}

#[test]
fn what_is_malformed_is_unknown() {
    for target in [
        "cache.example.org:443".to_owned(),
        format!("{HASH}.narinfo"),
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

#[test]
fn the_file_of_an_upload_is_named_by_its_hash_alone() {
    for extension in [".nar", ".nar.xz", ".nar.zst", ".nar.bz2"] {
        let name = format!("{NAR_HASH}{extension}");
        let uploaded = Route::UploadedNar { file: UploadName::parse(&name).unwrap() };
        assert_eq!(parse(&format!("/nar/{name}")), uploaded);
        assert_eq!(uploaded.template(), "/nar/{nar}");
    }
    for name in [
        format!("{NAR_HASH}.nar.exe"),
        format!("{NAR_HASH}.nar.xz.xz"),
        NAR_HASH.to_owned(),
        format!("{}.nar.xz", &NAR_HASH[1..]),
        format!("{}.nar.xz", NAR_HASH.to_uppercase()),
        format!("..%2f{NAR_HASH}.nar.xz"),
        format!("%2e%2e/{NAR_HASH}.nar.xz"),
        format!("../nar/{NAR_HASH}.nar.xz"),
        format!("x/{NAR_HASH}.nar.xz"),
        "é".repeat(30),
    ] {
        assert_eq!(parse(&format!("/nar/{name}")), Route::Unknown, "{name}");
    }
}
