//! Messages that the pages of `docs/` quote, compared with the program's sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::scratch;
use crate::support::server::Harmonia;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// Returns every string literal of the program's sources, those of several lines joined.
fn sources() -> String {
    let mut all = String::new();
    let mut dirs = vec![root().join("src"), root().join("protocol/src")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                all.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut joined = String::with_capacity(all.len());
    for (n, part) in all.split("\\\n").enumerate() {
        joined.push_str(if n == 0 { part } else { part.trim_start() });
    }
    joined
}

/// Returns the longest run of plain words: the constant part of a message.
fn plain_words(message: &str) -> String {
    let plain = |word: &&str| !word.is_empty() && word.chars().all(|it| it.is_ascii_lowercase() || "'-".contains(it));
    let mut longest = String::new();
    // A punctuation mark at the end of a word ends the run.
    for part in message.split_inclusive([':', ',', ';', '(', ')', '?']) {
        let part = part.trim_end_matches([':', ',', ';', '(', ')', '?']);
        for run in part.split(' ').collect::<Vec<_>>().split(|word| !plain(word)) {
            let run = run.join(" ");
            if run.len() > longest.len() {
                longest = run;
            }
        }
    }
    longest
}

/// Returns the messages that a page quotes: code that reads like a sentence, in blocks and in the text, but no commands,
/// settings or messages of clients.
fn quoted(page: &str) -> BTreeSet<String> {
    let (mut blocks, mut text) = (Vec::new(), String::new());
    let mut in_block = false;
    let mut blank = true;
    for line in page.lines() {
        in_block = line.starts_with("    ") && (blank || in_block);
        blank = line.is_empty();
        if in_block {
            blocks.push(line.to_owned());
        } else {
            text.push_str(line);
            text.push(' ');
        }
    }
    let spans = text.split('`').skip(1).step_by(2).map(str::to_owned);
    let others = |quote: &str| {
        let starts = ["error: ", "warning: ", "binary cache ", "nix config ", "harmonia ", "curl "];
        starts.iter().any(|start| quote.starts_with(start)) || quote.contains(" -") || quote.contains(" = ")
    };
    let message = |quote: &String| !others(quote) && plain_words(quote).split(' ').count() >= 4;
    spans.chain(blocks).map(|it| it.trim().trim_start_matches("help: ").to_owned()).filter(message).collect()
}

#[test]
fn messages_that_the_pages_quote_are_in_the_sources() {
    let sources = sources();
    let mut quotes = 0;
    for name in [
        "explanation/trust.md",
        "guide/install.md",
        "guide/keys.md",
        "guide/migration.md",
        "guide/monitoring.md",
        "guide/operation.md",
        "guide/questions.md",
        "guide/troubleshooting.md",
        "reference/limits.md",
    ] {
        for quote in quoted(&page(name)) {
            quotes += 1;
            let words = plain_words(&quote);
            assert!(sources.contains(&words), "docs/{name}: no message has \"{words}\", of: {quote}");
        }
    }
    assert!(quotes > 30, "{quotes}");
}

#[test]
fn the_warnings_that_the_page_about_migration_quotes_are_printed() {
    let file = scratch::fresh_dir().join("config.toml");
    let config = "nix_db_path = \"/nix/var/nix/db/db.sqlite\"\n[zstd]\nmax_ldm_encoders_per_worker = 2\n";
    fs::write(&file, config).unwrap();
    // Whose daemon ends at once.
    let mut program = Harmonia::program();
    program.arg("--config").arg(&file).arg("--daemon-command").arg("/bin/false").arg("check");
    let ended = program.output().unwrap();
    let log = String::from_utf8(ended.stderr).unwrap();
    let quotes = page("guide/migration.md");
    let quotes: Vec<_> = quotes.lines().filter_map(|line| line.strip_prefix("    config.toml:")).collect();
    assert_eq!(quotes.len(), 2);
    for quote in quotes {
        assert!(log.contains(&format!("/config.toml:{quote}\n")), "{quote}:\n{log}");
    }
}

/// Returns the keys that a reload applies (`apply`), or that need a restart (`require_restart`).
fn keys_of_a_reload(what: &str) -> Vec<String> {
    let source = fs::read_to_string(root().join("src/config/reload.rs")).unwrap();
    let call = format!("report.{what}(");
    let name = |text: &str| {
        let (argument, _) = text.split_once(',').unwrap();
        let literal = argument.starts_with('"').then_some(argument);
        let literal =
            literal.or_else(|| source.split_once(&format!("let {argument} = "))?.1.split_once(';').map(|it| it.0));
        literal.unwrap().trim_matches('"').to_owned()
    };
    source.split(&call).skip(1).map(name).filter(|key| key != "credentials").collect()
}

#[test]
fn the_keys_that_a_reload_takes_over_are_those_that_the_page_lists() {
    let page = page("guide/operation.md");
    let (_, section) = page.split_once("\n## Reload\n").unwrap();
    let (list, _) = section.split_once("\nAll others take a restart.").unwrap();
    let (taken, left) = (keys_of_a_reload("apply"), keys_of_a_reload("require_restart"));
    assert!(taken.len() >= 10 && left.len() >= 10, "{taken:?} {left:?}");
    for key in &taken {
        assert!(
            list.contains(&format!("`{key}`")),
            "docs/guide/operation.md does not say that a reload takes over {key}"
        );
    }
    for key in left.iter().filter(|key| !taken.contains(key)) {
        assert!(!list.contains(&format!("`{key}`")), "docs/guide/operation.md says that a reload takes over {key}");
    }
}
