//! `deny.toml` on every machine: its licences, its bans, and no package in two versions. `cargo deny check` asks for more,
//! advisories above all, but takes longer to build than everything else here together; this takes a second.
//!
//! The rules are read from that file and nothing stands here twice. What this cannot read is an error: a setting that it
//! does not know might be a rule.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;
use toml::Table;

const RULES: &str = include_str!("../../../deny.toml");

/// Settings that are checked here, and those that only cargo-deny can check.
const KNOWN: [&str; 6] =
    ["graph.targets", "licenses.allow", "bans.deny", "bans.skip", "bans.multiple-versions", "bans.wildcards"];
const NOT_HERE: [&str; 6] = [
    "graph.all-features",
    "advisories.yanked",
    "advisories.ignore",
    "bans.allow-wildcard-paths",
    // `architecture` sees to it that all packages come from one registry.
    "sources.unknown-registry",
    "sources.unknown-git",
];

fn rules() -> Table {
    RULES.parse().unwrap()
}

fn strings<'r>(rules: &'r Table, table: &str, key: &str) -> Vec<&'r str> {
    rules[table][key].as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect()
}

/// Returns the names in a list of tables, each with its reason.
fn reasoned<'r>(rules: &'r Table, key: &str) -> BTreeSet<&'r str> {
    let tables = rules["bans"][key].as_array().unwrap().iter().map(|value| value.as_table().unwrap());
    tables
        .map(|table| {
            assert!(table["reason"].as_str().is_some_and(|reason| !reason.is_empty()));
            table["name"].as_str().unwrap()
        })
        .collect()
}

/// Returns the packages that are built for one of the targets, tests included.
fn packages(rules: &Table) -> Vec<Value> {
    let mut metadata = Command::new(env!("CARGO"));
    metadata.args(["metadata", "--locked", "--format-version=1", "--all-features"]);
    for target in strings(rules, "graph", "targets") {
        metadata.args(["--filter-platform", target]);
    }
    let output = metadata.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// Returns whether these licences satisfy an SPDX expression. `WITH` only adds permissions, and `/` meant `OR` up to 2019.
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words: Vec<_> = spaced.split_whitespace().rev().collect();
    let verdict = any_of(&mut words, allowed);
    assert!(words.is_empty(), "cannot read {expression}");
    verdict
}

fn any_of(words: &mut Vec<&str>, allowed: &[&str]) -> bool {
    let mut verdict = all_of(words, allowed);
    while next_is(words, "OR") {
        verdict |= all_of(words, allowed);
    }
    verdict
}

fn all_of(words: &mut Vec<&str>, allowed: &[&str]) -> bool {
    let mut verdict = one(words, allowed);
    while next_is(words, "AND") {
        verdict &= one(words, allowed);
    }
    verdict
}

/// Takes the next word, if it is this one.
fn next_is(words: &mut Vec<&str>, word: &str) -> bool {
    let is_next = words.last() == Some(&word);
    if is_next {
        words.pop();
    }
    is_next
}

fn one(words: &mut Vec<&str>, allowed: &[&str]) -> bool {
    match words.pop() {
        Some("(") => {
            let verdict = any_of(words, allowed);
            assert_eq!(words.pop(), Some(")"));
            verdict
        }
        Some(licence) => {
            if next_is(words, "WITH") {
                words.pop().unwrap();
            }
            allowed.contains(&licence)
        }
        None => panic!("an expression that ends early"),
    }
}

#[test]
fn every_rule_is_known() {
    for (table, rules) in rules() {
        for key in rules.as_table().unwrap().keys() {
            let rule = format!("{table}.{key}");
            assert!([KNOWN, NOT_HERE].concat().contains(&&*rule), "{rule}");
        }
    }
    let rules = rules();
    assert_eq!(
        (rules["bans"]["multiple-versions"].as_str(), rules["bans"]["wildcards"].as_str()),
        (Some("deny"), Some("deny"))
    );
}

#[test]
fn licences_are_allowed_and_each_that_is_allowed_is_needed() {
    let rules = rules();
    let allowed = strings(&rules, "licenses", "allow");
    let packages = packages(&rules);
    let licence =
        |package: &Value| package["license"].as_str().unwrap_or_else(|| panic!("none: {}", package["name"])).to_owned();
    let refused = |allowed: &[&str]| packages.iter().any(|package| !is_allowed(&licence(package), allowed));
    for package in &packages {
        assert!(is_allowed(&licence(package), &allowed), "{}: {}", package["name"], licence(package));
    }
    for one in &allowed {
        let others: Vec<_> = allowed.iter().copied().filter(|other| other != one).collect();
        assert!(refused(&others), "nothing needs {one}");
    }
}

#[test]
fn no_package_is_banned_and_none_is_there_twice() {
    let rules = rules();
    let (banned, skipped) = (reasoned(&rules, "deny"), reasoned(&rules, "skip"));
    let mut versions = BTreeMap::<String, BTreeSet<String>>::new();
    for package in packages(&rules) {
        let (name, version) = (package["name"].as_str().unwrap(), package["version"].as_str().unwrap());
        assert!(!banned.contains(name), "{name} is banned");
        versions.entry(name.to_owned()).or_default().insert(version.to_owned());
        let is_ours = package["source"].is_null();
        for dependency in package["dependencies"].as_array().unwrap().iter().filter(|_| is_ours) {
            let is_any = dependency["req"] == "*" && dependency["path"].is_null();
            assert!(!is_any, "{name} takes any version of {}", dependency["name"]);
        }
    }
    let twice: BTreeSet<_> = versions.iter().filter(|(_, all)| all.len() > 1).map(|(name, _)| name.as_str()).collect();
    assert_eq!(twice, skipped, "{versions:?}");
}

#[test]
fn expressions_are_read_as_spdx_has_them() {
    let allowed = ["MIT", "ISC"];
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("GPL-3.0-only OR MIT", true),
        ("GPL-3.0-only/MIT", true),
        ("MIT AND GPL-3.0-only", false),
        ("MIT AND GPL-3.0-only OR ISC", true),
        ("MIT AND (GPL-3.0-only OR ISC)", true),
        ("(MIT OR GPL-3.0-only) AND GPL-3.0-only", false),
        ("MIT WITH LLVM-exception", true),
        ("GPL-3.0-only WITH MIT", false),
    ] {
        assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
    }
}

/// Cargo 1.65 of Debian 12 reads the profiles before the edition, and knows no words for `debug`.
#[test]
fn a_cargo_that_is_too_old_reads_the_manifests_as_far_as_their_edition() {
    for manifest in [
        include_str!("../../../Cargo.toml"),
        include_str!("../../../protocol/Cargo.toml"),
        include_str!("../../../xtask/Cargo.toml"),
        include_str!("../../fuzz/Cargo.toml"),
    ] {
        let manifest: Table = manifest.parse().unwrap();
        let profiles = manifest.get("profile").and_then(toml::Value::as_table);
        for (profile, settings) in profiles.into_iter().flatten() {
            let debug = settings.get("debug");
            assert!(
                debug.is_none_or(|value| !value.is_str()),
                "profile.{profile}.debug is {debug:?}\n  help: a number or a boolean, or .cargo/config.toml"
            );
        }
    }
}
