//! harmonia.toml(5), made from `config.example.toml`.
//!
//! A paragraph of that file is comments followed by settings, each after a bare `#`; or comments alone, which introduce the
//! next paragraphs; or comments and the header of a table, maybe after a bare `#`. Anything else is an error.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

const EXAMPLE: &str = include_str!("../../../config.example.toml");
/// Marks the setting of a key that has no default.
const MARK: &str = " # example";

/// Writes the page.
pub(crate) fn write(directory: &Path) -> io::Result<()> {
    let mut page = Roff::new();
    page.control("TH", ["harmonia.toml", "5", "", concat!("harmonia ", env!("CARGO_PKG_VERSION")), ""]);
    page.control("SH", ["NAME"]).text([roman("harmonia.toml - configuration file of harmonia(1)")]);
    page.control("SH", ["DESCRIPTION"]);
    let mut paragraphs = EXAMPLE.split("\n\n").map(str::trim_end).filter(|paragraph| !paragraph.is_empty());
    let parts = paragraphs.next().unwrap_or_default().split("\n#\n");
    for part in parts.filter(|part| !part.contains(MARK.trim_start())) {
        page.control("PP", []).text(prose(part.lines())?);
    }
    page.control("SH", ["KEYS"]);
    for paragraph in paragraphs {
        let (comments, rest): (Vec<_>, Vec<_>) = paragraph.lines().partition(|line| line.starts_with("# "));
        // A table that has an effect by being there is commented out, too.
        match rest.first().and_then(|line| line.trim_start_matches('#').strip_prefix('[')?.strip_suffix(']')) {
            Some(table) => {
                page.control("SH", [format!("KEYS OF THE TABLE [{table}]").as_str()]).text(prose(comments)?);
            }
            None if rest.is_empty() => {
                page.control("PP", []).text(prose(comments)?);
            }
            None => {
                for (place, line) in rest.into_iter().enumerate() {
                    page.control(if place == 0 { "TP" } else { "TQ" }, []).text(setting(line)?);
                }
                page.text(prose(comments)?);
            }
        }
    }
    page.control("SH", ["SEE ALSO"]).text([roman("harmonia(1), harmonia-check(1)")]);
    let mut file = File::create(directory.join("harmonia.toml.5"))?;
    page.to_writer(&mut file)?;
    file.flush()
}

/// Formats a key with its default or with an example of a value.
fn setting(line: &str) -> io::Result<Vec<Inline>> {
    let (key, value) = line.strip_prefix('#').and_then(|it| it.split_once(" = ")).ok_or_else(|| unexpected(line))?;
    Ok(match value.strip_suffix(MARK) {
        Some(value) => vec![bold(key), roman(" = "), italic(value), roman(" (an example: there is no default)")],
        None => vec![bold(key), roman(" = "), roman(value)],
    })
}

/// Joins comments into one paragraph, with bold type for what is in backquotes.
fn prose<'l>(lines: impl IntoIterator<Item = &'l str>) -> io::Result<Vec<Inline>> {
    let words: Vec<_> = lines
        .into_iter()
        .map(|line| line.strip_prefix("# ").ok_or_else(|| unexpected(line)))
        .collect::<io::Result<_>>()?;
    let text = words.join(" ");
    let pieces = text.split('`').enumerate();
    Ok(pieces.map(|(place, piece)| if place % 2 == 1 { bold(piece) } else { roman(piece) }).collect())
}

fn unexpected(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("config.example.toml: neither comment nor setting: {line:?}"))
}
