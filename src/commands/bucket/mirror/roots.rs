//! Reads the file of store paths to mirror.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use harmonia_protocol::narinfo::Compression;
use harmonia_protocol::{StoreDir, StorePath};

use crate::commands::bucket::failure::BucketFailure;
use crate::error::Error;
use crate::push::decode::decoder;

/// Upper bound of the text, in bytes: about two million paths.
const MAX_TEXT: u64 = 256 << 20;
/// First bytes of a file that xz has compressed, as those of channels of Nixpkgs are.
const XZ: [u8; 6] = *b"\xFD7zXZ\0";

/// Returns the store paths in a file, or in standard input for `-`: separated by white space, perhaps compressed by xz.
pub(super) fn read(path: &Path, directory: &StoreDir) -> Result<Vec<StorePath>, Error> {
    let failed = |cause| Error::from(BucketFailure::Roots { path: path.to_owned(), cause });
    let file: Box<dyn Read + Send> =
        if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path).map_err(failed)?) };
    let text = text(file).map_err(failed)?;
    let mut seen = HashSet::new();
    let mut roots = Vec::new();
    for word in text.split_ascii_whitespace() {
        let name = word.strip_prefix(directory.as_str()).and_then(|rest| rest.strip_prefix('/'));
        let parsed = name.and_then(|name| StorePath::from_base_name(name).ok());
        let root = parsed.ok_or_else(|| Error::NoStorePath(word.into()))?;
        if seen.insert(root.hash_part()) {
            roots.push(root);
        }
    }
    Ok(roots)
}

fn text(file: Box<dyn Read + Send>) -> io::Result<String> {
    let mut file = BufReader::new(file);
    let mut first = Vec::new();
    file.by_ref().take(XZ.len() as u64).read_to_end(&mut first)?;
    let is_compressed = first == XZ;
    let whole = io::Cursor::new(first).chain(file);
    let compression = if is_compressed { Compression::Xz } else { Compression::None };
    let mut text = String::new();
    decoder(compression, whole)?.take(MAX_TEXT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_TEXT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it has more than {MAX_TEXT} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of the test, by xz with CRC32.
    const COMPRESSED: &[u8] =
        b"\xfd\x37\x7a\x58\x5a\x00\x00\x01\x69\x22\xde\x36\x02\x00\x21\x01\x1c\x00\x00\x00\x10\xcf\x58\xcc\
        \xe0\x00\x89\x00\x20\x5d\x00\x17\x9b\x89\x27\xb9\x9a\x85\xd9\xc2\x22\xda\x4a\xa0\x81\x31\x84\xa0\
        \x9f\x02\xcb\xdf\x00\xf8\x47\x1c\x9b\xdc\xf8\x07\x9e\x20\x00\x00\x2b\x97\x1e\x54\x00\x01\x38\x8a\
        \x01\x00\x00\x00\x4b\x9e\x96\x68\x3e\x30\x0d\x8b\x02\x00\x00\x00\x00\x01\x59\x5a";

    #[test]
    fn paths_are_separated_by_white_space_and_may_be_compressed() {
        let (a, b) = (format!("/nix/store/{:032}-a", 1), format!("/nix/store/{:032}-b", 2));
        let plain = format!("{a}\n{b} {a}\n");
        let directory = tempfile::tempdir().unwrap();
        for bytes in [plain.as_bytes(), COMPRESSED] {
            let file = directory.path().join("paths");
            std::fs::write(&file, bytes).unwrap();
            let roots = read(&file, &StoreDir::default()).unwrap();
            assert_eq!(
                roots.iter().map(|root| format!("/nix/store/{root}")).collect::<Vec<_>>(),
                [a.clone(), b.clone()]
            );
        }
        std::fs::write(directory.path().join("other"), "/etc/passwd").unwrap();
        assert!(read(&directory.path().join("other"), &StoreDir::default()).is_err());
    }
}
