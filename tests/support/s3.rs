//! Client of the S3 API that signs requests (AWS Signature Version 4) and returns responses as they are: it neither retries
//! nor follows redirects, and encodes nothing that the caller did not ask for.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::{digest, hmac};
use time::OffsetDateTime;

use super::http::{Http, Response};

/// Characters that a signature has encoded: all but those that RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const IN_PATHS: &AsciiSet = &RESERVED.remove(b'/');
/// Payload hash of presigned requests, whose body nobody knows yet.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// Client of a bucket.
#[derive(Clone)]
pub(crate) struct S3 {
    address: SocketAddr,
    region: String,
    access_key: String,
    secret_key: String,
    bucket: String,
    /// How far the clock is ahead, or behind.
    skew: (Duration, Duration),
}

/// A page of a list.
pub(crate) struct Page {
    pub(crate) keys: Vec<String>,
    /// Token of the next page.
    pub(crate) next: Option<String>,
}

impl S3 {
    pub(crate) fn new(address: SocketAddr, region: &str, access_key: &str, secret_key: &str, bucket: &str) -> Self {
        let [region, access_key, secret_key, bucket] = [region, access_key, secret_key, bucket].map(str::to_owned);
        Self { address, region, access_key, secret_key, bucket, skew: Default::default() }
    }

    /// Changes the secret key, to one that is wrong.
    pub(crate) fn with_secret_key(self, secret_key: &str) -> Self {
        Self { secret_key: secret_key.to_owned(), ..self }
    }

    /// Sets the clock behind by this time.
    pub(crate) fn behind_by(self, time: Duration) -> Self {
        Self { skew: (Duration::ZERO, time), ..self }
    }

    /// Sends a request for an object, or for the bucket if the key is empty, and reads the response.
    pub(crate) fn try_ask(
        &self,
        method: &str,
        key: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Response> {
        let (path, query, time) = (self.path(key), canonical_query(query), self.now());
        let (hash, host) = (hex(digest::digest(&digest::SHA256, body).as_ref()), self.address.to_string());
        // Sorted by name.
        let signed = [("host", &*host), ("x-amz-content-sha256", &hash), ("x-amz-date", &time)];
        let request = canonical_request(method, &path, &query, &signed, &hash);
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={}, Signature={}",
            self.access_key,
            self.scope(&time),
            names(&signed),
            self.signature(&time, &request)
        );
        let mut head = format!("{method} {path}{}{query} HTTP/1.1\r\n", if query.is_empty() { "" } else { "?" });
        let length = body.len().to_string();
        let own = [("authorization", &*authorization), ("content-length", &length), ("connection", "close")];
        for (name, value) in signed.iter().chain(&own).chain(headers) {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        head.push_str("\r\n");
        Http::new(self.address).request(&[head.as_bytes(), body].concat())
    }

    /// Does as [`Self::try_ask`]; panics unless it receives a complete response.
    pub(crate) fn ask(
        &self,
        method: &str,
        key: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let response = self.try_ask(method, key, query, headers, body);
        let response = response.unwrap_or_else(|error| panic!("{method} {key}: {error}"));
        assert!(response.complete, "{method} {key}: the body ended after {} bytes", response.body.len());
        response
    }

    pub(crate) fn put(&self, key: &str, body: &[u8]) -> Response {
        self.ask("PUT", key, &[], &[], body)
    }

    /// Puts an object unless there is one.
    pub(crate) fn put_new(&self, key: &str, body: &[u8]) -> Response {
        self.ask("PUT", key, &[], &[("if-none-match", "*")], body)
    }

    pub(crate) fn get(&self, key: &str) -> Response {
        self.ask("GET", key, &[], &[], b"")
    }

    pub(crate) fn delete(&self, key: &str) -> Response {
        self.ask("DELETE", key, &[], &[], b"")
    }

    /// Begins a multipart upload; returns its ID.
    pub(crate) fn begin(&self, key: &str) -> String {
        let response = self.ask("POST", key, &[("uploads", "")], &[], b"");
        assert_eq!(response.status, 200, "{}", response.text());
        elements(response.text(), "UploadId").remove(0)
    }

    /// Uploads a part, numbered from 1; returns its entity tag.
    pub(crate) fn part(&self, key: &str, upload: &str, number: usize, body: &[u8]) -> String {
        let query = [("partNumber", &*number.to_string()), ("uploadId", upload)];
        let response = self.ask("PUT", key, &query, &[], body);
        assert_eq!(response.status, 200, "{}", response.text());
        response.header("etag").unwrap().to_owned()
    }

    /// Completes a multipart upload of these parts. An engine may say 200 at once and in the body that it failed.
    pub(crate) fn complete(&self, key: &str, upload: &str, parts: &[String], headers: &[(&str, &str)]) -> Response {
        let mut body = String::from("<CompleteMultipartUpload>");
        for (number, tag) in (1..).zip(parts) {
            write!(body, "<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>").unwrap();
        }
        body.push_str("</CompleteMultipartUpload>");
        self.ask("POST", key, &[("uploadId", upload)], headers, body.as_bytes())
    }

    /// Lists at most this many keys, with these further parameters.
    pub(crate) fn list(&self, prefix: &str, max: usize, further: &[(&str, &str)]) -> Page {
        let max = max.to_string();
        let query = [&[("list-type", "2"), ("max-keys", &*max), ("prefix", prefix)], further].concat();
        let response = self.ask("GET", "", &query, &[], b"");
        assert_eq!(response.status, 200, "{}", response.text());
        let text = response.text();
        Page { keys: elements(text, "Key"), next: elements(text, "NextContinuationToken").pop() }
    }

    /// Returns path and query of a request that anybody may send for this time, whatever its other headers.
    pub(crate) fn presign(&self, method: &str, key: &str, valid: Duration) -> String {
        let (path, time) = (self.path(key), self.now());
        let query = canonical_query(&[
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", &format!("{}/{}", self.access_key, self.scope(&time))),
            ("X-Amz-Date", &time),
            ("X-Amz-Expires", &valid.as_secs().to_string()),
            ("X-Amz-SignedHeaders", "host"),
        ]);
        let request = canonical_request(method, &path, &query, &[("host", &self.address.to_string())], UNSIGNED);
        format!("{path}?{query}&X-Amz-Signature={}", self.signature(&time, &request))
    }

    fn path(&self, key: &str) -> String {
        let slash = if key.is_empty() { "" } else { "/" };
        format!("/{}{slash}{}", self.bucket, utf8_percent_encode(key, IN_PATHS))
    }

    /// Returns the time of this client's clock: `20260101T000000Z`.
    fn now(&self) -> String {
        let now = OffsetDateTime::from(SystemTime::now() + self.skew.0 - self.skew.1);
        let (hour, minute, second) = now.time().as_hms();
        let (year, month, day) = now.to_calendar_date();
        format!("{year}{:02}{day:02}T{hour:02}{minute:02}{second:02}Z", u8::from(month))
    }

    fn scope(&self, time: &str) -> String {
        format!("{}/{}/s3/aws4_request", &time[..8], self.region)
    }

    fn signature(&self, time: &str, request: &str) -> String {
        let hash = hex(digest::digest(&digest::SHA256, request.as_bytes()).as_ref());
        let scope = self.scope(time);
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hash}");
        let secret = format!("AWS4{}", self.secret_key).into_bytes();
        let key = scope.split('/').fold(secret, |key, part| mac(&key, part));
        hex(&mac(&key, &text))
    }
}

/// Returns the texts of all elements of this name, unescaped.
pub(crate) fn elements(xml: &str, name: &str) -> Vec<String> {
    let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
    let texts = xml.split(&begin).skip(1).map(|rest| rest.split(&end).next().unwrap());
    texts
        .map(|text| text.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
        .collect()
}

/// Returns the code of an error, empty if the body has none.
pub(crate) fn error_code(response: &Response) -> String {
    elements(response.text(), "Code").pop().unwrap_or_default()
}

fn canonical_query(query: &[(&str, &str)]) -> String {
    let encoded = |text| utf8_percent_encode(text, RESERVED);
    let mut pairs: Vec<_> = query.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    pairs.sort_unstable();
    pairs.join("&")
}

fn canonical_request(method: &str, path: &str, query: &str, headers: &[(&str, &str)], hash: &str) -> String {
    let lines = headers.iter().map(|(name, value)| [name, ":", value, "\n"].concat()).collect::<Vec<_>>().concat();
    format!("{method}\n{path}\n{query}\n{lines}\n{}\n{hash}", names(headers))
}

fn names(headers: &[(&str, &str)]) -> String {
    headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";")
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}
