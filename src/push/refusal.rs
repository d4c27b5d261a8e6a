//! Messages of nix-daemon about a path that it does not add, which have no code: their words tell what to do.

use harmonia_protocol::StorePath;

use crate::push::error::PushError;

/// Longest part of a message that is passed on, in bytes.
const MAX_MESSAGE: usize = 300;

/// Words of errors that pass once somebody has made room or nix-daemon is back.
const PASSING: [&str; 10] = [
    "No space left on device",
    "Disk quota exceeded",
    "Cannot allocate memory",
    "Read-only file system",
    "Too many open files",
    "Input/output error",
    "Permission denied",
    "SQLite",
    "database",
    "interrupted by the user",
];

/// Returns the error for a message.
pub(crate) fn error(path: &StorePath, message: &str) -> PushError {
    let (path, message) = (path.clone(), quoted(message));
    // Nix 2.3: "lacks a valid signature"; later: "lacks a signature by a trusted key".
    if message.contains("lacks a") && message.contains("signature") {
        PushError::Untrusted { path, message }
    } else if PASSING.iter().any(|words| message.contains(words)) {
        PushError::Unable { path, message }
    } else {
        PushError::Refused { path, message }
    }
}

/// Returns a message on one line, cut to a length.
fn quoted(message: &str) -> String {
    let mut words = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE).rev().find(|at| words.is_char_boundary(*at)).unwrap_or_default();
        words.truncate(end);
        words.push('…');
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(message: &str) -> PushError {
        error(&StorePath::from_base_name("lq7lf2dg0c05ibn8r201m1cgdcj5i60a-hello").unwrap(), message)
    }

    #[test]
    fn the_words_of_each_release_have_a_status() {
        let cases = [
            ("cannot add path '/nix/store/x' because it lacks a valid signature", 403),
            ("cannot add path '/nix/store/x' because it lacks a signature by a trusted key", 403),
            ("hash mismatch importing path '/nix/store/x'", 422),
            ("ca hash mismatch importing path '/nix/store/x'", 422),
            ("writing to file: No space left on device", 503),
            ("executing SQLite statement: database or disk is full", 503),
        ];
        for (message, status) in cases {
            assert_eq!(of(message).status(), status, "{message}");
        }
    }

    #[test]
    fn a_message_becomes_one_short_line() {
        let line = of(&format!("one\ntwo\t{}", "é".repeat(5000))).line();
        assert!(line.contains("one two é") && line.len() < 800 && !line.contains('\n'), "{line}");
    }
}
