//! `config.example.toml` against the keys and their defaults.

use std::collections::BTreeSet;
use std::path::Path;

use super::loaded;
use crate::config::daemon::DaemonSource;
use crate::config::error::ConfigError;
use crate::config::file::{self, ConfigFile};

const EXAMPLE: &str = include_str!("../../../config.example.toml");

/// The name of a table in its header, which is commented out if the table has an effect without keys.
fn header(line: &str) -> Option<&str> {
    line.strip_prefix('#').unwrap_or(line).strip_prefix('[').map(|header| header.trim_matches(['[', ']']))
}

/// Whether a key is in a table of which there may be many.
fn may_be_many(key: &str) -> bool {
    ["access.jwt.", "access.grant.", "views.NAME."].iter().any(|table| key.starts_with(table))
}

/// The example without the comment marks of the tables that there may be many of, and of what they need.
fn many_tables() -> String {
    let (mut text, mut is_in_table) = (String::new(), false);
    for line in EXAMPLE.lines() {
        if let Some(header) = header(line) {
            is_in_table = may_be_many(&format!("{header}."));
        }
        let is_used = is_in_table && !line.starts_with("# ") && !line.contains("jwks_url");
        text += if is_used { line.strip_prefix('#').unwrap_or(line) } else { "" };
        text += "\n";
    }
    text.replace("NAME", "team-a")
}

/// The example's lines that set a key: its dotted name, the setting, and whether it is a default.
fn example_settings() -> Vec<(String, String, bool)> {
    let mut table = String::new();
    let mut settings = Vec::new();
    for line in EXAMPLE.lines() {
        if let Some(header) = header(line) {
            table = format!("{header}.");
        } else if let Some(setting) = line.strip_prefix('#').filter(|rest| !rest.is_empty() && !rest.starts_with(' ')) {
            let (key, _) = setting.split_once(" = ").unwrap();
            settings.push((format!("{table}{key}"), format!("{table}{setting}"), !setting.ends_with("# example")));
        }
    }
    settings
}

#[test]
fn the_example_lists_exactly_the_keys_there_are() {
    let settings = example_settings();
    let listed: BTreeSet<_> = settings.iter().map(|(key, ..)| key.as_str()).collect();
    assert_eq!(listed, file::names().collect());
    assert_eq!(listed.len(), settings.len(), "a key is listed twice");
}

#[test]
fn the_examples_values_are_the_defaults_unless_they_are_marked() {
    let by_default = |text: &str| {
        // Where compression is on by default.
        let dir = if text.starts_with("nar_cache.dir") { "" } else { "nar_cache.dir = \"/nars\"" };
        let (mut config, warnings) = loaded(&format!("{text}\n{dir}"));
        config.daemon.chosen_by = DaemonSource::Default;
        (config, warnings)
    };
    // Tables that have an effect without keys.
    let tables = ["access", "audit", "push"];
    for (key, setting, is_default) in example_settings().into_iter().filter(|(key, ..)| !may_be_many(key)) {
        let table = tables.into_iter().find(|table| key.split('.').next() == Some(*table));
        let needed = match key.split_once('.') {
            Some(("push", _)) => "state_dir = \"/s\"\n",
            Some((_, "client_ca_path")) => "tls_cert_path = \"c\"\ntls_key_path = \"k\"\n",
            Some(("bucket", name)) if name != "url" => "bucket.url = \"s3://any\"\n",
            _ => "",
        };
        let without = table.map(|table| format!("{table} = {{}}")).unwrap_or_default();
        let none = by_default(&format!("{needed}{without}"));
        let setting = format!("{needed}{setting}");
        let with = match key.as_str() {
            "tls_cert_path" => by_default(&format!("{setting}\ntls_key_path = \"k\"")),
            "tls_key_path" => by_default(&format!("{setting}\ntls_cert_path = \"c\"")),
            _ => by_default(&setting),
        };
        let loaded = |(config, mut warnings): (_, Vec<String>)| {
            // The line of a table differs.
            warnings
                .retain(|warning| table.is_none() || !warning.contains(": nobody") && !warning.contains(" nobody "));
            (config, warnings)
        };
        assert_eq!(loaded(with) == loaded(none), is_default, "{setting}");
    }
}

#[test]
fn the_example_as_it_stands_changes_nothing() {
    assert_eq!(loaded(EXAMPLE), loaded(""));
}

#[test]
fn every_part_of_a_file_loads_or_is_an_error_on_one_of_its_lines() {
    let settings = example_settings().into_iter().filter(|(key, ..)| !may_be_many(key));
    let settings: Vec<_> = settings.map(|(_, setting, _)| setting).collect();
    let text = format!("{}\n{}", settings.join("\n"), many_tables().split("\n\n").collect::<Vec<_>>().join("\n"));
    for (end, _) in text.char_indices() {
        match ConfigFile::parse(Path::new("config.toml"), &text[..end]) {
            Ok(_) => {}
            Err(errors) => errors.iter().for_each(|error| {
                let ConfigError::File { line, .. } = error else { panic!("{error}") };
                assert!((1..=text[..end].split('\n').count()).contains(line));
            }),
        }
    }
}

#[test]
fn the_reference_lists_the_keys_and_defaults_of_the_example() {
    let page = include_str!("../../../docs/reference/configuration.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let listed: BTreeSet<_> = rows.filter(|(key, _)| file::names().any(|name| name == *key)).collect();
    let example: Vec<_> = example_settings();
    assert_eq!(listed.len(), example.len());
    for (key, setting, is_default) in example {
        let value = setting.split_once(" = ").unwrap().1;
        let default = if is_default { format!("`{value}`") } else { "none".to_owned() };
        let row = listed.iter().find(|(listed, _)| *listed == key);
        assert!(row.is_some_and(|(_, rest)| rest.starts_with(&format!("{default} | "))), "{key}: {default}");
    }
}

#[test]
fn the_tables_of_the_example_load_without_their_comment_marks() {
    let (config, _) = loaded(&many_tables());
    let access = config.access.unwrap();
    assert_eq!((access.jwt.len(), access.grants.len(), config.views.len()), (1, 1, 1));
    assert_eq!(access.jwt[0].name, "sub");
}
