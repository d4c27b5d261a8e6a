//! Host files: which hosts publish into a bucket, and when each was last there.

use serde::{Deserialize, Serialize};

use crate::config::HostName;

/// Upper bound of a file's size, in bytes.
pub(crate) const MAX_HOST_FILE: usize = 16 << 10;
/// Longest text in a file, in bytes.
const MAX_TEXT: usize = 128;

/// Description of a host by itself. Unknown fields are ignored, so that later releases can add some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostFile {
    /// Name, which is also that of the object.
    host: String,
    /// Release of harmonia.
    pub(crate) release: String,
    /// Encoding of its NARs, by the text of its tag: hosts with the same one write the same files.
    pub(crate) encoding: String,
    /// When it was written, in seconds since 1970.
    pub(crate) seen: u64,
    /// Paths that it has published, less those removed.
    pub(crate) paths: u64,
    /// Paths that wait to be published.
    pub(crate) queued: u64,
}

/// Reason why bytes are no host file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostFileError {
    /// Too long.
    #[error("more than {MAX_HOST_FILE} bytes")]
    TooLong,
    /// Not JSON, or without one of the fields.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A text is too long or has control characters, or the name is that of another host.
    #[error("malformed {0}")]
    Field(&'static str),
}

impl HostFile {
    /// Creates the file of a host that has published nothing.
    pub(crate) fn new(host: &HostName, encoding: String, seen: u64) -> Self {
        let release = env!("CARGO_PKG_VERSION").to_owned();
        Self { host: host.to_string(), release, encoding, seen, paths: 0, queued: 0 }
    }

    /// Returns the name of the host.
    pub(crate) fn name(&self) -> &str {
        &self.host
    }

    /// Renders the object.
    pub(crate) fn render(&self) -> Result<Vec<u8>, HostFileError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Parses the object of this host.
    pub(crate) fn parse(bytes: &[u8], host: &HostName) -> Result<Self, HostFileError> {
        if bytes.len() > MAX_HOST_FILE {
            return Err(HostFileError::TooLong);
        }
        let file: Self = serde_json::from_slice(bytes)?;
        let is_plain = |text: &str| text.len() <= MAX_TEXT && !text.contains(char::is_control);
        if file.host != host.as_str() {
            return Err(HostFileError::Field("host"));
        }
        for (text, name) in [(&file.release, "release"), (&file.encoding, "encoding")] {
            if !is_plain(text) {
                return Err(HostFileError::Field(name));
            }
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host() -> HostName {
        "builder1".parse().unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let file = HostFile { paths: 7, ..HostFile::new(&host(), "zstd-3".into(), 1_800_000_000) };
        assert_eq!(HostFile::parse(&file.render().unwrap(), &host()).unwrap(), file);
    }

    #[test]
    fn files_of_others_and_malformed_ones_are_refused() {
        let file = HostFile::new(&host(), "zstd-3".into(), 1);
        assert!(HostFile::parse(&file.render().unwrap(), &"other".parse().unwrap()).is_err());
        let long = HostFile { encoding: "x".repeat(200), ..file.clone() };
        assert!(HostFile::parse(&long.render().unwrap(), &host()).is_err());
        let control = HostFile { release: "\u{1b}[2J".into(), ..file };
        assert!(HostFile::parse(&control.render().unwrap(), &host()).is_err());
        assert!(matches!(HostFile::parse(&vec![b' '; MAX_HOST_FILE + 1], &host()), Err(HostFileError::TooLong)));
        assert!(matches!(HostFile::parse(b"{}", &host()), Err(HostFileError::Json(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = HostFile::parse(&bytes, &host());
        }
    }
}
