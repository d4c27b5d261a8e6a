//! Tests and properties of the scanner and the reader together.

use bytes::{BufMut, BytesMut};
use proptest::prelude::*;

use super::*;

const PAIRS: Schema = &[
    field("flag", Shape::Flag(&[field("text", Shape::Bytes { max: 9 })])),
    field(
        "pairs",
        Shape::Repeat { max: 3, item: &[field("key", Shape::Bytes { max: 5 }), field("value", Shape::U64)] },
    ),
    field("choice", Shape::Choice(&[(7, &[]), (8, &[field("eight", Shape::U64)])])),
];

fn message() -> BytesMut {
    let mut out = BytesMut::new();
    put_bool(&mut out, true);
    put_bytes(&mut out, b"ninebytes");
    put_u64(&mut out, 2);
    for key in [&b"k"[..], b"keyed"] {
        put_bytes(&mut out, key);
        put_u64(&mut out, 5);
    }
    put_u64(&mut out, 8);
    put_u64(&mut out, 1);
    out
}

fn scan(bytes: &[u8]) -> Result<Option<usize>, DecodeError> {
    Scanner::new(PAIRS, 1000).advance(bytes)
}

#[test]
fn the_end_is_found_at_the_last_byte_and_not_before() {
    let message = message();
    for cut in 0..message.len() {
        assert_eq!(scan(&message[..cut]), Ok(None), "{cut}");
    }
    assert_eq!(scan(&message), Ok(Some(message.len())));
    let mut longer = message.clone();
    longer.put_slice(b"the next message");
    assert_eq!(scan(&longer), Ok(Some(message.len())));
}

#[test]
fn caps_padding_and_tags_are_checked_before_the_bytes_are_there() {
    let with = |at: usize, value: u64| {
        let mut message = message();
        message[at..at + 8].copy_from_slice(&value.to_le_bytes());
        scan(&message[..at + 8])
    };
    assert_eq!(with(8, 1 << 62), Err(DecodeErrorKind::TooLong { length: 1 << 62, max: 9 }.in_field("text")));
    assert_eq!(with(8, 10), Err(DecodeErrorKind::TooLong { length: 10, max: 9 }.in_field("text")));
    assert_eq!(with(32, u64::MAX), Err(DecodeErrorKind::TooMany { count: u64::MAX, max: 3 }.in_field("pairs")));
    let end = message().len();
    assert_eq!(with(end - 16, 9), Err(DecodeErrorKind::UnknownTag(9).in_field("choice")));
    let mut padded = message();
    padded[31] = 1;
    assert_eq!(scan(&padded), Err(DecodeErrorKind::Padding.in_field("text")));
    assert_eq!(Scanner::new(PAIRS, 40).advance(&message()), Err(DecodeErrorKind::MessageTooLarge(40).in_field("key")));
}

#[test]
fn a_reader_errs_on_what_is_missing_wrong_or_left_over() {
    let mut out = BytesMut::new();
    put_bytes(&mut out, b"abc");
    for cut in 0..out.len() {
        assert_eq!(Reader::new(&out[..cut]).bytes("x"), Err(DecodeErrorKind::Truncated.in_field("x")), "{cut}");
    }
    assert_eq!(Reader::new(&out).str("x"), Ok("abc"));
    assert_eq!(Reader::new(&out).finish(), Err(DecodeErrorKind::Trailing(16).in_field("message")));
    out[8] = 0xff;
    assert_eq!(Reader::new(&out).str("x"), Err(DecodeErrorKind::Utf8.in_field("x")));
    out[15] = 1;
    assert_eq!(Reader::new(&out).bytes("x"), Err(DecodeErrorKind::Padding.in_field("x")));
}

proptest! {
    #[test]
    fn a_message_in_any_pieces_ends_at_the_same_place(cuts in proptest::collection::vec(0usize..200, 0..20)) {
        let message = message();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(message.len())).collect();
        cuts.sort_unstable();
        let mut scanner = Scanner::new(PAIRS, 1000);
        for cut in cuts.into_iter().filter(|cut| *cut < message.len()) {
            prop_assert_eq!(scanner.advance(&message[..cut]), Ok(None));
        }
        prop_assert_eq!(scanner.advance(&message), Ok(Some(message.len())));
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = scan(&bytes);
        let mut reader = Reader::new(&bytes);
        let _ = reader.repeat("x", |reader| reader.bytes("y"));
    }
}
