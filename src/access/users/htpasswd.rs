//! The format of the users file: that of Apache's htpasswd, with bcrypt alone.
//!
//! A line is `NAME:HASH`, a comment that begins with `#`, or empty. Whatever else there is, an error: a line that were
//! skipped would be a user who cannot log in, or one whom nobody can remove.

use std::collections::HashMap;
use std::fmt;

use super::password_hash::{PasswordHash, PasswordHashError};
use super::user_name::UserNameError;

pub use super::user_name::UserName;

/// Users in the order of their lines, with the comments between them.
#[derive(Debug, Clone, Default)]
pub struct Htpasswd(Vec<Line>);

#[derive(Debug, Clone)]
enum Line {
    User(UserName, PasswordHash),
    /// A comment or an empty line, as it is.
    Other(String),
}

/// Error in a line of a users file. It never holds a hash, nor what may be a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// Number of the line, from 1.
    pub line: usize,
    /// Reason.
    pub problem: Problem,
}

/// Reason why a line cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The line has no colon.
    #[error("no colon ends a name")]
    NoColon,
    /// The name cannot be used.
    #[error(transparent)]
    Name(#[from] UserNameError),
    /// The hash cannot be used.
    #[error("user \"{0}\": {1}")]
    Hash(UserName, PasswordHashError),
    /// An earlier line is about the same user.
    #[error("user \"{0}\" is already in line {1}")]
    Duplicate(UserName, usize),
}

impl Problem {
    /// Returns what the operator can do, as an imperative.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::NoColon => "write NAME:HASH, or begin a comment with #".to_owned(),
            Self::Name(_) => "give the user a name of visible ASCII characters without \":\" and \"*\"".to_owned(),
            Self::Hash(name, _) => {
                format!("remove the line and set the password anew, by `harmonia user add {name}` or `htpasswd -B`")
            }
            Self::Duplicate(..) => "remove one of the lines".to_owned(),
        }
    }
}

impl Htpasswd {
    /// Parses the text of a file.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        let mut seen = HashMap::new();
        let mut lines = Vec::new();
        // A line ends in a line feed alone; a carriage return before it would be part of the hash.
        let text = text.strip_suffix('\n').or(Some(text).filter(|text| !text.is_empty()));
        for (line, text) in (1..).zip(text.into_iter().flat_map(|text| text.split('\n'))) {
            let parsed = Line::parse(text).map_err(|problem| SyntaxError { line, problem })?;
            if let Line::User(name, _) = &parsed {
                if let Some(first) = seen.insert(name.clone(), line) {
                    return Err(SyntaxError { line, problem: Problem::Duplicate(name.clone(), first) });
                }
            }
            lines.push(parsed);
        }
        Ok(Self(lines))
    }

    /// Returns the users, in the order of the file.
    pub fn users(&self) -> impl Iterator<Item = (&UserName, &PasswordHash)> {
        self.0.iter().filter_map(|line| match line {
            Line::User(name, hash) => Some((name, hash)),
            Line::Other(_) => None,
        })
    }

    /// Sets the hash of a user, who is added at the end if there is none of the name. Returns whether there was.
    pub fn set(&mut self, name: &UserName, hash: PasswordHash) -> bool {
        let found = self.0.iter_mut().find(|line| line.is_of(name));
        let existed = found.is_some();
        let new = Line::User(name.clone(), hash);
        match found {
            Some(line) => *line = new,
            None => self.0.push(new),
        }
        existed
    }

    /// Removes a user. Returns whether there was one of the name.
    pub fn remove(&mut self, name: &UserName) -> bool {
        let before = self.0.len();
        self.0.retain(|line| !line.is_of(name));
        self.0.len() < before
    }
}

impl fmt::Display for Htpasswd {
    /// Writes the file, whose every line ends in a line feed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| match line {
            Line::User(name, hash) => writeln!(f, "{name}:{hash}"),
            Line::Other(text) => writeln!(f, "{text}"),
        })
    }
}

impl Line {
    fn parse(text: &str) -> Result<Self, Problem> {
        if text.is_empty() || text.starts_with('#') {
            return Ok(Self::Other(text.to_owned()));
        }
        let (name, hash) = text.split_once(':').ok_or(Problem::NoColon)?;
        let name: UserName = name.parse()?;
        match PasswordHash::parse(hash) {
            Ok(hash) => Ok(Self::User(name, hash)),
            Err(cause) => Err(Problem::Hash(name, cause)),
        }
    }

    fn is_of(&self, name: &UserName) -> bool {
        matches!(self, Self::User(own, _) if own == name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HASH: &str = "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe";

    fn name(text: &str) -> UserName {
        text.parse().unwrap()
    }

    fn names(file: &Htpasswd) -> Vec<String> {
        file.users().map(|(name, _)| name.to_string()).collect()
    }

    #[test]
    fn comments_and_the_order_of_lines_survive_an_edit() {
        let mut file = Htpasswd::parse(&format!("# team a\nalice:{HASH}\n\n# team b\nbob:{HASH}")).unwrap();
        assert_eq!(names(&file), ["alice", "bob"]);
        let other = PasswordHash::parse(&HASH.replace("$2a$", "$2y$")).unwrap();
        assert!(file.set(&name("alice"), other.clone()) && !file.set(&name("carol"), other.clone()));
        assert!(file.remove(&name("bob")) && !file.remove(&name("bob")) && !file.remove(&name("Alice")));
        assert_eq!(file.to_string(), format!("# team a\nalice:{other}\n\n# team b\ncarol:{other}\n"));
    }

    #[test]
    fn a_line_that_cannot_be_used_is_an_error_with_a_way_out() {
        for (text, line, message) in [
            ("alice\n".to_owned(), 1, "no colon ends a name"),
            (format!("# a\n\n:{HASH}"), 3, "the name is empty"),
            (format!(" # a:{HASH}"), 1, "the name has the character ' '"),
            (format!("a*:{HASH}"), 1, "the name has the character '*'"),
            (format!("\u{feff}alice:{HASH}"), 1, "the name has the character '\\u{feff}'"),
            (format!("alice:{HASH}\r\n"), 1, "user \"alice\": the bcrypt hash is malformed"),
            (format!("alice:{HASH}:gecos\n"), 1, "user \"alice\": the bcrypt hash is malformed"),
            (
                format!("bob:{HASH}\nalice:secret\n"),
                2,
                "user \"alice\": the password is in another format, not a bcrypt hash",
            ),
            (format!("bob:{HASH}\n#\nbob:{HASH}\n"), 3, "user \"bob\" is already in line 1"),
        ] {
            let error = Htpasswd::parse(&text).unwrap_err();
            assert_eq!((error.line, error.problem.to_string().as_str()), (line, message));
            assert!(!error.problem.help().is_empty());
            assert!(!format!("{error:?}").contains("secret"));
        }
        assert_eq!(names(&Htpasswd::parse("").unwrap()), [""; 0]);
        assert_eq!(names(&Htpasswd::parse(&format!("Alice:{HASH}\nalice:{HASH}")).unwrap()), ["Alice", "alice"]);
    }

    proptest! {
        #[test]
        fn a_file_is_written_as_it_was_read(users in prop::collection::btree_set("[a-z.@-]{1,8}", 0..8), comment in "#[^\n]*") {
            let mut text = format!("{comment}\n");
            text.extend(users.iter().map(|name| format!("{name}:{HASH}\n")));
            let file = Htpasswd::parse(&text).unwrap();
            prop_assert_eq!(file.to_string(), text);
            prop_assert_eq!(names(&file), users.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "(#|[a-c*]{0,2}:?|\\$2[ay]\\$|\n|\r|.)*") {
            drop(Htpasswd::parse(&text));
        }
    }
}
