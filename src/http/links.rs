//! Links to what there is of a store path, relative to the cache's own URL.

use harmonia_protocol::nar::Name;
use harmonia_protocol::{HashPart, StorePath};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// The characters that are percent-encoded: all but those that RFC 3986, section 2.3 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Percent-encodes a name as one segment of a URL.
pub(crate) fn encode_segment(name: &[u8]) -> String {
    percent_encode(name, RESERVED).to_string()
}

/// Returns the link to a file or directory in the path with this hash part.
pub(crate) fn files_link(hash: HashPart, names: &[Name]) -> String {
    let mut link = format!("serve/{hash}");
    for name in names {
        link.extend(["/", &encode_segment(name.as_bytes())]);
    }
    link
}

/// Returns the link to the page about a path.
pub(crate) fn page_link(path: &StorePath) -> String {
    format!("serve/{}", encode_segment(path.base_name().as_bytes()))
}
