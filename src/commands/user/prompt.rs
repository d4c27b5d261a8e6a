//! Reads a new password: twice from a terminal, where it is not shown, else one line of standard input.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, StdinLock, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::access::users::{MAX_PASSWORD, UserName};
use crate::error::Error;

/// Maximum length of what is read, in bytes; more than any password, so that a longer one is refused for its length.
const MAX_LINE: usize = 4096;

const END_OF_TEXT: u8 = 0x03; // ctrl-C
const END_OF_TRANSMISSION: u8 = 0x04; // ctrl-D
const BACKSPACE: u8 = 0x08;
const CLEAR_LINE: u8 = 0x15; // ctrl-U
const DELETE: u8 = 0x7f;

/// Reads a new password.
pub(super) fn new_password(name: &UserName) -> Result<String, Error> {
    let mut stdin = io::stdin().lock();
    let password = if stdin.is_terminal() {
        let first = ask(&mut stdin, &format!("Password of {name}: "))?;
        let second = ask(&mut stdin, "The same again: ")?;
        if first != second {
            return Err(Error::PasswordsDiffer);
        }
        first
    } else {
        line(&mut stdin).map_err(failed)?
    };
    if password.is_empty() {
        return Err(Error::NoPassword);
    }
    String::from_utf8(password).map_err(|_| Error::PasswordNotText)
}

fn failed(cause: io::Error) -> Error {
    Error::System { doing: "read the password", cause }
}

/// Reads the first line, without its end.
fn line(input: &mut impl io::BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    input.take(MAX_LINE as u64).read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    Ok(line)
}

/// Asks on the terminal.
fn ask(terminal: &mut StdinLock<'_>, question: &str) -> Result<Vec<u8>, Error> {
    let silent = Silent::new().map_err(failed)?;
    let mut stderr = io::stderr();
    let asked = stderr.write_all(question.as_bytes()).and_then(|()| stderr.flush()).map_err(failed);
    let typed = asked.and_then(|()| typed(terminal).map_err(failed));
    // The Enter that was typed was not shown either.
    let _ = stderr.write_all(b"\n");
    drop(silent);
    typed?.ok_or(Error::NoPassword)
}

/// Reads a line key by key. Returns `None` after ctrl-C, or if the terminal is gone.
fn typed(input: &mut impl io::BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut typed = Vec::with_capacity(MAX_PASSWORD);
    for byte in input.bytes() {
        match byte? {
            b'\r' | b'\n' => return Ok(Some(typed)),
            END_OF_TEXT | END_OF_TRANSMISSION => return Ok(None),
            CLEAR_LINE => typed.clear(),
            BACKSPACE | DELETE => erase(&mut typed),
            byte if typed.len() < MAX_LINE => typed.push(byte),
            _ => {}
        }
    }
    Ok(None)
}

/// Removes the last character, whose bytes after the first begin with the bits 10 in UTF-8.
fn erase(typed: &mut Vec<u8>) {
    while typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
}

/// A terminal that shows nothing and gives each key at once, until it is dropped.
///
/// ctrl-C is a key like others meanwhile: a signal would end the program and leave the terminal silent.
struct Silent(Termios);

impl Silent {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes -= LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG;
        // What was typed before the question is dropped: it was shown.
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_without_its_end_is_read() {
        for (input, expected) in [
            ("secret\nmore\n", "secret"),
            ("secret", "secret"),
            ("secret\r\n", "secret"),
            (" se cret \n", " se cret "),
            ("\n", ""),
            ("", ""),
        ] {
            assert_eq!(line(&mut input.as_bytes()).unwrap(), expected.as_bytes(), "{input:?}");
        }
        assert_eq!(line(&mut &[b'a'; 2 * MAX_LINE][..]).unwrap().len(), MAX_LINE);
    }

    #[test]
    fn keys_that_edit_a_line_do_so() {
        for (keys, expected) in [
            (&b"secret\r"[..], Some(&b"secret"[..])),
            (b"secreb\x7ft\n", Some(b"secret")),
            (b"\x7f\x08a\n", Some(b"a")),
            ("ä€\u{7f}\n".as_bytes(), Some("ä".as_bytes())),
            (b"wrong\x15right\n", Some(b"right")),
            (b"secret\x03\n", None),
            (b"secret\x04\n", None),
            (b"secret", None),
        ] {
            assert_eq!(typed(&mut &*keys).unwrap().as_deref(), expected, "{keys:?}");
        }
        let many = [&[b'a'; 2 * MAX_LINE][..], b"\n"].concat();
        assert_eq!(typed(&mut &*many).unwrap().unwrap().len(), MAX_LINE);
    }
}
