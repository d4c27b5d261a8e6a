//! Properties that hold for any bytes of a peer, each a function from bytes: fuzzed by the package around this, and fed
//! with the inputs that the fuzzer found interesting by `cargo test` (`tests/integration/project/fuzz_corpus.rs`).
//!
//! An input begins with the parameters that a property takes, each a byte or a number, and what is left are the bytes of
//! the peer. The properties know the formats by themselves where they can; what they must not know is the code that they
//! test.

mod accept_encoding;
mod authorization;
mod bucket;
mod bucket_upkeep;
mod handshake;
mod htpasswd;
mod jwt;
mod nar;
mod nar_cache_file;
mod narinfo;
mod push;
mod range;
mod route;
mod seek_table;
mod segment;
mod stderr;
mod wire;

/// Panics if a property does not hold for these bytes.
pub(crate) type Property = fn(&[u8]);

pub(crate) const TARGETS: [(&str, Property); 17] = [
    ("accept_encoding", accept_encoding::property),
    ("authorization", authorization::property),
    ("bucket", bucket::property),
    ("bucket_upkeep", bucket_upkeep::property),
    ("handshake", handshake::property),
    ("htpasswd", htpasswd::property),
    ("jwt", jwt::property),
    ("nar", nar::property),
    ("nar_cache_file", nar_cache_file::property),
    ("narinfo", narinfo::property),
    ("push", push::property),
    ("range", range::property),
    ("route", route::property),
    ("seek_table", seek_table::property),
    ("segment", segment::property),
    ("stderr", stderr::property),
    ("wire", wire::property),
];

/// The front of an input; zeros beyond its end.
struct Parameters<'a>(&'a [u8]);

impl<'a> Parameters<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        bytes.fill_with(|| self.byte());
        u64::from_le_bytes(bytes)
    }

    /// Takes the length of the pieces in which bytes arrive: 1 to 256.
    fn piece(&mut self) -> usize {
        usize::from(self.byte()) + 1
    }

    fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// Returns the ends of the pieces of this length in which bytes arrive; the last one is the end of all bytes.
fn ends(length: usize, piece: usize) -> impl Iterator<Item = usize> {
    (0..length).step_by(piece).map(move |start| length.min(start + piece))
}
