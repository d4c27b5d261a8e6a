//! The parser, with tokens that the tests construct.

use crate::nar::parser::parse;
use crate::nar::{Event, Feed, NameError, NarError, Object, Parser};
use crate::stderr::ERROR as ERROR_TAG;

const WORD: usize = 8;
const CONTENTS: &str = "a file's contents";

const FILE: [&str; 6] = ["nix-archive-1", "(", "type", "regular", "contents", "hello"];
const DIRECTORY: [&str; 4] = ["nix-archive-1", "(", "type", "directory"];

fn token(bytes: &[u8]) -> Vec<u8> {
    let padding = &[0; 7][..bytes.len().wrapping_neg() % WORD];
    [&(bytes.len() as u64).to_le_bytes(), bytes, padding].concat()
}

fn tokens<'a>(tokens: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    tokens.into_iter().flat_map(|bytes| token(bytes.as_bytes())).collect()
}

fn entry(name: &str) -> [&str; 10] {
    ["entry", "(", "name", name, "node", "(", "type", "directory", ")", ")"]
}

fn feed(nar: &[u8], limit: u64) -> Result<Feed, NarError> {
    Parser::new(limit).feed(nar, &mut |_| ())
}

fn first_event(nar: &[u8]) -> String {
    let mut events = Vec::new();
    parse(nar, &mut |event| events.push(format!("{event:?}"))).unwrap();
    events.swap_remove(0)
}

#[test]
fn contents_of_a_root_file_are_at_96_or_at_128_if_it_is_executable() {
    let object = |executable, offset| {
        format!("{:?}", Event::Object { name: None, object: Object::Regular { executable, size: 5, offset } })
    };
    let nar = tokens(FILE.into_iter().chain([")"]));
    assert_eq!(&nar[96..101], b"hello");
    assert_eq!(first_event(&nar), object(false, 96));

    let nar = tokens(FILE[..4].iter().copied().chain(["executable", "", "contents", "hello", ")"]));
    assert_eq!(&nar[128..133], b"hello");
    assert_eq!(first_event(&nar), object(true, 128));
}

#[test]
fn a_wrong_keyword_is_told_with_what_should_stand_there() {
    let nar = tokens(["nix-archive-2"]);
    assert_eq!(feed(&nar, 1000), Err(NarError::Keyword { offset: 0, expected: "\"nix-archive-1\"" }));
    let nar = tokens(["nix-archive-1", "(", "type", "fifo"]);
    let error = feed(&nar, 1000).unwrap_err();
    assert_eq!(error.to_string(), "NAR offset 56: expected \"regular\", \"symlink\" or \"directory\"");
    for broken in [
        tokens(FILE[..4].iter().copied().chain([")"])),
        tokens(FILE[..4].iter().copied().chain(["executable", "yes"])),
        tokens(FILE.into_iter().chain(["contents"])),
        tokens(DIRECTORY.into_iter().chain(["entry", "(", "node"])),
        tokens(DIRECTORY.into_iter().chain(entry("a")).chain(["("])),
    ] {
        assert!(matches!(feed(&broken, 1000), Err(NarError::Keyword { .. })));
    }
}

#[test]
fn entries_must_be_sorted_and_named_as_files_can_be() {
    let members = |names: &[&'static str]| {
        tokens(DIRECTORY.into_iter().chain(names.iter().flat_map(|name| entry(name))).chain([")"]))
    };
    assert!(matches!(feed(&members(&["B", "a", "a-dir", "a.b"]), 10_000), Ok(Feed::Finished { .. })));
    // The first name is at 80 + 3 tokens of 16 bytes; its entry has 168 bytes.
    for (names, offset) in [(&["a", "a"], 296), (&["b", "a"], 296), (&["aa", "a"], 296)] {
        assert_eq!(feed(&members(names), 10_000), Err(NarError::Order { offset }));
    }
    for (name, reason) in [
        ("", NameError::Empty),
        (".", NameError::Reserved),
        ("..", NameError::Reserved),
        ("a/b", NameError::Byte(b'/')),
        ("a\0", NameError::Byte(0)),
    ] {
        assert_eq!(feed(&members(&[name]), 10_000), Err(NarError::Name { offset: 128, reason }));
    }
}

#[test]
fn names_are_compared_within_their_own_directory_only() {
    let inner = ["entry", "(", "name", "b", "node", "(", "type", "directory"];
    let nar = DIRECTORY.into_iter().chain(inner).chain(entry("a")).chain([")", ")"]);
    let sorted = tokens(nar.clone().chain(entry("c")).chain([")"]));
    assert!(matches!(feed(&sorted, 10_000), Ok(Feed::Finished { .. })));
    let unsorted = tokens(nar.chain(entry("a")).chain([")"]));
    assert!(matches!(feed(&unsorted, 10_000), Err(NarError::Order { .. })));
}

#[test]
fn a_length_is_refused_before_its_bytes_arrive() {
    let nar = tokens(DIRECTORY.into_iter().chain(["entry", "(", "name"]));
    for (length, error) in [
        (256, NarError::Length { offset: 128, field: "an entry's name", length: 256, max: 255 }),
        (u64::MAX, NarError::Length { offset: 128, field: "an entry's name", length: u64::MAX, max: 255 }),
        (255, NarError::PastEnd { offset: 128, field: "an entry's name", length: 255, limit: 200 }),
    ] {
        let nar = [&nar[..], &u64::to_le_bytes(length)].concat();
        assert_eq!(feed(&nar, 200), Err(error));
    }
    for length in [u64::MAX, u64::MAX - 96, 4000] {
        let nar = [&tokens(FILE[..5].iter().copied())[..], &u64::to_le_bytes(length)].concat();
        assert_eq!(feed(&nar, 4000), Err(NarError::PastEnd { offset: 88, field: CONTENTS, length, limit: 4000 }));
    }
}

#[test]
fn padding_must_be_zero() {
    for (at, field) in [(35, "\"(\""), (101, CONTENTS), (103, CONTENTS)] {
        let mut nar = tokens(FILE.into_iter().chain([")"]));
        nar[at] = 1;
        assert_eq!(feed(&nar, 1000), Err(NarError::Padding { offset: at as u64, field }));
    }
}

#[test]
fn a_file_of_as_many_bytes_as_the_error_tag_is_a_file_where_there_is_room_for_it() {
    let nar = [&tokens(FILE[..5].iter().copied())[..], &ERROR_TAG.to_le_bytes()].concat();
    assert_eq!(feed(&nar, 96 + ERROR_TAG), Ok(Feed::More));
    assert_eq!(feed(&nar, 95 + ERROR_TAG), Ok(Feed::ErrorFrame { consumed: 96 }));
}

#[test]
fn a_nar_in_memory_must_end_where_the_memory_does() {
    let nar = tokens(FILE.into_iter().chain([")"]));
    assert_eq!(parse(&nar, &mut |_| ()), Ok(()));
    assert_eq!(parse(&nar[..104], &mut |_| ()), Err(NarError::Truncated));
    let longer = [&nar[..], b"x"].concat();
    assert_eq!(parse(&longer, &mut |_| ()), Err(NarError::Trailing { offset: nar.len() as u64 }));
}
