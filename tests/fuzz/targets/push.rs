//! Pushes: a narinfo that may be pushed is that of its URL and within the limits, and no decoder passes on more than was
//! announced, or the end of what is no NAR.

use std::io::{Cursor, Read as _};

use harmonia::push::decode::decoder;
use harmonia::push::nar_check::{Expected, check};
use harmonia::push::{PushRules, PushedNarInfo};
use harmonia_protocol::hash::NarHash;
use harmonia_protocol::nar::Node;
use harmonia_protocol::narinfo::Compression;
use harmonia_protocol::{HashPart, StoreDir};
use ring::digest::{SHA256, digest};

use super::Parameters;

const COMPRESSIONS: [Compression; 7] = [
    Compression::None,
    Compression::Xz,
    Compression::Zstd,
    Compression::Bzip2,
    Compression::Gzip,
    Compression::Brotli,
    Compression::Lzip,
];
/// Largest NAR, in bytes.
const MAX: u64 = 1 << 20;

pub(super) fn property(input: &[u8]) {
    let mut parameters = Parameters(input);
    let compression = COMPRESSIONS.get(usize::from(parameters.byte())).copied();
    match compression {
        Some(compression) => of_a_file(compression, parameters.rest()),
        None => of_a_narinfo(parameters.rest()),
    }
}

fn of_a_narinfo(body: &[u8]) {
    let rules = PushRules { store: StoreDir::default(), max_nar_size: MAX, trusted_public_keys: Vec::new() };
    let Ok(pushed) = PushedNarInfo::parse(body, HashPart::ZERO, &rules) else { return };
    assert_eq!(pushed.path().hash_part(), HashPart::ZERO);
    assert!(pushed.nar_size() <= MAX);
    let text = std::str::from_utf8(body).expect("a narinfo is text");
    let url = format!("URL: nar/{}", pushed.file());
    assert!(text.lines().any(|line| line == url), "{url} is not in:\n{text}");
}

fn of_a_file(compression: Compression, file: &[u8]) {
    let mut decoded = Vec::new();
    let whole = decoder(compression, Cursor::new(file.to_vec()))
        .and_then(|decoder| decoder.take(MAX + 1).read_to_end(&mut decoded))
        .is_ok();
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, &decoded).as_ref());
    let nar_size = (decoded.len() as u64).min(MAX);
    let expected = Expected { nar_size, nar_hash: NarHash::from_digest(hash), content_address: None };
    let mut sent = Vec::new();
    let checked = check(Cursor::new(file.to_vec()), compression, &expected, |chunk| {
        sent.extend_from_slice(&chunk);
        true
    });
    assert!(decoded.starts_with(&sent) && sent.len() as u64 <= nar_size);
    match checked {
        Ok(()) => assert!(whole && sent == decoded && Node::parse(&decoded).is_ok()),
        Err(fault) => assert!(sent.is_empty() || sent.len() < decoded.len(), "the end was sent: {fault}"),
    }
}
