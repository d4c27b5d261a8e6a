//! narinfos: what is parsed is rendered so that it parses to the same, and whatever a daemon says of a path makes a
//! narinfo that the strictest reader takes.

use harmonia_protocol::StoreDir;
use harmonia_protocol::narinfo::{Compression, NarInfo, Url};
use harmonia_protocol::operation::{Operation as _, QueryPathInfo};
use harmonia_protocol::wire::{Reader, Scanner};

use super::Parameters;
use super::handshake::sessions;
use super::wire::PATH;

/// Fields that have more than one notation, of which one is rendered.
const REWRITTEN: [&str; 2] = ["FileHash", "NarHash"];
const KEPT: [&str; 9] =
    ["StorePath", "URL", "Compression", "FileSize", "NarSize", "References", "Deriver", "Sig", "CA"];

pub(super) fn property(input: &[u8]) {
    let mut parameters = Parameters(input);
    let is_text = parameters.byte() % 2 == 0;
    let bytes = parameters.rest();
    if is_text { of_a_text(bytes) } else { of_a_reply(bytes) }
}

fn of_a_text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(info) = NarInfo::parse(text, &StoreDir::default()) else { return };
    let rendered = is_rendered_well(&info);
    for line in text.lines() {
        let (name, _) = line.split_once(": ").expect("a field");
        if KEPT.contains(&name) {
            assert!(rendered.lines().any(|kept| kept == line), "{line:?} was taken for something else:\n{rendered}");
        }
    }
}

fn of_a_reply(bytes: &[u8]) {
    let session = &sessions()[0];
    let question = QueryPathInfo(&PATH);
    let Ok(Some(length)) = Scanner::new(question.reply_schema(session), bytes.len()).advance(bytes) else { return };
    let Ok(Some(info)) = question.decode(session, &mut Reader::new(&bytes[..length])) else { return };
    let url = Url::new("nar/x.nar").expect("a relative URL");
    let narinfo = NarInfo::from_path_info(&PATH, &info, &session.store, url, Compression::None, Vec::new());
    // One without a size is never rendered.
    if narinfo.nar_size > 0 {
        is_rendered_well(&narinfo);
    }
    let fingerprint = info.fingerprint(&PATH, &session.store);
    assert_eq!(fingerprint.matches(';').count(), 4, "{fingerprint:?}");
    assert!(fingerprint.bytes().all(|byte| byte.is_ascii_graphic()), "{fingerprint:?}");
}

fn is_rendered_well(info: &NarInfo) -> String {
    let store = StoreDir::default();
    let rendered = info.render(&store);
    assert_eq!(NarInfo::parse(&rendered, &store).as_ref(), Ok(info), "{rendered}");
    assert!(!rendered.contains(|c: char| c.is_control() && c != '\n'), "{rendered:?}");
    for name in KEPT.iter().chain(&REWRITTEN).filter(|name| **name != "Sig") {
        let lines = rendered.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(": ")));
        assert!(lines.count() <= 1, "{name} more than once:\n{rendered}");
    }
    rendered
}
