//! Unix sockets: the limit on their paths, and `unix_socket_mode`.

use std::str::FromStr;

/// Upper bound of a socket's path, in bytes: `sun_path` of unix(7) holds 108 and ends in a NUL.
pub(super) const MAX_UNIX_PATH: usize = 107;

/// Permission bits of a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketMode(u32);

impl SocketMode {
    /// Only the user of the server and root may connect.
    pub const OWNER: Self = Self(0o600);

    /// Returns the permission bits, at most 0o777.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl Default for SocketMode {
    /// Every user may connect who can access the directory of the socket.
    fn default() -> Self {
        Self(0o666)
    }
}

/// Error of a text that is not a [`SocketMode`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("\"{0}\" is not a mode\n  help: write three octal digits after a zero, e.g. \"0660\" for owner and group")]
pub struct SocketModeError(String);

impl FromStr for SocketMode {
    type Err = SocketModeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix('0').unwrap_or(text);
        match u32::from_str_radix(digits, 8) {
            // `from_str_radix` accepts a plus sign.
            Ok(bits) if digits.len() == 3 && !digits.starts_with('+') => Ok(Self(bits)),
            _ => Err(SocketModeError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_three_octal_digits() {
        for (text, bits) in [("0660", 0o660), ("600", 0o600), ("0777", 0o777), ("0000", 0)] {
            assert_eq!(text.parse::<SocketMode>().unwrap().bits(), bits);
        }
        for text in ["", "0", "66", "0668", "01777", "0o660", "+660", "+66", "-660", "rw-rw----"] {
            let error = text.parse::<SocketMode>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("\"{text}\" is not a mode\n  help: ")), "{error}");
        }
    }
}
