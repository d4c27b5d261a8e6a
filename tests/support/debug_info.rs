//! Build IDs, and where their debug info is: at which URL, and in which file of a path.

/// Build ID of a path with debug info.
pub(crate) const ID: &str = "00d3adbeef00d3adbeef00d3adbeef00d3adbeef";

/// Another build ID.
pub(crate) const OTHER: &str = "ab12345678ab12345678ab12345678ab12345678";

/// Returns the URL of a build ID.
pub(crate) fn url(id: &str) -> String {
    format!("/debuginfo/{id}")
}

/// Returns the file with the debug info of a build ID, below its store path.
pub(crate) fn member(id: &str) -> String {
    format!("lib/debug/.build-id/{}/{}.debug", &id[..2], &id[2..])
}
