//! Comparison of the contents of a NAR with a content address.
//!
//! nix-daemon of Nix 2.3 accepts a path with any content address from any user if the path follows from it, without
//! comparing the contents. Later releases compare, but their stores may have paths that an earlier one accepted. So a
//! content address proves nothing before its contents were compared.
//!
//! Source: Nix `src/libstore/local-store.cc`, `addToStore`.

use std::ops::Range;

use ring::digest::{self, Context};

use crate::content_address::{ContentAddress, Method};
use crate::hash::{Algorithm, Hash};
use crate::nar::{Event, Feed, Object, Parser};
use crate::path_info::PathInfo;
use crate::store_path::{StoreDir, StorePath};

/// Hasher of a NAR that arrives in pieces, for comparison with a content address.
pub struct ContentCheck {
    expected: Hash,
    context: Context,
    file: Option<File>,
}

/// State of a NAR that must be a single file.
struct File {
    parser: Parser,
    /// Bytes of the NAR that have arrived.
    offset: u64,
    /// Range of the NAR that is the contents of the file; empty and at the end before it is known.
    contents: Range<u64>,
    is_wrong: bool,
}

impl ContentCheck {
    /// Creates a check of a content address. Returns `None` if it cannot be checked: MD5 and SHA-1 do not bind contents,
    /// and this crate computes neither BLAKE3 nor Git trees.
    #[must_use]
    pub fn new(address: &ContentAddress) -> Option<Self> {
        let expected = address.hash().clone();
        let algorithm = match expected.algorithm() {
            Algorithm::Sha256 => &digest::SHA256,
            Algorithm::Sha512 => &digest::SHA512,
            Algorithm::Md5 | Algorithm::Sha1 | Algorithm::Blake3 => return None,
        };
        let file = match address.method() {
            Method::Text | Method::Flat => Some(File::default()),
            Method::Recursive => None,
            Method::Git => return None,
        };
        Some(Self { expected, context: Context::new(algorithm), file })
    }

    /// Hashes the next bytes of the NAR.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.file {
            None => self.context.update(bytes),
            Some(file) => self.context.update(file.contents_in(bytes)),
        }
    }

    /// Returns whether the bytes so far are a NAR with the contents that the content address names.
    #[must_use]
    pub fn matches(self) -> bool {
        let is_file = self.file.is_none_or(|file| !file.is_wrong && file.contents.end <= file.offset);
        is_file && self.context.finish().as_ref() == self.expected.digest()
    }
}

impl ContentAddress {
    /// Returns whether a path with this content address has the contents that it names, as far as that is known without
    /// reading them; `None` if a [`ContentCheck`] of its NAR must decide.
    ///
    /// The content address of a path that refers to itself names contents without those references, which releases of
    /// Nix hash in two ways. It is not compared, and the result is `Some(false)`.
    #[must_use]
    pub fn matches_contents(&self, path: &StorePath, info: &PathInfo, store: &StoreDir) -> Option<bool> {
        if !self.matches_path(path, &info.references, store) || info.references.contains(path) {
            return Some(false);
        }
        match self.method() {
            Method::Recursive if self.hash().algorithm() == Algorithm::Sha256 => {
                Some(self.hash().digest() == info.nar_hash.as_bytes())
            }
            _ => ContentCheck::new(self).is_none().then_some(false),
        }
    }
}

impl Default for File {
    fn default() -> Self {
        Self { parser: Parser::new(u64::MAX), offset: 0, contents: u64::MAX..u64::MAX, is_wrong: false }
    }
}

impl File {
    /// Returns the part of `bytes` that is contents of the file. The NAR of an executable file does not match.
    fn contents_in<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let contents = &mut self.contents;
        let fed = self.parser.feed(bytes, &mut |event| {
            if let Event::Object { object: Object::Regular { executable: false, size, offset }, name: None } = event {
                *contents = offset..offset + size;
            }
        });
        self.is_wrong |= !matches!(fed, Ok(Feed::More | Feed::Finished { .. }));
        let within = |offset: u64| {
            let within = offset.saturating_sub(self.offset);
            usize::try_from(within).map_or(bytes.len(), |within| within.min(bytes.len()))
        };
        let found = &bytes[within(self.contents.start)..within(self.contents.end)];
        self.offset += bytes.len() as u64;
        found
    }
}

impl std::fmt::Debug for ContentCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ContentCheck({})", self.expected)
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};

    use super::*;
    use crate::hash::NarHash;
    use crate::nar::Node;

    fn nar(node: &Node) -> BytesMut {
        let mut nar = BytesMut::new();
        node.encode(&mut nar);
        nar
    }

    fn file(executable: bool, contents: &'static [u8]) -> Node {
        Node::Regular { executable, contents: Bytes::from_static(contents) }
    }

    fn address(method: &str, algorithm: &'static digest::Algorithm, bytes: &[u8]) -> ContentAddress {
        let name = if algorithm == &digest::SHA256 { "sha256" } else { "sha512" };
        let hash = crate::nix32::encode(digest::digest(algorithm, bytes).as_ref());
        ContentAddress::parse(&format!("{method}{name}:{hash}")).unwrap()
    }

    fn matches(address: &ContentAddress, nar: &[u8], piece: usize) -> bool {
        let mut check = ContentCheck::new(address).unwrap();
        nar.chunks(piece).for_each(|piece| check.update(piece));
        check.matches()
    }

    #[test]
    fn contents_are_compared_in_pieces_of_any_size() {
        let contents = b"some contents of a file, and more";
        let whole = nar(&file(false, contents));
        for algorithm in [&digest::SHA256, &digest::SHA512] {
            for piece in [1, 7, 8, 50, 1000] {
                assert!(matches(&address("fixed:", algorithm, contents), &whole, piece));
                assert!(matches(&address("fixed:r:", algorithm, &whole), &whole, piece));
                assert!(!matches(&address("fixed:", algorithm, b"others"), &whole, piece));
                assert!(!matches(&address("fixed:r:", algorithm, contents), &whole, piece));
            }
        }
        assert!(matches(&address("text:", &digest::SHA256, contents), &whole, 8));
        assert!(matches(&address("text:", &digest::SHA256, b""), &nar(&file(false, b"")), 8));
    }

    #[test]
    fn only_a_whole_file_that_is_not_executable_has_flat_contents() {
        let flat = address("fixed:", &digest::SHA256, b"contents");
        let whole = nar(&file(false, b"contents"));
        assert!(matches(&flat, &whole, 8));
        assert!(!matches(&flat, &nar(&file(true, b"contents")), 8));
        let directory = Node::Directory([(crate::nar::Name::new(b"a").unwrap(), file(false, b"contents"))].into());
        assert!(!matches(&flat, &nar(&directory), 8));
        let nothing = address("text:", &digest::SHA256, b"");
        assert!(
            !matches(&nothing, &nar(&directory), 8) && !matches(&nothing, b"no nar", 8) && !matches(&nothing, b"", 8)
        );
        assert!(!matches(&flat, &whole[..whole.len() / 2], 8));
    }

    #[test]
    fn what_does_not_bind_contents_is_not_compared() {
        for text in [
            format!("fixed:md5:{}", "0".repeat(26)),
            format!("fixed:r:sha1:{}", "0".repeat(32)),
            format!("fixed:git:sha256:{}", "0".repeat(52)),
        ] {
            assert!(ContentCheck::new(&ContentAddress::parse(&text).unwrap()).is_none(), "{text}");
        }
    }

    #[test]
    fn an_address_of_the_whole_nar_is_compared_with_its_hash_and_others_need_the_contents() {
        let store = StoreDir::default();
        let (text, other) = (ContentAddress::parse(&format!("text:sha256:{}", "0".repeat(52))).unwrap(), [1; 32]);
        let recursive = ContentAddress::parse(&format!("fixed:r:sha256:{}", "0".repeat(52))).unwrap();
        let path = |kind: &str| {
            let fingerprint = format!("{kind}:sha256:{}:{store}:named", "0".repeat(64));
            let mut folded = [0; 20];
            let hash = digest::digest(&digest::SHA256, fingerprint.as_bytes());
            hash.as_ref().iter().enumerate().for_each(|(index, byte)| folded[index % 20] ^= byte);
            StorePath::from_base_name(&format!("{}-named", crate::nix32::encode(&folded))).unwrap()
        };
        let info = |nar_hash, references: &[&StorePath]| PathInfo {
            deriver: None,
            nar_hash: NarHash::from_digest(nar_hash),
            references: references.iter().copied().cloned().collect(),
            registration_time: 0,
            nar_size: 120,
            ultimate: false,
            signatures: Vec::new(),
            content_address: None,
        };
        let (source, texts) = (path("source"), path("text"));
        assert_eq!(recursive.matches_contents(&source, &info([0; 32], &[]), &store), Some(true));
        assert_eq!(recursive.matches_contents(&source, &info(other, &[]), &store), Some(false));
        assert_eq!(
            recursive.matches_contents(&texts, &info([0; 32], &[]), &store),
            Some(false),
            "it is of another path"
        );
        assert_eq!(text.matches_contents(&texts, &info(other, &[]), &store), None);
        let itself = path("source:self");
        assert!(recursive.matches_path(&itself, std::slice::from_ref(&itself), &store));
        assert_eq!(recursive.matches_contents(&itself, &info([0; 32], &[&itself]), &store), Some(false));
    }
}
