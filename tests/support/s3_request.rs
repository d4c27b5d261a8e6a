//! Requests for objects, as a proxy sees them.

use std::sync::atomic::{AtomicUsize, Ordering};

static NEXT: AtomicUsize = AtomicUsize::new(0);

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Names of objects.
    List,
    /// `HASH.narinfo`.
    NarInfo,
    /// A compressed NAR, or a part of its upload.
    Nar,
    /// `HASH.ls`.
    Listing,
    /// A segment of the index.
    Segment,
    /// A host file.
    Host,
    /// Anything else.
    Other,
}

/// A request with its outcome.
#[derive(Clone, Debug)]
pub(crate) struct S3Request {
    /// Number among all requests of the test binary.
    pub(super) number: usize,
    pub(crate) method: String,
    pub(crate) kind: Kind,
    /// Key in the bucket, with the prefix; empty for lists.
    pub(crate) key: String,
    pub(crate) query: String,
    pub(crate) range: Option<String>,
    /// Length of its body, in bytes.
    pub(crate) length: u64,
    /// Bytes of its body that the server was sent.
    pub(crate) sent: u64,
    /// Bytes of the answer's body that were passed on.
    pub(crate) received: u64,
    /// Status of the answer; zero without one.
    pub(crate) status: u16,
}

impl S3Request {
    /// Parses the head of a request.
    pub(super) fn parse(head: &str) -> Option<Self> {
        let (line, fields) = head.split_once("\r\n")?;
        let mut words = line.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        // After the bucket.
        let key = path.strip_prefix('/')?.split_once('/').map_or("", |(_, key)| key);
        let key = percent_encoding::percent_decode_str(key).decode_utf8().ok()?.into_owned();
        let field = |wanted: &str| {
            let mut fields = fields.lines().filter_map(|field| field.split_once(": "));
            fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.to_owned())
        };
        let length = field("content-length").and_then(|length| length.parse().ok()).unwrap_or_default();
        let (kind, query, range) = (kind_of(&key), query.to_owned(), field("range"));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Some(Self { number, method, kind, key, query, range, length, sent: 0, received: 0, status: 0 })
    }

    /// Returns whether it has this method, or any if that is empty, and is of this kind or any.
    pub(crate) fn is(&self, method: &str, kind: Option<Kind>) -> bool {
        (method.is_empty() || method == self.method) && kind.is_none_or(|kind| kind == self.kind)
    }

    /// Returns whether it changes the bucket.
    pub(crate) fn is_write(&self) -> bool {
        !matches!(&*self.method, "GET" | "HEAD")
    }

    /// Returns whether its URL is signed, as clients get it.
    pub(crate) fn is_presigned(&self) -> bool {
        self.query.contains("X-Amz-Signature=")
    }
}

/// Returns a head for a connection of its own and a body of this length.
pub(super) fn head_with_length(head: &str, length: u64) -> String {
    let (line, fields) = head.split_once("\r\n").unwrap_or((head, ""));
    let mut new = format!("{line}\r\nConnection: close\r\n");
    for field in fields.lines().filter(|field| !field.is_empty()) {
        let name = field.split(':').next().unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            new.push_str(&[name, ": ", &length.to_string(), "\r\n"].concat());
        } else if !name.eq_ignore_ascii_case("connection") {
            new.push_str(&[field, "\r\n"].concat());
        }
    }
    new + "\r\n"
}

/// Returns what an object is, by its name below any prefix.
fn kind_of(key: &str) -> Kind {
    let name = key.rsplit('/').next().unwrap_or_default();
    match name.split_once('.').map_or("", |(_, extension)| extension) {
        _ if name.is_empty() => Kind::List,
        _ if key.contains("harmonia/v1/index/") => Kind::Segment,
        _ if key.contains("harmonia/v1/hosts/") => Kind::Host,
        "narinfo" => Kind::NarInfo,
        "nar.zst" => Kind::Nar,
        "ls" => Kind::Listing,
        _ => Kind::Other,
    }
}
