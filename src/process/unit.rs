//! Settings of an installed systemd unit, so that a command sees what the service sees.
//!
//! Runs `systemctl show` and parses its output. Leaves the meaning of the settings to the caller.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Name of the packaged unit.
pub(crate) const SERVICE: &str = "harmonia";
/// Directory in which systemd creates those of `CacheDirectory=`.
const CACHES: &str = "/var/cache";
/// Directory in which systemd creates those of `StateDirectory=`.
const STATES: &str = "/var/lib";

/// Properties of an installed unit, including its drop-ins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit(BTreeMap<String, String>);

impl Unit {
    /// Returns these properties (systemd.exec(5), systemd.service(5)) of a unit, or `None` if there is no systemd or no such unit. A name
    /// without a suffix is that of a service. Blocks until `systemctl` has finished.
    pub(crate) fn installed(name: &str, properties: &[&str]) -> io::Result<Option<Self>> {
        let name = full_name(name);
        let asked = ["LoadState"].iter().chain(properties).map(|property| format!("--property={property}"));
        let output = match Command::new("systemctl").arg("show").args(asked).args(["--", &name]).output() {
            Ok(output) => output,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(cause),
        };
        // Without a running systemd there is no answer, and nothing installed.
        let unit = Self::parse(&String::from_utf8_lossy(&output.stdout));
        Ok(Some(unit).filter(|unit| output.status.success() && unit.property("LoadState") == Some("loaded")))
    }

    /// Returns the text of the unit file and its drop-ins, each after a comment with its path. Blocks until `systemctl` has finished.
    pub(crate) fn text(name: &str) -> io::Result<String> {
        let output = Command::new("systemctl").args(["cat", "--", &full_name(name)]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Parses the output of `systemctl show`: a line `Name=value` for each property. The first line of a name counts.
    fn parse(text: &str) -> Self {
        let mut properties = BTreeMap::new();
        for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
            properties.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        Self(properties)
    }

    /// Returns the value of a property, unless it is empty.
    #[must_use]
    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Returns a variable of `Environment=`, which must be among the queried properties.
    #[must_use]
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        let assignments = words(self.property("Environment")?);
        // The last assignment counts.
        assignments.into_iter().rev().find_map(|word| Some(word.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
    }

    /// Returns the first directory of `CacheDirectory=`, which must be among the queried properties. The service gets it as
    /// `CACHE_DIRECTORY`.
    #[must_use]
    pub(crate) fn cache_directory(&self) -> Option<PathBuf> {
        self.directory("CacheDirectory", CACHES)
    }

    /// Returns the first directory of `StateDirectory=`, which must be among the queried properties. The service gets it as
    /// `STATE_DIRECTORY`.
    #[must_use]
    pub(crate) fn state_directory(&self) -> Option<PathBuf> {
        self.directory("StateDirectory", STATES)
    }

    fn directory(&self, property: &str, parent: &str) -> Option<PathBuf> {
        let first = words(self.property(property)?).into_iter().next()?;
        // A colon is followed by the name of a symlink to it.
        let first = first.split(':').next()?;
        Some(Path::new(parent).join(first))
    }

    /// Returns `Group=`, which must be among the queried properties, and its id, unless /etc/group does not have it.
    #[must_use]
    pub(crate) fn group(&self) -> Option<(&str, u32)> {
        let name = self.property("Group")?;
        Some((name, group_id(&fs::read_to_string("/etc/group").ok()?, name)?))
    }
}

/// Returns the id of a group in the text of /etc/group.
fn group_id(text: &str, name: &str) -> Option<u32> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split(':').nth(1)?.parse().ok()
}

/// Returns the name with its suffix, which defaults to `.service`.
fn full_name(name: &str) -> String {
    if name.contains('.') { name.to_owned() } else { format!("{name}.service") }
}

/// Splits at spaces outside quotes, and removes quotes and backslashes, as a shell does.
#[must_use]
pub(crate) fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut is_escaped) = (Vec::new(), String::new(), None, false);
    for c in text.chars() {
        match c {
            _ if is_escaped => {
                word.push(c);
                is_escaped = false;
            }
            '\\' if quote != Some('\'') => is_escaped = true,
            '"' | '\'' if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            ' ' if quote.is_none() => words.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_says_which_variables_and_directories_its_service_has() {
        let unit = Unit::parse(
            "LoadState=loaded\nEnvironment=A=1 CONFIG_FILE=/etc/a.toml \"CONFIG_FILE=/etc/a file.toml\" B=2\n\
             CacheDirectory=harmonia other\nStateDirectory=harmonia\n",
        );
        assert_eq!(unit.variable("CONFIG_FILE").as_deref(), Some("/etc/a file.toml"));
        assert_eq!((unit.variable("B").as_deref(), unit.variable("CONFIG")), (Some("2"), None));
        assert_eq!(unit.cache_directory(), Some("/var/cache/harmonia".into()));
        assert_eq!(unit.state_directory(), Some("/var/lib/harmonia".into()));
        let linked = Unit::parse("CacheDirectory=harmonia:nix-cache\nEnvironment=\n");
        assert_eq!((linked.cache_directory(), linked.variable("A")), (Some("/var/cache/harmonia".into()), None));
        assert_eq!(Unit::parse("CacheDirectory=\n").cache_directory(), None);
    }

    #[test]
    fn a_group_has_the_id_of_its_line() {
        let text = "root:x:0:\nharmonia-web:x:7:\nharmonia:x:990:alice,bob\nbroken:x\n";
        assert_eq!(group_id(text, "harmonia"), Some(990));
        assert_eq!((group_id(text, "other"), group_id(text, "broken")), (None, None));
    }

    #[test]
    fn words_are_split_as_a_shell_does() {
        assert_eq!(words(r#"a "b c" d\ e 'f "g' "#), ["a", "b c", "d e", "f \"g"]);
        assert_eq!(words(""), [""; 0]);
    }
}
