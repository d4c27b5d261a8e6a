//! Replies of a daemon to every operation: where they end does not depend on how they come cut, and what has been found
//! whole decodes to its last byte or is refused for what it says.

use std::sync::LazyLock;

use bytes::BytesMut;
use harmonia_protocol::derivation_output::{DerivationOutput, OutputName};
use harmonia_protocol::operation::{
    AddIndirectRoot, AddTempRoot, EnsurePath, FindRoots, IsValidPath, Operation, QueryAllValidPaths,
    QueryDerivationOutputMap, QueryMissing, QueryPathFromHashPart, QueryPathInfo, QueryRealisation, QueryReferrers,
    QueryValidDerivers, QueryValidPaths,
};
use harmonia_protocol::session::Session;
use harmonia_protocol::wire::{DecodeErrorKind, Reader, Scanner};
use harmonia_protocol::{HashPart, StorePath};

use super::handshake::sessions;
use super::{Parameters, ends};

pub(super) static PATH: LazyLock<StorePath> = LazyLock::new(|| {
    StorePath::from_base_name("3dcxyc6w8pkhc4nhbdpkq7shq6jkp94j-b.drv").expect("a name as Nix makes them")
});

static BY_PATH: LazyLock<DerivationOutput> =
    LazyLock::new(|| DerivationOutput::Path(PATH.clone(), OutputName::new("out").expect("a name as Nix makes them")));

static BY_HASH: LazyLock<DerivationOutput> = LazyLock::new(|| {
    DerivationOutput::Hashed(format!("sha256:{}!out", "7b".repeat(32)).parse().expect("an id as Nix makes them"))
});

pub(super) fn property(input: &[u8]) {
    let mut parameters = Parameters(input);
    let (operation, session, piece) = (parameters.byte(), parameters.byte(), parameters.piece());
    let session = &sessions()[usize::from(session) % sessions().len()];
    let reply = parameters.rest();
    let path = &*PATH;
    match operation % 16 {
        0 => check(&IsValidPath(path), session, reply, piece),
        1 => check(&QueryPathInfo(path), session, reply, piece),
        2 => check(&QueryReferrers(path), session, reply, piece),
        3 => check(&QueryValidDerivers(path), session, reply, piece),
        4 => check(&QueryPathFromHashPart(HashPart::ZERO), session, reply, piece),
        5 => check(&QueryValidPaths(&[]), session, reply, piece),
        6 => check(&QueryAllValidPaths, session, reply, piece),
        7 => check(&QueryDerivationOutputMap(path), session, reply, piece),
        8 => check(&QueryMissing(&[]), session, reply, piece),
        9 => check(&AddTempRoot(path), session, reply, piece),
        10 => check(&EnsurePath(path), session, reply, piece),
        11 => check(&FindRoots, session, reply, piece),
        12 => check(&QueryRealisation(&BY_PATH), session, reply, piece),
        13 => check(&QueryRealisation(&BY_HASH), session, reply, piece),
        14 => check(&AddIndirectRoot(b"/link"), session, reply, piece),
        _ => anything(reply),
    }
}

fn check<O: Operation>(operation: &O, session: &Session, bytes: &[u8], piece: usize) {
    // Of another operation there is no reply.
    if operation.encode(session, &mut BytesMut::new()).is_err() {
        return;
    }
    let scanner = || Scanner::new(operation.reply_schema(session), O::MAX_REPLY);
    let whole = scanner().advance(bytes);
    let mut pieces = scanner();
    let outcome =
        ends(bytes.len(), piece).map(|end| pieces.advance(&bytes[..end])).find(|outcome| *outcome != Ok(None));
    assert_eq!(outcome.unwrap_or(Ok(None)), whole, "in pieces of {piece}");

    let Ok(Some(length)) = whole else { return };
    assert_eq!(scanner().advance(&bytes[..length - 1]), Ok(None), "it ends before its last byte");
    let mut reader = Reader::new(&bytes[..length]);
    match operation.decode(session, &mut reader) {
        Ok(_) => assert_eq!(reader.finish(), Ok(()), "it is not read to its end"),
        Err(error) => assert_ne!(error.kind, DecodeErrorKind::Truncated, "the scanner found an end, the reader none"),
    }
}

/// Without a layout in front.
fn anything(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    if let Ok(strings) = reader.repeat("strings", |reader| reader.bytes("string")) {
        let mut again = BytesMut::new();
        harmonia_protocol::wire::put_strings(&mut again, strings.iter());
        assert_eq!(again, bytes[..again.len()], "what was read is written as it was");
        assert_eq!(reader.finish().is_ok(), again.len() == bytes.len());
    }
}
