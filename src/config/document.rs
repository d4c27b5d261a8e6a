//! Entries of a TOML document under the dotted names of their keys.
//!
//! Owns the shapes of tables: `[table]`, `[[table.array]]` and `[table.NAME]`. What is in an array has the number of its element;
//! what is in a table of any name has the number of the table, and `NAME` in its key. Leaves which keys there are to `file`.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Keys whose value is an array of tables.
const ARRAYS: [&str; 2] = ["access.jwt", "access.grant"];
/// Tables in which each key is a name that the file chooses, of another table.
const NAMED: &str = "views";
/// Stands for such a name in a key.
const NAME: &str = "NAME";

/// Key and value in the document.
pub(super) struct Entry<'a> {
    /// Name of the key, with `NAME` in place of a name that the file chose.
    pub(super) name: String,
    /// Name of the key as the file has it.
    pub(super) shown: String,
    /// Number of the element or of the named table that the key is in, from zero; zero for all others.
    pub(super) index: usize,
    /// Byte offset of the key.
    pub(super) at: usize,
    pub(super) value: &'a Spanned<DeValue<'a>>,
}

/// A table that the document has, or an element of an array of tables.
pub(super) struct Table<'a> {
    /// Known name of the table, such as `access`, `access.grant` or `views.NAME`.
    pub(super) name: &'static str,
    /// Number among those of this name, from zero.
    pub(super) index: usize,
    /// Name that the file chose, for `views.NAME`.
    pub(super) chosen: &'a str,
    /// Byte offset of its name or of its contents.
    pub(super) at: usize,
}

/// Contents of a document, in the order of the file.
#[derive(Default)]
pub(super) struct Contents<'a> {
    pub(super) entries: Vec<Entry<'a>>,
    pub(super) tables: Vec<Table<'a>>,
}

impl<'a> Contents<'a> {
    /// Lists the entries of a document, and the tables among `names`, the dotted names of all keys.
    pub(super) fn of(document: &'a DeTable<'a>, names: &[&'static str]) -> Self {
        let mut contents = Self::default();
        contents.flatten(&Place { name: "", shown: "", index: 0 }, document, names);
        contents.entries.sort_by_key(|entry| entry.at);
        contents.tables.sort_by_key(|table| (table.index, table.at));
        contents
    }

    /// Appends the entries of `table` and of known tables in it.
    fn flatten(&mut self, place: &Place<'_>, table: &'a DeTable<'a>, names: &[&'static str]) {
        let mut next = 0;
        for (key, value) in table {
            let (at, written) = (key.span().start, key.get_ref().as_ref());
            let in_named = place.name == NAMED;
            let name = join(place.name, if in_named { NAME } else { written });
            let shown = join(place.shown, written);
            let entry = |index| Entry { name: name.clone(), shown: shown.clone(), index, at, value };
            match (table_of(&name, names), value.get_ref()) {
                (Some(known), DeValue::Array(elements)) if ARRAYS.contains(&known) => {
                    for (index, element) in elements.iter().enumerate() {
                        match element.get_ref() {
                            DeValue::Table(inner) => {
                                let at = element.span().start;
                                self.tables.push(Table { name: known, index, chosen: "", at });
                                self.flatten(&Place { name: known, shown: &shown, index }, inner, names);
                            }
                            _ => self.entries.push(Entry { value: element, at: element.span().start, ..entry(0) }),
                        }
                    }
                }
                (Some(known), DeValue::Table(inner)) if !ARRAYS.contains(&known) => {
                    let index = if in_named { next } else { place.index };
                    next += usize::from(in_named);
                    self.tables.push(Table { name: known, index, chosen: if in_named { written } else { "" }, at });
                    self.flatten(&Place { name: known, shown: &shown, index }, inner, names);
                }
                _ => self.entries.push(entry(place.index)),
            }
        }
    }
}

/// A table while its entries are listed.
struct Place<'a> {
    name: &'a str,
    shown: &'a str,
    index: usize,
}

fn join(table: &str, key: &str) -> String {
    if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") }
}

/// Returns the known table of this name: the part of a key before a dot.
pub(super) fn table_of(name: &str, names: &[&'static str]) -> Option<&'static str> {
    names.iter().find_map(|key| {
        let (table, rest) = key.split_at_checked(name.len())?;
        (table == name && rest.starts_with('.')).then_some(table)
    })
}

/// Returns the kind of table that has to be under this name, for messages.
pub(super) fn kind_of(table: &str) -> &'static str {
    if ARRAYS.contains(&table) { "an array of tables" } else { "a table" }
}

/// Returns the key to suggest for an unknown one: the same name in another table, or the most similar
/// key if at most a third of its letters differ.
pub(super) fn nearest(name: &str, names: &[&'static str]) -> Option<&'static str> {
    fn last(key: &str) -> &str {
        key.rsplit('.').next().unwrap_or(key)
    }
    if let Some(key) = names.iter().find(|key| last(key) == last(name)) {
        return Some(key);
    }
    let (distance, key) = names.iter().map(|key| (strsim::damerau_levenshtein(name, key), *key)).min()?;
    (distance <= key.len() / 3).then_some(key)
}

/// Where the lines of a text end.
pub(super) struct Lines(Vec<usize>);

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect())
    }

    /// Returns the line of a byte offset, counted from one.
    pub(super) fn line(&self, at: usize) -> usize {
        1 + self.0.partition_point(|end| *end < at)
    }
}
