//! One line of the access log.
//!
//! It stays one line whatever a client sends: values from clients are truncated, and quotes, backslashes and bytes that are not
//! printable ASCII are written as `\xHH`. No query and no other header is logged.

use std::io::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use serde_json::json;
use time::OffsetDateTime;

use crate::config::AccessLogFormat;
use crate::log_lines::{escaped, timestamp};

const MAX_METHOD: usize = 16;
const MAX_TARGET: usize = 512;
const MAX_USER: usize = 256;
const MAX_USER_AGENT: usize = 256;
/// Maximum length of a request id, in bytes. A longer one from a proxy is not used.
pub(crate) const MAX_REQUEST_ID: usize = 64;

/// A response that has been sent.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    at: SystemTime,
    client: Option<IpAddr>,
    method: String,
    target: String,
    protocol: &'static str,
    user_agent: Option<String>,
    user: Option<String>,
    request_id: String,
    /// Base name of the store path that the request is for, if it is known.
    pub store_path: Option<String>,
    /// Status of the response.
    pub status: u16,
    /// Reason of a 404, 502 or 503.
    pub reason: Option<&'static str>,
    /// Result of the cache behind the endpoint, e.g. `hit`.
    pub cache: Option<&'static str>,
    /// Bytes of the body that were sent.
    pub bytes: u64,
    /// Time from the request's head to the response's head.
    pub first_byte: Duration,
    /// Time from the request's head to the end of the response's body.
    pub total: Duration,
    /// Side that ended the body early, if any: `client` or `server`.
    pub aborted_by: Option<&'static str>,
}

impl Record {
    /// Creates the record of a request received now, from this address or on a Unix socket, for this path.
    #[must_use]
    pub(crate) fn new(client: Option<IpAddr>, method: &[u8], path: &[u8], protocol: &'static str) -> Self {
        Self {
            at: SystemTime::now(),
            client,
            method: escaped(method, MAX_METHOD),
            target: escaped(path, MAX_TARGET),
            protocol,
            user_agent: None,
            user: None,
            request_id: String::new(),
            store_path: None,
            status: 0,
            reason: None,
            cache: None,
            bytes: 0,
            first_byte: Duration::ZERO,
            total: Duration::ZERO,
            aborted_by: None,
        }
    }

    /// Sets the client's `User-Agent`.
    pub(crate) fn set_user_agent(&mut self, agent: &[u8]) {
        self.user_agent = Some(escaped(agent, MAX_USER_AGENT));
    }

    /// Sets the principal that made the request, in place of the user that others log.
    pub(crate) fn set_user(&mut self, user: &str) {
        // A space would begin the next field.
        self.user = Some(escaped(user.as_bytes(), MAX_USER).replace(' ', "\\x20"));
    }

    /// Sets the request id.
    pub(crate) fn set_request_id(&mut self, id: &[u8]) {
        self.request_id = escaped(id, MAX_REQUEST_ID);
    }

    /// Appends the line, including its line feed.
    pub(super) fn write(&self, format: AccessLogFormat, out: &mut Vec<u8>) {
        // Writing to memory cannot fail.
        let _ = match format {
            AccessLogFormat::Text => out.write_all(self.text().as_bytes()),
            AccessLogFormat::Json => out.write_all(self.json().as_bytes()),
        };
        out.push(b'\n');
    }

    /// Formats the Combined Log Format of Apache and nginx, followed by further fields.
    fn text(&self) -> String {
        let at = OffsetDateTime::from(self.at);
        let month = &at.month().to_string()[..3];
        let or_none = |value: Option<&str>| value.map_or_else(|| "-".to_owned(), str::to_owned);
        let aborted = self.aborted_by.map(|by| ["aborted_by_", by].concat());
        format!(
            "{} - {} [{:02}/{month}/{}:{:02}:{:02}:{:02} +0000] \"{} {} {}\" {} {} \"-\" \"{}\" {} {:.6} {:.6} {} {} {}",
            self.client(),
            or_none(self.user.as_deref()),
            at.day(),
            at.year(),
            at.hour(),
            at.minute(),
            at.second(),
            self.method,
            self.target,
            self.protocol,
            self.status,
            self.bytes,
            or_none(self.user_agent.as_deref()),
            or_none(self.store_path.as_deref()),
            self.first_byte.as_secs_f64(),
            self.total.as_secs_f64(),
            or_none(self.cache),
            or_none(aborted.as_deref().or(self.reason)),
            or_none(Some(self.request_id.as_str()).filter(|id| !id.is_empty())),
        )
    }

    fn json(&self) -> String {
        let mut value = json!({
            "time": timestamp(self.at),
            "client": self.client(),
            "user": self.user,
            "method": self.method,
            "target": self.target,
            "protocol": self.protocol,
            "status": self.status,
            "bytes": self.bytes,
            "first_byte_seconds": self.first_byte.as_secs_f64(),
            "seconds": self.total.as_secs_f64(),
            "user_agent": self.user_agent,
            "request_id": self.request_id,
            "store_path": self.store_path,
            "cache": self.cache,
            "reason": self.reason,
            "aborted_by": self.aborted_by,
        });
        if let Some(fields) = value.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        value.to_string()
    }

    fn client(&self) -> String {
        self.client.map_or_else(|| "unix:".to_owned(), |address| address.to_canonical().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> Record {
        let client = Some([192, 0, 2, 1].into());
        let mut record = Record::new(client, b"GET", b"/nar/a\"b.nar", "HTTP/1.1");
        record.at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        record.set_user_agent(b"curl/8.4.0 Nix/2.18.1\n");
        record.set_request_id(b"1f-2");
        (record.status, record.bytes, record.cache) = (200, 7, Some("hit"));
        (record.first_byte, record.total) = (Duration::from_micros(250), Duration::from_millis(1500));
        record.store_path = Some("0123456789abcdfghijklmnpqrsvwxyz-hello".to_owned());
        record
    }

    fn line(record: &Record, format: AccessLogFormat) -> String {
        let mut out = Vec::new();
        record.write(format, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_of_text_is_the_combined_format_and_more() {
        let expected = r#"192.0.2.1 - - [14/Nov/2023:22:13:20 +0000] "GET /nar/a\x22b.nar HTTP/1.1" 200 7 "-" "curl/8.4.0 Nix/2.18.1\x0a" 0123456789abcdfghijklmnpqrsvwxyz-hello 0.000250 1.500000 hit - 1f-2"#;
        assert_eq!(line(&record(), AccessLogFormat::Text), format!("{expected}\n"));
        let mut bare = Record::new(None, b"GET", b"/", "HTTP/1.0");
        (bare.at, bare.status, bare.reason) = (SystemTime::UNIX_EPOCH, 404, Some("unknown_url"));
        let expected = r#"unix: - - [01/Jan/1970:00:00:00 +0000] "GET / HTTP/1.0" 404 0 "-" "-" - 0.000000 0.000000 - unknown_url -"#;
        assert_eq!(line(&bare, AccessLogFormat::Text), format!("{expected}\n"));
        bare.aborted_by = Some("client");
        assert!(line(&bare, AccessLogFormat::Text).ends_with("- aborted_by_client -\n"));
    }

    #[test]
    fn a_line_of_json_has_what_is_known() {
        let line = line(&record(), AccessLogFormat::Json);
        let expected = json!({
            "time": "2023-11-14T22:13:20.123Z", "client": "192.0.2.1", "method": "GET", "target": "/nar/a\\x22b.nar",
            "protocol": "HTTP/1.1", "status": 200, "bytes": 7, "first_byte_seconds": 0.00025, "seconds": 1.5,
            "user_agent": "curl/8.4.0 Nix/2.18.1\\x0a", "request_id": "1f-2", "cache": "hit",
            "store_path": "0123456789abcdfghijklmnpqrsvwxyz-hello",
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), expected);
    }

    proptest! {
        #[test]
        fn whatever_a_client_sends_is_on_one_line_of_bounded_length(
            method in any::<Vec<u8>>(),
            target in proptest::collection::vec(any::<u8>(), 0..2000),
            agent in proptest::collection::vec(any::<u8>(), 0..2000),
            id in any::<Vec<u8>>(),
        ) {
            let mut record = Record::new(None, &method, &target, "HTTP/2");
            record.set_user_agent(&agent);
            record.set_request_id(&id);
            let text = line(&record, AccessLogFormat::Text);
            let is_plain = |text: &str| text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
            prop_assert!(is_plain(text.strip_suffix('\n').unwrap()) && text.len() < 1200, "{text}");
            // The request, the referrer and the agent.
            prop_assert_eq!(text.matches('"').count(), 6);
            let json = line(&record, AccessLogFormat::Json);
            prop_assert!(is_plain(json.strip_suffix('\n').unwrap()) && json.len() < 2000, "{json}");
            let value: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(&value["target"], &escaped(&target, MAX_TARGET));
        }
    }
}
