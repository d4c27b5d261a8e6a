//! Messages of nix-daemon, encoded independently of the code under test.

/// Ends the log and begins the result.
pub(crate) const LAST: u64 = 0x616c_7473;
/// Begins an error.
pub(crate) const ERROR: u64 = 0x6378_7470;
/// Begins a line of the log.
pub(crate) const NEXT: u64 = 0x6f6c_6d67;

/// A message that is being built.
#[derive(Clone, Default)]
pub(crate) struct Wire(Vec<u8>);

impl Wire {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn number(mut self, number: u64) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    /// Appends a string: length, bytes, and zeros up to a multiple of eight.
    pub(crate) fn string(self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        let mut wire = self.number(bytes.len() as u64);
        wire.0.extend(bytes);
        wire.0.resize(wire.0.len().next_multiple_of(8), 0);
        wire
    }

    pub(crate) fn strings(self, strings: &[impl AsRef<[u8]>]) -> Self {
        strings.iter().fold(self.number(strings.len() as u64), Self::string)
    }

    /// Appends each string, without their count.
    pub(crate) fn strings_of(self, strings: &[&str]) -> Self {
        strings.iter().fold(self, Self::string)
    }

    /// Appends raw bytes.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// Appends an error as daemons from 2.4 on send it.
    pub(crate) fn error(self, message: &str) -> Self {
        let level = 0;
        let (no_position, no_traces) = (0, 0);
        self.number(ERROR)
            .string("Error")
            .number(level)
            .string("Error")
            .string(message)
            .number(no_position)
            .number(no_traces)
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.0
    }
}
