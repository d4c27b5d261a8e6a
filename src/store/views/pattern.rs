//! Patterns of roots: absolute paths in whose components `*` stands for any characters.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

/// A component of a path that is to be resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Component {
    /// Exactly this name, also one with a `*` in it: what a symlink or a directory names.
    Name(OsString),
    /// Names that match this pattern, which contains a `*`.
    Pattern(OsString),
}

/// Returns the components of a configured pattern.
pub(crate) fn of_pattern(pattern: &str) -> VecDeque<Component> {
    let of = |text: &str| {
        if text.contains('*') { Component::Pattern(text.into()) } else { Component::Name(text.into()) }
    };
    pattern.split('/').filter(|text| !text.is_empty()).map(of).collect()
}

/// Returns the components of a path, in which `*` has no meaning.
pub(crate) fn of_path(path: &[u8]) -> VecDeque<Component> {
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
    names.map(|name| Component::Name(OsStr::from_bytes(name).to_owned())).collect()
}

/// Returns whether a name matches a pattern. As in a shell, a `*` at the start matches no leading dot. Takes time
/// proportional to the product of the lengths at most.
pub(crate) fn matches(pattern: &OsStr, name: &OsStr) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    if name.starts_with(b".") && !pattern.starts_with(b".") {
        return false;
    }
    let (mut at, mut in_name) = (0, 0);
    // Position after the last `*`, and the one in the name up to which it matches.
    let mut star: Option<(usize, usize)> = None;
    while in_name < name.len() {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            star = Some((at, in_name));
        } else if pattern.get(at) == Some(&name[in_name]) {
            (at, in_name) = (at + 1, in_name + 1);
        } else if let Some((after, matched)) = star {
            star = Some((after, matched + 1));
            (at, in_name) = (after, matched + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_matches_any_characters_but_a_leading_dot() {
        for (pattern, name, expected) in [
            ("*", "team-a", true),
            ("team-*", "team-a", true),
            ("team-*", "team-", true),
            ("team-*", "steam-a", false),
            ("*-link", "system-12-link", true),
            ("*-link", "system-12-link2", false),
            ("a*b*c", "aXbXbYc", true),
            ("a*b*c", "aXcXb", false),
            ("*", ".hidden", false),
            (".*", ".hidden", true),
            ("**", "x", true),
            ("*a", "", false),
        ] {
            assert_eq!(matches(OsStr::new(pattern), OsStr::new(name)), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn only_configured_stars_are_patterns() {
        let name = |text: &str| Component::Name(text.into());
        assert_eq!(of_pattern("/a//b*/"), [name("a"), Component::Pattern("b*".into())]);
        assert_eq!(of_path(b"../b*"), [name(".."), name("b*")]);
    }

    proptest! {
        #[test]
        fn a_pattern_made_of_a_name_matches_it(name in "[a-c]{0,12}", cuts in prop::collection::vec(0_usize..13, 0..6)) {
            let mut pattern = name.clone();
            for cut in cuts {
                let at = cut.min(pattern.len());
                pattern.replace_range(at..(at + 2).min(pattern.len()), "*");
            }
            prop_assert!(matches(OsStr::new(&pattern), OsStr::new(&name)), "{pattern} {name}");
        }
    }
}
