//! `/<hash>.narinfo` as text, for every path of a real store.

use harmonia_protocol::StoreDir;
use harmonia_protocol::narinfo::NarInfo;

use crate::nix::content::MANY;
use crate::nix::shared_server;
use crate::support::narinfo::{fields, value, values};
use crate::support::store_item::hash_part;

/// Returns the names, paths and narinfos of all content.
fn all() -> Vec<(&'static str, &'static str, String)> {
    shared_server::content().iter().map(|(name, path)| (name, path, shared_server::narinfo(name))).collect()
}

fn is_nix32(text: &str) -> bool {
    text.bytes().all(|byte| b"0123456789abcdfghijklmnpqrsvwxyz".contains(&byte))
}

#[test]
fn a_narinfo_ends_in_one_line_feed_and_has_no_cr_blank_line_or_bom() {
    for (name, _, text) in all() {
        assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{name}");
        assert!(text.starts_with("StorePath: "), "{name}");
        assert!(!text.contains('\r') && !text.contains("\n\n"), "{name}");
    }
}

#[test]
fn fields_are_in_the_order_of_nix_and_there_are_no_others() {
    let file = ["StorePath", "URL", "Compression", "FileHash", "FileSize"];
    let order = [&file[..], &["NarHash", "NarSize", "References", "Deriver", "Sig", "CA"]].concat();
    for (name, _, text) in all() {
        let places: Vec<_> = fields(&text)
            .iter()
            .map(|(field, _)| order.iter().position(|known| known == field).unwrap_or_else(|| panic!("{field}")))
            .collect();
        assert!(places.is_sorted(), "{name}:\n{text}");
        let mut once = places;
        once.retain(|place| order[*place] != "Sig");
        let count = once.len();
        once.dedup();
        assert_eq!(once.len(), count, "a field twice in {name}:\n{text}");
    }
}

#[test]
fn empty_references_have_a_trailing_space() {
    assert!(shared_server::narinfo("regular").contains("\nReferences: \n"));
}

#[test]
fn references_are_sorted_base_names_separated_by_single_spaces() {
    for (name, path, text) in all() {
        let references = value(&text, "References");
        if references.is_empty() {
            continue;
        }
        let references: Vec<_> = references.split(' ').collect();
        assert!(references.is_sorted_by(|a, b| a.as_bytes() < b.as_bytes()), "{name}");
        for reference in &references {
            assert!(is_nix32(&reference[..32]) && &reference[32..33] == "-", "{reference:?} of {name}");
        }
        match name {
            "self-reference" => assert_eq!(references, [path.strip_prefix("/nix/store/").unwrap()]),
            "many-references" => assert_eq!(references.len(), MANY),
            _ => {}
        }
    }
}

#[test]
fn a_deriver_is_the_base_name_of_a_derivation_and_absent_if_unknown() {
    for (name, _, text) in all() {
        match (name, &values(&text, "Deriver")[..]) {
            ("with-deriver", [deriver]) => {
                assert!(deriver.ends_with("-with-deriver.drv") && is_nix32(&deriver[..32]), "{deriver}");
            }
            (name, derivers) => assert!(name != "with-deriver" && derivers.is_empty(), "{name}: {derivers:?}"),
        }
    }
}

#[test]
fn the_nar_hash_is_sha256_in_nix32() {
    for (name, _, text) in all() {
        let hash = value(&text, "NarHash").strip_prefix("sha256:").unwrap();
        assert!(hash.len() == 52 && is_nix32(hash), "{name}: {hash}");
    }
}

#[test]
fn the_nar_size_is_the_number_of_bytes_sent() {
    for (name, _, text) in all() {
        let size: usize = value(&text, "NarSize").parse().unwrap();
        let nar = shared_server::http().get(&format!("/{}", value(&text, "URL")));
        assert!(size > 0 && nar.body.len() == size, "{name}: {} of {size} bytes", nar.body.len());
    }
}

#[test]
fn file_hash_and_size_of_a_plain_nar_are_those_of_the_nar() {
    for (name, _, text) in all() {
        assert_eq!(value(&text, "FileHash"), value(&text, "NarHash"), "{name}");
        assert_eq!(value(&text, "FileSize"), value(&text, "NarSize"), "{name}");
    }
}

#[test]
fn the_compression_is_always_present() {
    for (name, _, text) in all() {
        assert_eq!(value(&text, "Compression"), "none", "{name}");
    }
}

#[test]
fn the_url_is_relative_without_query_or_colon_and_ends_in_nar() {
    for (name, _, text) in all() {
        let url = value(&text, "URL");
        assert!(!url.starts_with('/') && !url.contains(['?', ':', '#', '%', ' ']), "{name}: {url}");
        assert!(url.strip_suffix(".nar").is_some_and(|stem| !stem.contains('.')), "{name}: {url}");
    }
}

#[test]
fn the_url_precedes_any_long_line() {
    let text = shared_server::narinfo("many-references");
    let (before, after) = text.split_once("\nURL: ").unwrap();
    assert!(before.lines().all(|line| line.len() <= 1024));
    assert!(after.lines().any(|line| line.len() > 1024), "the content has no long line");
}

#[test]
fn the_store_path_has_the_requested_hash_part() {
    for (name, path, text) in all() {
        assert_eq!(value(&text, "StorePath"), path, "{name}");
        assert!(shared_server::narinfo_url(name).contains(hash_part(value(&text, "StorePath"))));
    }
}

#[test]
fn two_requests_get_the_same_bytes() {
    for (name, _, text) in all() {
        assert_eq!(shared_server::narinfo(name), text, "{name}");
    }
}

/// Our parser refuses what go-nix and nix-compat refuse, except for unknown fields, which have a test of their own.
#[test]
fn the_strictest_parsers_accept_every_narinfo() {
    let store = StoreDir::default();
    for (name, path, text) in all() {
        assert!(!text.lines().any(|line| line.matches(": ").count() > 1), "{name}: a separator within a value");
        let parsed = NarInfo::parse(&text, &store).unwrap_or_else(|error| panic!("{name}: {error}\n{text}"));
        assert_eq!(store.full_path(&parsed.path), path);
        assert_eq!(parsed.render(&store), text, "{name}");
    }
}
