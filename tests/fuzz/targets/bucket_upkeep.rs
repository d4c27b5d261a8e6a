//! Objects of the bucket that are no paths, whoever has put them: lists of hash parts, plans and leases of garbage collections, pins,
//! and the last segments. What is read is written the same, and keeps the limits.

use harmonia::bucket::canonical;

use super::Parameters;

/// First line of a plan.
const PLAN: &[u8] = b"harmonia-gc-plan 1\ntoken a\n";
/// Limits of what is read.
const MAX_HASHES: usize = 200_000;
const MAX_PLAIN: usize = 64 << 20;
const MAX_SERIES: usize = 64;
const MAX_HOST: usize = 253;

pub(super) fn property(input: &[u8]) {
    let mut parameters = Parameters(input);
    match parameters.byte() % 8 {
        0 => of_hashes(parameters.rest()),
        1 => of_hashes(&frame(parameters.rest())),
        2 => of_a_plan(parameters.rest()),
        3 => of_a_plan(&frame(parameters.rest())),
        // The head is not found by chance.
        4 => of_a_plan(&frame(&[PLAN, parameters.rest()].concat())),
        5 => of_a_pin(parameters.rest()),
        6 => of_a_lease(parameters.rest()),
        _ => of_the_last_segments(parameters.rest()),
    }
}

fn of_hashes(object: &[u8]) {
    let Some(written) = canonical::hash_list(object) else { return };
    let (read, lines) = (text_of(object), text_of(&written));
    assert!(lines.lines().count() <= MAX_HASHES && lines.lines().all(|line| line.len() == 32));
    assert!(lines.lines().is_sorted_by(|a, b| a < b), "{lines}");
    let mut sorted: Vec<_> = read.lines().collect();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted, lines.lines().collect::<Vec<_>>());
    assert_eq!(canonical::hash_list(&written), Some(written));
}

fn of_a_plan(object: &[u8]) {
    let Some(written) = canonical::gc_plan(object) else { return };
    let text = text_of(&written);
    assert!(text.as_bytes().starts_with(b"harmonia-gc-plan 1\ntoken "), "{text}");
    for line in text.lines().skip(2) {
        let [kind, rest] = line.split_once(' ').map(<[&str; 2]>::from).expect("two words");
        let file = match kind {
            "narinfo" => {
                assert_eq!(rest.len(), 32, "{line}");
                continue;
            }
            "nar" => rest,
            "unnamed" => rest.split_once(' ').expect("a time").1,
            _ => panic!("{line}"),
        };
        // Whatever it deletes is the file of a NAR.
        assert!(file.len() > 52 && file.get(52..).is_some_and(|rest| rest.starts_with(".nar")), "{line}");
        assert!(!file.contains(['/', ' ']) && !file.contains(char::is_control), "{line}");
    }
    assert_eq!(canonical::gc_plan(&written), Some(written));
}

fn of_a_pin(bytes: &[u8]) {
    let Some(written) = canonical::pin(bytes) else { return };
    let text = std::str::from_utf8(&written).expect("JSON");
    assert!(text.chars().all(|it| it == '\n' || !it.is_control()), "{text:?}");
    assert_eq!(canonical::pin(&written).as_deref(), Some(&*written), "{text}");
}

fn of_a_lease(bytes: &[u8]) {
    let holder = canonical::gc_lease(bytes);
    // Operators read it on a terminal.
    assert!(!holder.is_empty() && holder.len() <= MAX_HOST && !holder.contains(char::is_control), "{holder:?}");
}

fn of_the_last_segments(bytes: &[u8]) {
    let text = canonical::latest(bytes);
    assert!(text.lines().count() <= MAX_SERIES);
    for line in text.lines() {
        let is_line = |input: &[u8]| input == line.as_bytes();
        assert!(bytes.split(|byte| *byte == b'\n').any(is_line), "{line} was not there");
        let (host, segment) = line.split_once('/').expect("a host");
        assert!(host.len() <= MAX_HOST && segment.len() == 22, "{line}");
    }
    assert_eq!(canonical::latest(text.as_bytes()), text);
}

fn frame(contents: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(contents, 1).expect("memory")
}

fn text_of(object: &[u8]) -> String {
    let plain = zstd::bulk::decompress(object, MAX_PLAIN).expect("a frame");
    String::from_utf8(plain).expect("text")
}
