//! URLs of `[bucket]`: where the objects are, the server that has them, and where clients can read them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Lengths of the name of a bucket, in bytes (rules of Amazon S3).
const BUCKET_NAME: std::ops::RangeInclusive<usize> = 3..=63;
/// Longest prefix, in bytes. A key has up to 1024, and the longest name below a prefix some 350.
const MAX_PREFIX: usize = 512;

/// Place of the objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketLocation {
    /// A bucket of an object store with the S3 API.
    S3 {
        /// Name of the bucket.
        bucket: String,
        /// Folder in it, without a slash at either end; may be empty.
        prefix: String,
    },
    /// A directory on this machine.
    Directory(PathBuf),
}

/// Error of a text that is not the URL of a place for objects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the URL of a bucket\n  help: write \"s3://BUCKET/PREFIX\" or \"file:///DIRECTORY\"; server and region are keys of their own"
)]
pub struct BucketUrlError(String);

impl FromStr for BucketLocation {
    type Err = BucketUrlError;

    fn from_str(text: &str) -> Result<Self, BucketUrlError> {
        let error = || BucketUrlError(text.to_owned());
        // Whatever needs an encoding is not written the same everywhere.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/+=@,".contains(&byte);
        if let Some(path) = text.strip_prefix("file://") {
            let is_plain = path.len() > 1 && path.starts_with('/') && !path.contains(['\0', '?', '#', '%']);
            return if is_plain { Ok(Self::Directory(path.into())) } else { Err(error()) };
        }
        let rest = text.strip_prefix("s3://").ok_or_else(error)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let named = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
        let segments = || prefix.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
        let is_bucket =
            BUCKET_NAME.contains(&bucket.len()) && bucket.bytes().all(named) && !bucket.starts_with(['.', '-']);
        let is_prefix = prefix.is_empty() || (prefix.len() <= MAX_PREFIX && prefix.bytes().all(plain) && segments());
        if is_bucket && is_prefix {
            Ok(Self::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
        } else {
            Err(error())
        }
    }
}

impl fmt::Display for BucketLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Directory(path) => write!(f, "file://{}", path.display()),
        }
    }
}

/// URL of a server: `http://` or `https://`, a host, and perhaps a port and a path, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUrl(Box<str>);

/// Error of a text that is not the URL of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a URL of http or https\n  help: write \"https://HOST\" with a port or a path if need be, without user, `?` and `#`"
)]
pub struct HttpUrlError(String);

impl HttpUrl {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether it is a URL of https.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.0.starts_with("https://")
    }
}

impl FromStr for HttpUrl {
    type Err = HttpUrlError;

    fn from_str(text: &str) -> Result<Self, HttpUrlError> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let authority = rest.and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#@\\\"".contains(&byte));
        if authority.is_empty() || !is_plain {
            return Err(HttpUrlError(text.to_owned()));
        }
        Ok(Self(text.trim_end_matches('/').into()))
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_a_name_and_a_folder_or_a_directory() {
        let s3 = |bucket: &str, prefix: &str| BucketLocation::S3 { bucket: bucket.into(), prefix: prefix.into() };
        for (text, location, shown) in [
            ("s3://cache", s3("cache", ""), "s3://cache"),
            ("s3://cache/", s3("cache", ""), "s3://cache"),
            ("s3://my-cache.example/nix/a", s3("my-cache.example", "nix/a"), "s3://my-cache.example/nix/a"),
            ("s3://cache/nix/", s3("cache", "nix"), "s3://cache/nix"),
            ("file:///srv/cache", BucketLocation::Directory("/srv/cache".into()), "file:///srv/cache"),
        ] {
            assert_eq!(text.parse(), Ok(location.clone()), "{text}");
            assert_eq!(location.to_string(), shown);
        }
        for text in [
            "",
            "cache",
            "s3://",
            "s3://ab",
            "s3://Cache",
            "s3:///x",
            "s3://cache//x",
            "s3://cache/../x",
            "s3://cache/a b",
            "s3://cache/é",
            "s3://cache?endpoint=x",
            "s3://user@cache",
            "https://cache",
            "file://cache",
            "file:///",
            "file:///a%20b",
            "s3://.cache",
        ] {
            assert!(text.parse::<BucketLocation>().unwrap_err().to_string().contains("\n  help: "), "{text}");
        }
        assert!(format!("s3://cache/{}", "x".repeat(513)).parse::<BucketLocation>().is_err());
    }

    #[test]
    fn a_server_has_a_scheme_and_no_user() {
        let url: HttpUrl = "https://cdn.example.org/nix/".parse().unwrap();
        assert_eq!((url.as_str(), url.is_tls()), ("https://cdn.example.org/nix", true));
        assert!(!"http://127.0.0.1:9000".parse::<HttpUrl>().unwrap().is_tls());
        for text in
            ["", "cdn.example.org", "ftp://a", "https://", "https:///a", "https://u@a", "https://a?b", "http://a b"]
        {
            assert!(text.parse::<HttpUrl>().is_err(), "{text}");
        }
    }
}
