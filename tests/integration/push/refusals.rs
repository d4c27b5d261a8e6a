//! What real clients are told when a push is refused: the line of the response, and nothing is stored.

use std::thread;

use super::source::{File, Source};
use super::{Cache, put};
use crate::nix::release::Release;
use crate::support::keys;
use crate::support::narinfo::value;
use crate::support::store_item::hash_part;

/// Returns the sources of all clients but Nix 2.3, which prints no bodies.
fn sources(size: usize) -> impl Iterator<Item = Source> {
    [Release::Nix2_8, Release::Nix2_26, Release::Nix2_34]
        .into_iter()
        .zip('3'..)
        .map(move |(release, digit)| Source::new(release, digit, size))
}

/// Pushes the leaf of each client, which is refused with this status and line.
fn is_refused(cache: &Cache, size: usize, (status, line): (u16, &str)) {
    thread::scope(|scope| {
        for source in sources(size) {
            scope.spawn(move || {
                let to = format!("{}?compression=none", cache.harmonia.url());
                let refused = source.push(&to, &[&source.leaf]).failure();
                let (release, status) = (source.release(), status.to_string());
                assert!(refused.contains(&status) && refused.contains(line), "{release}: {refused}");
                assert!(!cache.is_valid(&source.leaf), "{release}");
            });
        }
    });
    assert_eq!(cache.spooled(), 0);
}

#[test]
fn a_nar_that_is_too_large_is_refused_with_the_limit() {
    let cache = Cache::start_with(Release::Nix2_34, "push.max_nar_size = \"100 KiB\"");
    is_refused(
        &cache,
        200_000,
        (413, "larger than push.max_nar_size of this cache (100.0 KiB): raise the limit there"),
    );
    let cache = Cache::start_with(Release::Nix2_34, "push.max_spool_size = \"100 KiB\"");
    is_refused(
        &cache,
        200_000,
        (413, "larger than push.max_spool_size of this cache (100.0 KiB): raise the limit there"),
    );
}

#[test]
fn an_untrusted_signature_is_refused_by_harmonia_before_nix_daemon_sees_it() {
    let keys = format!("push.trusted_public_keys = [\"{}\"]", keys::THIRD.public);
    let cache = Cache::start_with(Release::Nix2_34, &keys);
    let line =
        "is not signed by a key in push.trusted_public_keys of this cache: sign it (nix store sign) and push again";
    let source = Source::new(Release::Nix2_34, '3', 10);
    let refused = source.push(cache.harmonia.url(), &[&source.leaf]).failure();
    assert!(refused.contains("403") && refused.contains(line), "{refused}");
    // A content address is as good as a signature.
    let _ = source.push(cache.harmonia.url(), &[&source.addressed]).stdout();
    assert!(cache.is_valid(&source.addressed) && !cache.is_valid(&source.leaf));
}

#[test]
fn a_client_is_told_when_nix_daemon_is_down() {
    let mut cache = Cache::start(Release::Nix2_34);
    cache.daemon.stop();
    thread::scope(|scope| {
        for source in sources(1000) {
            let url = cache.harmonia.url();
            scope.spawn(move || {
                // Whether it is there cannot be said, so that nothing is uploaded.
                let refused = source.push(url, &[&source.leaf]).failure();
                assert!(refused.contains("502") || refused.contains("503"), "{}: {refused}", source.release());
            });
        }
    });
    cache.daemon.restart(Release::Nix2_34);
    assert_eq!(cache.spooled(), 0);
    for source in sources(1000) {
        let _ = source.push(cache.harmonia.url(), &[&source.leaf]).stdout();
        assert!(cache.is_valid(&source.leaf));
    }
}

/// A narinfo whose author has a trusted key, and which is wrong all the same.
#[test]
fn a_narinfo_that_is_signed_and_wrong_is_refused_and_nothing_is_stored() {
    for release in Release::ALL {
        let cache = Cache::start(release);
        let source = Source::new(Release::Nix2_34, '3', 100_000);
        let [nar, narinfo] = source.files(&source.leaf);
        let [other_nar, other_narinfo] = source.files(&source.unsigned);
        let text = String::from_utf8(narinfo.content.clone()).unwrap();
        let field = |name: &str| format!("{name}: {}\n", value(&text, name));
        let with = |from: &str, to: &str| {
            assert!(text.contains(from), "{from} is not in {text}");
            text.replace(from, to)
        };
        let size = |change: i64| {
            let size: i64 = value(&text, "NarSize").parse().unwrap();
            signed(&with(&field("NarSize"), &format!("NarSize: {}\n", size + change)))
        };
        let zero = "sha256:0000000000000000000000000000000000000000000000000000";
        let missing = format!("References: {}-missing\n", "0".repeat(32));
        for (narinfo, status, line) in [
            (signed(&with(&field("NarHash"), &format!("NarHash: {zero}\n"))), 422, "but NarHash is"),
            (size(-8), 422, "more than the"),
            (size(8), 422, "fewer than the"),
            (signed(&with("References: \n", &missing)), 409, "push that path first"),
            (with(&field("FileHash"), &format!("FileHash: {zero}\n")), 400, "FileHash"),
            (with(&field("FileSize"), "FileSize: 1\n"), 422, "FileSize is 1"),
            (with("Sig: ", "Other: "), 403, "sign it (nix store sign)"),
            (with("Compression: none", "Compression: xz"), 400, "extension of its compression"),
            (with(&field("URL"), "URL: nar/../nar.nar\n"), 400, "push with nix copy"),
            (with(&field("URL"), &format!("URL: {}\n", other_nar.target)), 400, "FileHash"),
            (with(&field("StorePath"), "StorePath: /nix/store/../etc\n"), 400, "StorePath"),
            (String::from_utf8(other_narinfo.content.clone()).unwrap(), 400, "narinfo of another path"),
        ] {
            assert_eq!(put(cache.harmonia.http(), &nar).status, 200);
            let file = File { target: narinfo_target(&source.leaf), content: narinfo.into_bytes() };
            let refused = put(cache.harmonia.http(), &file);
            let said = refused.text();
            assert!(refused.status == status && said.contains(line), "{release}: {line}: {} {said}", refused.status);
            assert!(said.lines().count() == 1, "{said}");
        }
        assert!(!cache.is_valid(&source.leaf));
        // Nothing of it stands in the way of the right one, over which no other is pushed.
        assert_eq!(put(cache.harmonia.http(), &nar).status, 200);
        assert_eq!(put(cache.harmonia.http(), &narinfo).status, 200);
        assert!(cache.is_valid(&source.leaf));
        let other = signed(&with(&field("NarHash"), &format!("NarHash: {zero}\n")));
        let file = File { target: narinfo_target(&source.leaf), content: other.into_bytes() };
        let refused = put(cache.harmonia.http(), &file);
        assert!(refused.status == 409 && refused.text().contains("never replaced"), "{release}: {}", refused.text());
        let _ = cache.daemon.run(&["nix-store", "--verify-path", &source.leaf]).stdout();
        // A narinfo that is malformed names no file: the one before it stays for another.
        assert!(cache.spooled() <= 1);
    }
}

/// Returns a narinfo with a signature of what it says, by the key that nix-daemon trusts.
fn signed(narinfo: &str) -> String {
    let references: Vec<_> =
        value(narinfo, "References").split_whitespace().map(|it| format!("/nix/store/{it}")).collect();
    let [path, hash, size] = ["StorePath", "NarHash", "NarSize"].map(|name| value(narinfo, name));
    let signature = keys::FOREIGN.sign(format!("1;{path};{hash};{size};{}", references.join(",")).as_bytes());
    narinfo.replace(&format!("Sig: {}", value(narinfo, "Sig")), &format!("Sig: {signature}"))
}

fn narinfo_target(path: &str) -> String {
    format!("{}.narinfo", hash_part(path))
}
