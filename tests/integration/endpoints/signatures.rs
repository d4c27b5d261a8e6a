//! Signatures and content addresses in narinfos, and derivers.

use std::fmt::Write as _;
use std::fs;

use crate::nix::content::{self, Content};
use crate::nix::daemon::Daemon;
use crate::nix::prefix::Prefix;
use crate::nix::release::Release;
use crate::nix::shared_server;
use crate::support::keys::{self, Key};
use crate::support::narinfo::{value, values};
use crate::support::scripted_daemon::ScriptedDaemon;
use crate::support::server::Harmonia;
use crate::support::store_item::{StoreItem, hash_part};
use crate::support::wire::Wire;

/// Returns whether the narinfo has a valid signature by this key, computed from the definition of the fingerprint.
fn verifies(key: &Key, signature: &str, narinfo: &str) -> bool {
    let references: Vec<_> = value(narinfo, "References")
        .split(' ')
        .filter(|name| !name.is_empty())
        .map(|name| format!("/nix/store/{name}"))
        .collect();
    let fingerprint = format!(
        "1;{};{};{};{}",
        value(narinfo, "StorePath"),
        value(narinfo, "NarHash"),
        value(narinfo, "NarSize"),
        references.join(",")
    );
    key.verifies(signature, fingerprint.as_bytes())
}

/// Matches `^[^:]+:[A-Za-z0-9+/]{86}==$`.
fn is_well_formed(signature: &str) -> bool {
    let Some((name, encoded)) = signature.split_once(':') else { return false };
    let digits = encoded.strip_suffix("==").unwrap_or_default();
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || b"+/".contains(&byte);
    !name.is_empty() && digits.len() == 86 && digits.bytes().all(is_digit)
}

/// Starts a server that signs, with a daemon that has this path.
fn signing(item: &StoreItem) -> (ScriptedDaemon, Harmonia) {
    let daemon = ScriptedDaemon::start(item.script());
    let config = format!("{}sign_key_paths = [\"{}\"]\n", daemon.config(), keys::OURS.secret.display());
    let harmonia = Harmonia::start(&config);
    (daemon, harmonia)
}

fn narinfo_of(item: &StoreItem) -> String {
    let (_daemon, harmonia) = signing(item);
    harmonia.http().get(&item.narinfo_url()).text().to_owned()
}

fn made_up_signature(name: &str, byte: u8) -> String {
    format!("{name}:{}", data_encoding::BASE64.encode(&[byte; 64]))
}

#[test]
fn malformed_signatures_are_dropped() {
    let good = made_up_signature("cache.example.org-1", 7);
    let encoded = good.split_once(':').unwrap().1;
    let mut item = StoreItem::file(b"signed");
    item.signatures = vec![
        "corrupt".to_owned(),
        String::new(),
        format!(":{encoded}"),
        "name:".to_owned(),
        format!("short:{}", &encoded[4..]),
        format!("long:{}", data_encoding::BASE64.encode(&[1; 65])),
        format!("unpadded:{}", encoded.trim_end_matches('=')),
        format!("line\nSig: {good}"),
        good.clone(),
    ];
    let text = narinfo_of(&item);
    let signatures = values(&text, "Sig");
    assert!(signatures.iter().all(|signature| is_well_formed(signature)), "{text}");
    let daemons: Vec<_> = signatures.iter().filter(|signature| !signature.starts_with(keys::OURS.name)).collect();
    assert_eq!(daemons, [&&*good], "{text}");
}

#[test]
fn our_signature_verifies_for_none_one_and_300_references_and_odd_names() {
    for name in ["regular", "self-reference", "many-references", "odd-name"] {
        let text = shared_server::narinfo(name);
        let ours = values(&text, "Sig");
        assert!(ours.iter().any(|signature| verifies(&keys::OURS, signature, &text)), "{name}:\n{text}");
        let altered = text.replacen("\nNarSize: ", "\nNarSize: 1", 1);
        assert!(!ours.iter().any(|signature| verifies(&keys::OURS, signature, &altered)), "{name}");
    }
}

#[test]
fn the_daemons_signatures_are_served_and_each_key_signs_once() {
    let text = shared_server::narinfo("foreign-signature");
    let signatures = values(&text, "Sig");
    assert_eq!(signatures.len(), 2, "{text}");
    for key in [&*keys::OURS, &*keys::FOREIGN] {
        assert!(signatures.iter().any(|signature| verifies(key, signature, &text)), "{text}");
    }

    let mut item = StoreItem::file(b"signed before");
    let others = made_up_signature("other-1", 1);
    item.signatures = vec![others.clone(), made_up_signature(keys::OURS.name, 2), made_up_signature("other-1", 3)];
    let text = narinfo_of(&item);
    let signatures = values(&text, "Sig");
    // Both of the other key: who can tell which is the genuine one?
    assert_eq!(signatures.len(), 3, "{text}");
    assert!(verifies(&keys::OURS, signatures[0], &text), "{text}");
    assert_eq!(signatures[1..], [&others, &made_up_signature("other-1", 3)], "{text}");
}

#[test]
fn a_forged_signature_does_not_replace_the_genuine_one() {
    // Daemons tell of them in the order of their text.
    let mut item = StoreItem::file(b"genuine");
    let genuine = keys::FOREIGN.sign(item.fingerprint().as_bytes());
    item.signatures = (0..100).map(|byte| made_up_signature(keys::FOREIGN.name, byte)).collect();
    item.signatures.push(genuine.clone());
    let mut known = item.clone();
    known.signatures = (0..100_u32).map(|number| made_up_signature(&format!("a-{number}"), 0)).collect();
    known.signatures.push(genuine.clone());
    for item in [&mut item, &mut known] {
        let daemon = ScriptedDaemon::start(item.script());
        let config = format!(
            "{}sign_key_paths = [\"{}\"]\nsign = \"trusted\"\ntrusted_public_keys = [\"{}\"]\n",
            daemon.config(),
            keys::OURS.secret.display(),
            keys::FOREIGN.public
        );
        let harmonia = Harmonia::start(&config);
        let narinfo = harmonia.http().get(&item.narinfo_url());
        let signatures = values(narinfo.text(), "Sig");
        assert!(signatures.contains(&&*genuine), "{}", narinfo.text());
        assert!(signatures.iter().any(|it| verifies(&keys::OURS, it, narinfo.text())), "{}", narinfo.text());
    }
}

/// Any user of a host can do this with Nix 2.26 and later.
#[test]
fn a_flood_of_signatures_in_a_real_store_leaves_the_genuine_one() {
    for release in [Release::Nix2_26, Release::Nix2_34] {
        let prefix = Prefix::new(release, &[]);
        fs::write(prefix.on_host("/nix/tmp/file"), "flooded").unwrap();
        let path = prefix.run(&["nix-store", "--add", "/nix/tmp/file"]).text();
        content::sign(&prefix, &keys::FOREIGN, &path);
        let cache = "file:///nix/tmp/cache?compression=none";
        let _ = prefix.run(&["nix", "copy", "--to", cache, &path]).stdout();
        let place = prefix.on_host(&format!("/nix/tmp/cache/{}.narinfo", hash_part(&path)));
        let mut narinfo = fs::read_to_string(&place).unwrap();
        for number in 0..20_000_u32 {
            writeln!(narinfo, "Sig: {}", made_up_signature(&format!("a-{number}"), 0)).unwrap();
            let forged = Wire::new().number(u64::from(number)).raw(&[0; 56]).done();
            writeln!(narinfo, "Sig: {}:{}", keys::OURS.name, data_encoding::BASE64.encode(&forged)).unwrap();
        }
        fs::write(place, narinfo).unwrap();
        let _ = prefix.run(&["nix", "store", "copy-sigs", "--substituter", cache, &path]).stdout();
        let daemon = Daemon::on(prefix, Content::default());
        let harmonia = Harmonia::start(&format!(
            "daemon_socket = \"{}\"\nsign_key_paths = [\"{}\"]\nsign = \"trusted\"\ntrusted_public_keys = [\"{}\"]\n",
            daemon.socket().display(),
            keys::OURS.secret.display(),
            keys::FOREIGN.public
        ));
        let narinfo = harmonia.http().get(&format!("/{}.narinfo", hash_part(&path)));
        let text = narinfo.text();
        let signatures = values(text, "Sig");
        for key in [&*keys::OURS, &*keys::FOREIGN] {
            assert!(signatures.iter().any(|it| verifies(key, it, text)), "{release}: {} of {}", key.name, text.len());
        }
        assert_eq!(signatures.len(), 1 + 1 + 64, "{release}");
    }
}

#[test]
fn a_flood_of_signatures_is_bounded_and_holds_nobody_up() {
    let mut item = StoreItem::file(b"flooded");
    item.signatures = (0..40_000_u32).map(|number| made_up_signature(&format!("flood-{number}"), 1)).collect();
    let text = narinfo_of(&item);
    let signatures = values(&text, "Sig");
    assert!(signatures.len() <= 65 && signatures.iter().any(|it| verifies(&keys::OURS, it, &text)), "{text}");
}

#[test]
fn a_content_address_is_served_only_if_the_path_matches_it() {
    for name in ["fixed-recursive", "fixed-flat", "fixed-flat-sha1", "text-with-reference"] {
        let text = shared_server::narinfo(name);
        assert_eq!(values(&text, "CA").len(), 1, "{text}");
    }
    let true_of_another = value(&shared_server::narinfo("fixed-recursive"), "CA").to_owned();
    for address in [&*true_of_another, "fixed:r:sha256:", "text:md5:x", "unheard-of"] {
        let mut item = StoreItem::file(b"addressed");
        item.content_address = address.to_owned();
        let text = narinfo_of(&item);
        assert!(text.starts_with("StorePath: ") && values(&text, "CA").is_empty(), "{address}:\n{text}");
    }
}

#[test]
fn a_deriver_that_is_not_a_derivation_is_omitted() {
    let mut item = StoreItem::file(b"derived");
    item.deriver = item.path.clone();
    let text = narinfo_of(&item);
    assert!(text.starts_with("StorePath: ") && values(&text, "Deriver").is_empty(), "{text}");
}
