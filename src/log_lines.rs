//! Parts that the access log and the audit log share: the file, the time in a line, and texts of clients.

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags};
use time::OffsetDateTime;

/// Opens a file for appending lines, and creates it if it is missing. Pipes and sockets are rejected, since opening them may block.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::from_raw_mode(0o640))?);
    let kind = file.metadata()?.file_type();
    if kind.is_file() || kind.is_char_device() {
        Ok(file)
    } else {
        Err(io::Error::other("not a regular file or a device"))
    }
}

/// Formats a time in UTC with milliseconds (RFC 3339).
pub(crate) fn timestamp(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    let (month, day) = (u8::from(at.month()), at.day());
    let (hour, minute, second) = at.to_hms();
    format!("{}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", at.year(), at.millisecond())
}

/// Escapes all but printable ASCII, and truncates to `max` bytes, ending in dots.
pub(crate) fn escaped(bytes: &[u8], max: usize) -> String {
    let mut text = String::with_capacity(bytes.len().min(max));
    for byte in bytes {
        if text.len() >= max {
            text.push_str("...");
            break;
        }
        match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f.. => {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\x{byte:02x}");
            }
            byte => text.push(char::from(*byte)),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_time_has_milliseconds_and_a_text_is_printable() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_003);
        assert_eq!(timestamp(at), "2023-11-14T22:13:20.003Z");
        assert_eq!(escaped(b"a\"\\\n\xff", 20), r"a\x22\x5c\x0a\xff");
        assert_eq!(escaped(b"abcdef", 3), "abc...");
    }
}
