//! Typed access to a value of the configuration file, with errors for wrong types, ranges and formats.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::DeValue;

use super::byte_size::ByteSize;
use super::daemon::DaemonCommand;

/// Error of a value that its key does not accept.
pub(super) struct ValueError {
    /// Byte offset of the value in the file.
    pub(super) at: usize,
    /// Reason, such as what was expected and found.
    pub(super) reason: String,
}

/// Value in the parsed document.
pub(super) struct Value<'a>(pub(super) &'a Spanned<DeValue<'a>>);

impl Value<'_> {
    pub(super) fn mismatch(&self, expected: &str) -> ValueError {
        let found = match self.0.get_ref() {
            DeValue::String(text) => format!("{text:?}"),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(boolean) => boolean.to_string(),
            DeValue::Datetime(time) => time.to_string(),
            DeValue::Array(_) => "an array".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        self.malformed(format_args!("expected {expected}, found {found}"))
    }

    fn malformed(&self, reason: impl fmt::Display) -> ValueError {
        ValueError { at: self.0.span().start, reason: reason.to_string() }
    }

    pub(super) fn integer<T: TryFrom<i64>>(&self, range: RangeInclusive<i64>) -> Result<T, ValueError> {
        self.0
            .get_ref()
            .as_integer()
            .and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok())
            .filter(|number| range.contains(number))
            .and_then(|number| number.try_into().ok())
            .ok_or_else(|| self.mismatch(&format!("an integer from {} to {}", range.start(), range.end())))
    }

    pub(super) fn boolean(&self) -> Result<bool, ValueError> {
        self.0.get_ref().as_bool().ok_or_else(|| self.mismatch("true or false"))
    }

    fn string(&self) -> Result<&str, ValueError> {
        self.0.get_ref().as_str().ok_or_else(|| self.mismatch("a string"))
    }

    /// Returns a string that is not empty.
    pub(super) fn text(&self) -> Result<String, ValueError> {
        match self.string()? {
            "" => Err(self.mismatch("a string that is not empty")),
            text => Ok(text.to_owned()),
        }
    }

    pub(super) fn path(&self) -> Result<PathBuf, ValueError> {
        match self.string()? {
            "" => Err(self.mismatch("a path")),
            path => Ok(path.into()),
        }
    }

    /// Parses a string with `parse`.
    pub(super) fn parsed<'s, T, E: fmt::Display>(
        &'s self,
        parse: impl FnOnce(&'s str) -> Result<T, E>,
    ) -> Result<T, ValueError> {
        parse(self.string()?).map_err(|cause| self.malformed(cause))
    }

    /// Parses a number of bytes or a string with a unit.
    pub(super) fn size(&self) -> Result<ByteSize, ValueError> {
        match self.0.get_ref() {
            DeValue::String(_) => self.parsed(str::parse),
            DeValue::Integer(_) => self
                .integer(0..=i64::MAX)
                .map(ByteSize::new)
                .map_err(|_| self.mismatch("a number of bytes that is not negative")),
            _ => Err(self.mismatch("a size such as \"64 MiB\"")),
        }
    }

    pub(super) fn paths(&self) -> Result<Vec<PathBuf>, ValueError> {
        self.elements("an array of paths")?.map(|element| element.path()).collect()
    }

    /// Parses each string of an array with `parse`.
    pub(super) fn all_parsed<T, E: fmt::Display>(
        &self,
        expected: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, ValueError> {
        self.elements(expected)?.map(|element| element.parsed(&parse)).collect()
    }

    fn elements(&self, expected: &str) -> Result<impl Iterator<Item = Value<'_>>, ValueError> {
        let array = self.0.get_ref().as_array().ok_or_else(|| self.mismatch(expected))?;
        Ok(array.iter().map(Value))
    }

    /// Parses a command: a string, split at white space, or an array of strings.
    pub(super) fn command(&self) -> Result<DaemonCommand, ValueError> {
        if self.0.get_ref().is_str() {
            return self.parsed(str::parse);
        }
        let words = self.elements("a command or an array of strings")?.map(|word| word.string().map(str::to_owned));
        DaemonCommand::from_words(words.collect::<Result<Vec<_>, _>>()?).map_err(|cause| self.malformed(cause))
    }
}
