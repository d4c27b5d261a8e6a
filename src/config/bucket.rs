//! Settings of the object store: `[bucket]`.
//!
//! Secrets come from a file, a systemd credential or variables, never from the configuration file.

use std::path::PathBuf;

use harmonia_protocol::signature::PublicKey;

use super::access_key::AccessKey;
use super::bucket_table::{Publish, RedirectFrom, Unreachable};
use super::bucket_url::{BucketLocation, HttpUrl};
use super::byte_size::ByteSize;
use super::environment::{Environment, path_of};
use super::error::{Collected, Problem};
use super::file::ConfigFile;
use super::host_name::HostName;

const TABLE: &str = "bucket";
/// Name of the first region of S3, which servers that have none accept.
const DEFAULT_REGION: &str = "us-east-1";
/// Name of the systemd credential with the access key: `LoadCredential=bucket-credentials:...`.
const CREDENTIAL: &str = "bucket-credentials";

/// An object store, and what this host does with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketConfig {
    /// Place of the objects.
    pub location: BucketLocation,
    /// Server with the S3 API; `None` for Amazon's of the region.
    pub endpoint: Option<HttpUrl>,
    /// Region of the bucket, which is part of signatures.
    pub region: String,
    /// Source of the access key.
    pub credentials: Credentials,
    /// Name of this host in the bucket.
    pub host: HostName,
    /// Paths that this host publishes.
    pub publish: Publish,
    /// Upper bound of the bandwidth of uploads, in bytes per second; `None` if there is none.
    pub max_upload_rate: Option<ByteSize>,
    /// Keys of other hosts. A narinfo of the bucket is served if one of these or of this host's keys has signed it.
    pub trusted_public_keys: Vec<PublicKey>,
    /// Serves paths that other hosts have published.
    pub read: bool,
    /// NARs that clients are redirected for.
    pub redirect_from: RedirectFrom,
    /// Base URL at which clients can read the objects without credentials, if there is one.
    pub public_url: Option<HttpUrl>,
    /// Answer for paths of others while the object store is unreachable.
    pub unreachable: Unreachable,
}

impl BucketConfig {
    /// Returns the settings of a directory for a command, which publishes there as `host`.
    #[must_use]
    pub fn directory(directory: PathBuf, host: HostName) -> Self {
        Self {
            location: BucketLocation::Directory(directory),
            endpoint: None,
            region: DEFAULT_REGION.to_owned(),
            credentials: Credentials::Anonymous,
            host,
            publish: Publish::None,
            max_upload_rate: None,
            trusted_public_keys: Vec::new(),
            read: false,
            redirect_from: RedirectFrom::Never,
            public_url: None,
            unreachable: Unreachable::Retry,
        }
    }
}

/// Source of the access key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A file, read again when it changes.
    File(PathBuf),
    /// Variables of the process.
    Variables(AccessKey),
    /// None: requests are not signed, which suffices to read a public bucket.
    Anonymous,
}

impl BucketConfig {
    /// Returns the defaults, for a bucket that is never opened.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self {
            location: BucketLocation::Directory("/nowhere".into()),
            endpoint: None,
            region: DEFAULT_REGION.to_owned(),
            credentials: Credentials::Anonymous,
            host: "a".parse().unwrap(),
            publish: Publish::default(),
            max_upload_rate: None,
            trusted_public_keys: Vec::new(),
            read: true,
            redirect_from: RedirectFrom::default(),
            public_url: None,
            unreachable: Unreachable::default(),
        }
    }

    /// Resolves `[bucket]`, if the file has it.
    pub(super) fn resolve(
        file: &mut ConfigFile,
        environment: &Environment,
        (has_state_dir, has_nar_cache): (bool, bool),
        (errors, warnings): (&mut Collected, &mut Vec<String>),
    ) -> Option<Self> {
        if !file.has_table(TABLE) {
            return None;
        }
        let table = std::mem::take(&mut file.bucket);
        if !cfg!(any(test, feature = "bucket")) {
            errors.push(file.error_at(TABLE, Problem::NotBuilt { table: TABLE }));
            return None;
        }
        let Some(location) = table.url else {
            errors.push(file.error_at(TABLE, Problem::MissingKey { table: "[bucket]".to_owned(), key: "url" }));
            return None;
        };
        let variables = &environment.aws;
        let endpoint = match (table.endpoint, &variables.endpoint_url) {
            (None, Some(url)) => {
                let url = url.to_string_lossy().parse();
                url.map_err(|cause| errors.push(file.error_at(TABLE, Problem::EndpointVariable(cause)))).ok()
            }
            (endpoint, _) => endpoint,
        };
        let is_plain = |url: &HttpUrl| !url.is_tls() && !table.allow_http.unwrap_or(false);
        if endpoint.as_ref().is_some_and(is_plain) {
            errors.push(file.error_at("bucket.endpoint", Problem::PlainEndpoint));
        }
        let publish = table.publish.unwrap_or_default();
        if publish != Publish::None && !has_state_dir {
            errors.push(file.error_at("bucket.publish", Problem::RequiresStateDir { key: "bucket.publish" }));
        }
        if publish != Publish::None && !has_nar_cache {
            errors.push(file.error_at("bucket.publish", Problem::RequiresNarCache { key: "bucket.publish" }));
        }
        let read = table.read.unwrap_or(true);
        if publish == Publish::None && !read {
            let text = "is used by commands alone: publish = \"none\" and read = false\n  help: set one of them, or remove the table";
            warnings.push(file.warning(TABLE, text));
        }
        let credentials = match &location {
            BucketLocation::Directory(_) => Credentials::Anonymous,
            BucketLocation::S3 { .. } => {
                credentials(table.credentials_file, environment, file, errors).unwrap_or(Credentials::Anonymous)
            }
        };
        if publish != Publish::None
            && matches!(location, BucketLocation::S3 { .. })
            && credentials == Credentials::Anonymous
        {
            let text = "has no access key\n  help: set bucket.credentials_file, the systemd credential bucket-credentials, or \
                        AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
            warnings.push(file.warning("bucket.publish", text));
        }
        let region = variables.region.as_deref().and_then(std::ffi::OsStr::to_str);
        let host = table.host.map_or_else(HostName::of_this_machine, Ok);
        let host = host.map_err(|cause| {
            let reason = format!("none is set, and the name of this machine does not serve: {cause}");
            errors.push(file.error_at(TABLE, Problem::Value { key: "bucket.host", reason }));
        });
        Some(Self {
            location,
            endpoint,
            region: table.region.or_else(|| region.map(str::to_owned)).unwrap_or_else(|| DEFAULT_REGION.to_owned()),
            credentials,
            host: host.ok()?,
            publish,
            max_upload_rate: table.max_upload_rate.filter(|rate| rate.bytes() > 0),
            trusted_public_keys: table.trusted_public_keys,
            read,
            redirect_from: table.redirect_from.unwrap_or_default(),
            public_url: table.public_url,
            unreachable: table.unreachable.unwrap_or_default(),
        })
    }
}

/// Finds the access key: the file that is configured, or else the systemd credential, variables, or the file that a variable names.
fn credentials(
    configured: Option<PathBuf>,
    environment: &Environment,
    file: &ConfigFile,
    errors: &mut Collected,
) -> Option<Credentials> {
    let credential = path_of(environment.credentials_directory.as_deref()).map(|directory| directory.join(CREDENTIAL));
    if let Some(path) = configured.or_else(|| credential.filter(|path| path.exists())) {
        return Some(Credentials::File(path));
    }
    match AccessKey::from_variables(&environment.aws) {
        Some(Ok(key)) => Some(Credentials::Variables(key)),
        Some(Err(cause)) => {
            errors.push(file.error_at(TABLE, Problem::AccessKeyVariables(cause)));
            None
        }
        None => environment.aws.shared_file.as_ref().map(|path| Credentials::File(path.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::access_key::AwsVariables;
    use crate::config::tests::{environment, loaded, loaded_in, message};

    const URL: &str = "[bucket]\nhost = \"a\"\nurl = \"s3://cache\"\n";

    fn with(text: &str) -> BucketConfig {
        loaded(&format!("state_dir = \"/s\"\nnar_cache.dir = \"/n\"\n{URL}{text}")).0.bucket.unwrap()
    }

    #[test]
    fn a_url_is_enough_to_read() {
        let (config, warnings) = loaded(URL);
        let bucket = config.bucket.unwrap();
        assert_eq!((bucket.location.to_string(), bucket.region.as_str()), ("s3://cache".into(), "us-east-1"));
        assert_eq!((bucket.publish, bucket.read, bucket.unreachable), (Publish::None, true, Unreachable::Retry));
        assert_eq!((bucket.endpoint, bucket.credentials), (None, Credentials::Anonymous));
        assert_eq!((bucket.redirect_from, bucket.max_upload_rate), (RedirectFrom::default(), None));
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(loaded("").0.bucket, None);
    }

    #[test]
    fn each_key_is_a_type() {
        let text = "publish = \"all\"\nmax_upload_rate = \"20 MiB\"\nredirect_from = \"never\"\nunreachable = \"miss\"\n\
                    public_url = \"https://cdn.example.org/\"\nendpoint = \"http://127.0.0.1:9000\"\nallow_http = true\n\
                    credentials_file = \"/c\"\nregion = \"eu\"";
        let bucket = with(text);
        assert_eq!((bucket.publish, bucket.unreachable), (Publish::All, Unreachable::Miss));
        assert_eq!(bucket.max_upload_rate, Some(ByteSize::mebibytes(20)));
        assert_eq!(bucket.redirect_from, RedirectFrom::Never);
        assert_eq!(bucket.public_url.unwrap().as_str(), "https://cdn.example.org");
        assert_eq!(bucket.credentials, Credentials::File("/c".into()));
        assert_eq!(with("redirect_from = 0").redirect_from, RedirectFrom::Size(ByteSize::new(0)));
        assert_eq!(with("max_upload_rate = 0").max_upload_rate, None);
    }

    #[test]
    fn contradictions_are_errors_on_their_lines() {
        for (text, expected) in [
            ("[bucket]", "config.toml:1: [bucket] has no key \"url\""),
            (&format!("{URL}endpoint = \"http://a\""), "config.toml:4: bucket.endpoint is a URL of http"),
            (&format!("{URL}publish = \"all\""), "config.toml:4: bucket.publish needs a directory for its state"),
            (&format!("state_dir = \"/s\"\n{URL}publish = \"all\""), "config.toml:5: bucket.publish needs a NAR cache"),
            (
                &format!("{URL}publish = \"some\""),
                "config.toml:4: bucket.publish: expected \"none\", \"served\" or \"all\"",
            ),
            (&format!("{URL}redirect_from = \"always\""), "config.toml:4: bucket.redirect_from: "),
        ] {
            assert!(message(text).starts_with(expected), "{text}: {}", message(text));
        }
        let (_, warnings) = loaded(&format!("{URL}read = false"));
        assert!(warnings[0].starts_with("config.toml:1: bucket is used by commands alone"), "{warnings:?}");
        let (_, warnings) = loaded(&format!("state_dir = \"/s\"\nnar_cache.dir = \"/n\"\n{URL}publish = \"all\""));
        assert!(warnings[0].contains("bucket.publish has no access key"), "{warnings:?}");
    }

    #[test]
    fn the_access_key_is_a_systemd_credential_unless_a_file_is_named() {
        let credentials = tempfile::tempdir().unwrap();
        let aws = AwsVariables { id: Some("i".into()), secret: Some("s".into()), ..AwsVariables::default() };
        let environment = Environment { aws, credentials_directory: Some(credentials.path().into()), ..environment() };
        let found = |text: &str| loaded_in(text, &environment).bucket.unwrap().credentials;
        assert!(matches!(found(URL), Credentials::Variables(_)), "there is no such credential");
        let path = credentials.path().join("bucket-credentials");
        std::fs::write(&path, "").unwrap();
        assert_eq!(found(URL), Credentials::File(path));
        assert_eq!(found(&format!("{URL}credentials_file = \"/c\"")), Credentials::File("/c".into()));
    }

    #[test]
    fn variables_of_aws_serve_where_the_file_says_nothing() {
        let variable = |text: &str| Some(text.into());
        let aws = AwsVariables {
            id: variable("i"),
            secret: variable("s"),
            region: variable("eu-west-1"),
            endpoint_url: variable("https://s3.example.org"),
            ..AwsVariables::default()
        };
        let environment = Environment { aws, ..environment() };
        let bucket = loaded_in(URL, &environment).bucket.unwrap();
        assert!(matches!(bucket.credentials, Credentials::Variables(_)));
        assert_eq!(
            (bucket.region.as_str(), bucket.endpoint.unwrap().as_str()),
            ("eu-west-1", "https://s3.example.org")
        );
        let text = format!("{URL}region = \"x\"\ncredentials_file = \"/c\"");
        let bucket = loaded_in(&text, &environment).bucket.unwrap();
        assert_eq!((bucket.region.as_str(), bucket.credentials), ("x", Credentials::File("/c".into())));
        let shared = AwsVariables { shared_file: variable("/shared"), ..AwsVariables::default() };
        let bucket = loaded_in(URL, &Environment { aws: shared, ..environment.clone() }).bucket.unwrap();
        assert_eq!(bucket.credentials, Credentials::File("/shared".into()));
        let directory = URL.replace("s3://cache", "file:///d");
        assert_eq!(loaded_in(&directory, &environment).bucket.unwrap().credentials, Credentials::Anonymous);
    }
}
