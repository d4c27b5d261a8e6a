//! One line of the audit log: a JSON object in ASCII, so that it is one line wherever it is shown.

use std::fmt::Write as _;
use std::time::SystemTime;

use serde::Serialize;

use super::event::{Event, Object};
use crate::log_lines::timestamp;

/// Fields of a line, in their order.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

/// Number of events that a line stands for, and the time of the last one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repeats {
    pub(super) count: u64,
    pub(super) last: SystemTime,
}

/// Appends the line of an event, including its line feed. A line that stands for others has the first one's fields, and the sum of
/// their bytes.
pub(super) fn write(event: &Event, repeats: Option<Repeats>, out: &mut Vec<u8>) {
    let response = event.response.as_ref();
    let request = response.map(|response| &response.request);
    let object = request.map(|request| &request.object);
    let line = Line {
        time: timestamp(event.at),
        event: event.kind.label(),
        version: response.is_none().then_some(env!("CARGO_PKG_VERSION")),
        principal: request.map(|request| &*request.principal),
        address: request
            .map(|request| request.address.map_or_else(|| "unix:".to_owned(), |address| address.to_string())),
        path: object.and_then(|object| if let Object::StorePath(path) = object { Some(&**path) } else { None }),
        url: object.and_then(|object| if let Object::Url(url) = object { Some(&**url) } else { None }),
        status: response.map(|response| response.status),
        reason: response.and_then(|response| response.reason.as_deref()),
        bytes: response.map(|response| response.bytes),
        count: repeats.map(|repeats| repeats.count),
        last_time: repeats.map(|repeats| timestamp(repeats.last)),
        request_id: request.map(|request| &*request.request_id),
    };
    // Strings and numbers can always be serialized.
    let text = serde_json::to_string(&line).unwrap_or_default();
    out.extend_from_slice(ascii(&text).as_bytes());
    out.push(b'\n');
}

/// Escapes what is not printable ASCII, all of which is in strings (RFC 8259, section 7).
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let mut units = [0; 2];
    for character in json.chars() {
        if character == ' ' || character.is_ascii_graphic() {
            text.push(character);
        } else {
            for unit in character.encode_utf16(&mut units) {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::event::{AuditedRequest, Kind};
    use super::*;

    fn text(event: &Event, repeats: Option<Repeats>) -> String {
        let mut out = Vec::new();
        write(event, repeats, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn event(kind: Kind, principal: &str, object: Object, reason: Option<&str>) -> Event {
        let request = AuditedRequest::new(principal, Some([192, 0, 2, 1].into()), object, "1f-2");
        let mut event = Event::of_request(kind, request, 403, 7, reason);
        event.at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        event
    }

    #[test]
    fn a_line_has_what_is_known_in_a_fixed_order() {
        let path = Object::StorePath("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-hello".into());
        let read = event(Kind::Read, "user:alice", path, None);
        let repeats = Repeats { count: 3, last: read.at + Duration::from_secs(1) };
        assert_eq!(
            text(&read, Some(repeats)),
            "{\"time\":\"2023-11-14T22:13:20.123Z\",\"event\":\"read\",\"principal\":\"user:alice\",\"address\":\"192.0.2.1\",\
             \"path\":\"/nix/store/0123456789abcdfghijklmnpqrsvwxyz-hello\",\"status\":403,\"bytes\":7,\"count\":3,\
             \"last_time\":\"2023-11-14T22:13:21.123Z\",\"request_id\":\"1f-2\"}\n"
        );
        let refused = event(Kind::PushRefused, "jwt:acme/app", Object::url("/nar/\"x"), Some("no\nsignature"));
        let line: Value = serde_json::from_str(&text(&refused, None)).unwrap();
        assert_eq!((&line["url"], &line["reason"]), (&json!("/nar/\\x22x"), &json!("no\\x0asignature")));
        let start = text(&Event::of_program(Kind::Start), None);
        assert!(
            start.ends_with(&format!("\"event\":\"start\",\"version\":\"{}\"}}\n", env!("CARGO_PKG_VERSION"))),
            "{start}"
        );
    }

    proptest! {
        #[test]
        fn whatever_a_client_sends_is_on_one_line_of_bounded_length(
            principal in "(\\PC|[\\x00-\\x9f]){0,600}", url in "(\\PC|[\\x00-\\x9f]){0,600}", reason in "(\\PC|\n){0,600}",
        ) {
            let text = text(&event(Kind::Refused, &principal, Object::url(&url), Some(&reason)), None);
            let line = text.strip_suffix('\n').unwrap();
            prop_assert!(line.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) && line.len() < 9000, "{line}");
            let value: Value = serde_json::from_str(line).unwrap();
            let expected: String = principal.chars().take(512).collect();
            prop_assert_eq!(value["principal"].as_str(), Some(&*expected));
        }
    }
}
