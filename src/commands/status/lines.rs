//! Text for a terminal: headings, entries and tables.

use crate::admin::report::Listed;
use crate::process::log::escape_controls;

/// Lines in which control characters are escaped.
#[derive(Default)]
pub(super) struct Text(pub(super) String);

impl Text {
    pub(super) fn line(&mut self, line: &str) {
        // A message may have a help line.
        for line in escape_controls(line).lines() {
            self.0.push_str(line.trim_end());
            self.0.push('\n');
        }
    }

    pub(super) fn heading(&mut self, line: &str) {
        self.0.push('\n');
        self.line(line);
    }

    pub(super) fn indented(&mut self, line: &str) {
        self.line(&format!("  {line}"));
    }

    pub(super) fn entry(&mut self, name: &str, value: &str) {
        self.indented(&format!("{name:<11} {value}"));
    }

    /// Adds a table. Columns whose names begin with `>` are right-aligned. Adds how many more items the list has.
    pub(super) fn table<const N: usize, T>(
        &mut self,
        names: [&str; N],
        rows: impl Iterator<Item = [String; N]>,
        of: &Listed<T>,
    ) {
        let mut lines = vec![names.map(|name| name.trim_start_matches('>').to_owned())];
        lines.extend(rows.map(|row| row.map(|cell| escape_controls(&cell).into_owned())));
        if lines.len() == 1 {
            return;
        }
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
        let widths: Vec<_> = (0..N).map(width).collect();
        for line in &lines {
            let cells = line.iter().zip(&widths).zip(names).map(|((cell, width), name)| {
                if name.starts_with('>') { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            self.indented(&cells.collect::<Vec<_>>().join("  "));
        }
        self.rest(of);
    }

    pub(super) fn rest<T>(&mut self, of: &Listed<T>) {
        if of.total > of.first.len() {
            self.indented(&format!("and {} more (--top)", of.total - of.first.len()));
        }
    }
}
