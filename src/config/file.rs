//! Raw configuration file: every key optional, each value of the right type and in range.
//!
//! [`KEYS`] is the only list of keys: the parser looks keys up in it. Leaves defaults and contradictions between keys to
//! `resolve`.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harmonia_protocol::StoreDir;
use harmonia_protocol::signature::PublicKey;
use toml::de::DeTable;

use super::access_log::AccessLogFormat;
use super::admin_socket::admin_socket;
use super::audit::OnFailure;
use super::bind::BindAddress;
use super::bucket_table::{BucketTable, RedirectFrom};
use super::byte_size::ByteSize;
use super::cidr::Cidr;
use super::daemon::{DaemonCommand, socket_path};
use super::document::{Contents, Entry, Lines, Table, kind_of, nearest, table_of};
use super::duration::duration;
use super::error::{Collected, ConfigError, ConfigErrors, Problem};
use super::jwks_url::jwks_url;
use super::nar::{NarSource, Precompress, Verify};
use super::rights::Rights;
use super::signing::{Scope, public_key};
use super::store_layout::store_dir;
use super::tables::{GrantTable, JwtTable, ViewTable};
use super::unix_socket::SocketMode;
use super::value::{Value, ValueError};
use super::view_root::view_root;

/// Each costs a thread or a file descriptor; a larger number is a typing error.
const COUNT: RangeInclusive<i64> = 1..=1024;
/// Connections per worker.
const CONNECTIONS: RangeInclusive<i64> = 1..=1_000_000;
/// Connections per worker; 0 for the default.
const CONNECTIONS_OR_DEFAULT: RangeInclusive<i64> = 0..=*CONNECTIONS.end();
/// Encoder threads; 0 for the number of processors.
const ENCODERS: RangeInclusive<i64> = 0..=*COUNT.end();
/// Nice values that need no privilege.
const NICENESS: RangeInclusive<i64> = 0..=19;
/// Durations in seconds, up to a day.
const TIMEOUT: RangeInclusive<i64> = 0..=86_400;
/// Nix reads the number with `stoi`, and a client that cannot refuses the whole cache.
const PRIORITY: RangeInclusive<i64> = 0..=i32::MAX as i64;
/// Range of the library (`ZSTD_WINDOWLOG_MIN`, `ZSTD_WINDOWLOG_MAX`); `nar_cache` lowers it to what clients accept.
const WINDOW_LOG: RangeInclusive<i64> = 10..=31;

/// Values of the keys in [`KEYS`]; a dot in a key is `_` here.
#[derive(Debug, Default)]
// One is named like this type, since its key is.
#[allow(clippy::struct_field_names)]
pub(super) struct ConfigFile {
    pub(super) bind: Option<BindAddress>,
    pub(super) unix_socket_mode: Option<SocketMode>,
    /// Empty disables the socket.
    pub(super) admin_socket: Option<PathBuf>,
    pub(super) shutdown_timeout: Option<u64>,
    pub(super) workers: Option<usize>,
    pub(super) max_connections: Option<usize>,
    pub(super) max_connections_per_client: Option<usize>,
    pub(super) trusted_proxies: Option<Vec<Cidr>>,
    pub(super) max_metadata_connections: Option<usize>,
    pub(super) max_nar_connections: Option<usize>,
    pub(super) nar_source: Option<NarSource>,
    pub(super) verify: Option<Verify>,
    pub(super) priority: Option<u32>,
    pub(super) browse: Option<bool>,
    pub(super) enable_compression: Option<bool>,
    pub(super) zstd_level: Option<i32>,
    pub(super) zstd_long_distance_matching: Option<bool>,
    pub(super) zstd_window_log: Option<u32>,
    pub(super) nar_cache_dir: Option<PathBuf>,
    pub(super) nar_cache_max_size: Option<ByteSize>,
    pub(super) nar_cache_precompress: Option<Precompress>,
    pub(super) nar_cache_threads: Option<usize>,
    pub(super) nar_cache_nice: Option<i32>,
    pub(super) narinfo_cache_max_size: Option<ByteSize>,
    pub(super) narinfo_cache_ttl: Option<u64>,
    pub(super) gc_protection: Option<u64>,
    pub(super) virtual_nix_store: Option<StoreDir>,
    pub(super) real_nix_store: Option<PathBuf>,
    pub(super) build_log_dir: Option<PathBuf>,
    pub(super) access_log_enable: Option<bool>,
    pub(super) access_log_file: Option<PathBuf>,
    pub(super) access_log_format: Option<AccessLogFormat>,
    pub(super) daemon_socket: Option<PathBuf>,
    pub(super) daemon_command: Option<DaemonCommand>,
    pub(super) sign_key_path: Option<PathBuf>,
    pub(super) sign_key_paths: Vec<PathBuf>,
    pub(super) sign: Option<Scope>,
    pub(super) trusted_public_keys: Vec<PublicKey>,
    pub(super) serve_untrusted: Option<bool>,
    pub(super) tls_cert_path: Option<PathBuf>,
    pub(super) tls_key_path: Option<PathBuf>,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) access_anonymous: Option<Rights>,
    pub(super) access_users_file: Option<PathBuf>,
    pub(super) access_client_ca_path: Option<PathBuf>,
    pub(super) jwt: Vec<JwtTable>,
    pub(super) grants: Vec<GrantTable>,
    pub(super) views: Vec<ViewTable>,
    pub(super) audit_file: Option<PathBuf>,
    pub(super) audit_on_failure: Option<OnFailure>,
    pub(super) push_max_uploads: Option<usize>,
    pub(super) push_max_nar_size: Option<ByteSize>,
    pub(super) push_max_spool_size: Option<ByteSize>,
    pub(super) push_max_spool_size_per_principal: Option<ByteSize>,
    pub(super) push_keep: Option<Duration>,
    pub(super) push_trusted_public_keys: Vec<PublicKey>,
    pub(super) bucket: BucketTable,
    /// Path of the file, for messages.
    path: PathBuf,
    /// Line of each key that is set and of each table, by its number among those of its name.
    lines: BTreeMap<(&'static str, usize), usize>,
}

/// Effect of a key.
enum Effect {
    /// Parses the value into a field.
    Set(fn(&mut ConfigFile, &Value<'_>) -> Result<(), ValueError>),
    /// Parses the value into a field of the table of this number, which exists.
    SetIn(fn(&mut ConfigFile, usize, &Value<'_>) -> Result<(), ValueError>),
    /// None: a key of other versions, accepted so that their files load. Holds the reason for the warning.
    Ignored(&'static str),
}
use Effect::{Ignored, Set, SetIn};

/// Name of a key, prefixed by its table and a dot, and its effect.
struct Key(&'static str, Effect);

/// Every key.
const KEYS: &[Key] = &[
    Key("bind", Set(|f, v| v.parsed(str::parse).map(|a| f.bind = Some(a)))),
    Key("unix_socket_mode", Set(|f, v| v.parsed(str::parse).map(|m| f.unix_socket_mode = Some(m)))),
    Key("admin_socket", Set(|f, v| v.parsed(admin_socket).map(|p| f.admin_socket = Some(p)))),
    Key("shutdown_timeout", Set(|f, v| v.integer(TIMEOUT).map(|n| f.shutdown_timeout = Some(n)))),
    Key("workers", Set(|f, v| v.integer(COUNT).map(|n| f.workers = Some(n)))),
    // Bounds nothing, as in harmonia 3.2, whose NixOS module writes it into every file: no reason for a warning.
    Key("max_connection_rate", Set(|_, v| v.integer(CONNECTIONS).map(|_: usize| ()))),
    Key("max_connections", Set(|f, v| v.integer(CONNECTIONS_OR_DEFAULT).map(|n| f.max_connections = Some(n)))),
    Key(
        "max_connections_per_client",
        Set(|f, v| v.integer(CONNECTIONS).map(|n| f.max_connections_per_client = Some(n))),
    ),
    Key(
        "trusted_proxies",
        Set(|f, v| v.all_parsed("an array of addresses", str::parse).map(|p| f.trusted_proxies = Some(p))),
    ),
    Key("max_metadata_connections", Set(|f, v| v.integer(COUNT).map(|n| f.max_metadata_connections = Some(n)))),
    Key("max_nar_connections", Set(|f, v| v.integer(COUNT).map(|n| f.max_nar_connections = Some(n)))),
    Key("nar_source", Set(|f, v| v.parsed(str::parse).map(|s| f.nar_source = Some(s)))),
    Key("verify", Set(|f, v| v.parsed(str::parse).map(|w| f.verify = Some(w)))),
    Key("priority", Set(|f, v| v.integer(PRIORITY).map(|n| f.priority = Some(n)))),
    Key("browse", Set(|f, v| v.boolean().map(|b| f.browse = Some(b)))),
    Key("enable_compression", Set(|f, v| v.boolean().map(|b| f.enable_compression = Some(b)))),
    Key("zstd.level", Set(|f, v| v.integer(zstd_levels()).map(|n| f.zstd_level = Some(n)))),
    Key("zstd.long_distance_matching", Set(|f, v| v.boolean().map(|b| f.zstd_long_distance_matching = Some(b)))),
    Key("zstd.window_log", Set(|f, v| window_log(v).map(|n| f.zstd_window_log = n))),
    Key("nar_cache.dir", Set(|f, v| v.path().map(|p| f.nar_cache_dir = Some(p)))),
    Key("nar_cache.max_size", Set(|f, v| v.size().map(|s| f.nar_cache_max_size = Some(s)))),
    Key("nar_cache.precompress", Set(|f, v| v.parsed(str::parse).map(|a| f.nar_cache_precompress = Some(a)))),
    Key("nar_cache.threads", Set(|f, v| v.integer(ENCODERS).map(|n| f.nar_cache_threads = Some(n)))),
    Key("nar_cache.nice", Set(|f, v| v.integer(NICENESS).map(|n| f.nar_cache_nice = Some(n)))),
    Key("narinfo_cache.max_size", Set(|f, v| v.size().map(|s| f.narinfo_cache_max_size = Some(s)))),
    Key("narinfo_cache.ttl", Set(|f, v| v.integer(TIMEOUT).map(|n| f.narinfo_cache_ttl = Some(n)))),
    Key("gc_protection", Set(|f, v| v.integer(TIMEOUT).map(|n| f.gc_protection = Some(n)))),
    Key("virtual_nix_store", Set(|f, v| v.parsed(store_dir).map(|d| f.virtual_nix_store = Some(d)))),
    Key("real_nix_store", Set(|f, v| v.path().map(|p| f.real_nix_store = Some(p)))),
    Key("build_log_dir", Set(|f, v| v.path().map(|p| f.build_log_dir = Some(p)))),
    Key("access_log.enable", Set(|f, v| v.boolean().map(|b| f.access_log_enable = Some(b)))),
    Key("access_log.file", Set(|f, v| v.path().map(|p| f.access_log_file = Some(p)))),
    Key("access_log.format", Set(|f, v| v.parsed(str::parse).map(|o| f.access_log_format = Some(o)))),
    Key("daemon_socket", Set(|f, v| v.parsed(socket_path).map(|p| f.daemon_socket = Some(p)))),
    Key("daemon_command", Set(|f, v| v.command().map(|c| f.daemon_command = Some(c)))),
    Key("sign_key_path", Set(|f, v| v.path().map(|p| f.sign_key_path = Some(p)))),
    Key("sign_key_paths", Set(|f, v| v.paths().map(|p| f.sign_key_paths = p))),
    Key("sign", Set(|f, v| v.parsed(str::parse).map(|s| f.sign = Some(s)))),
    Key(
        "trusted_public_keys",
        Set(|f, v| v.all_parsed("an array of public keys", public_key).map(|k| f.trusted_public_keys = k)),
    ),
    Key("serve_untrusted", Set(|f, v| v.boolean().map(|b| f.serve_untrusted = Some(b)))),
    Key("tls_cert_path", Set(|f, v| v.path().map(|p| f.tls_cert_path = Some(p)))),
    Key("tls_key_path", Set(|f, v| v.path().map(|p| f.tls_key_path = Some(p)))),
    Key("state_dir", Set(|f, v| v.path().map(|p| f.state_dir = Some(p)))),
    Key("access.anonymous", Set(|f, v| rights(v).map(|r| f.access_anonymous = Some(r)))),
    Key("access.users_file", Set(|f, v| v.path().map(|p| f.access_users_file = Some(p)))),
    Key("access.client_ca_path", Set(|f, v| v.path().map(|p| f.access_client_ca_path = Some(p)))),
    Key("access.jwt.issuer", SetIn(|f, i, v| v.text().map(|t| f.jwt[i].issuer = Some(t)))),
    Key("access.jwt.audience", SetIn(|f, i, v| v.text().map(|t| f.jwt[i].audience = Some(t)))),
    Key("access.jwt.jwks_path", SetIn(|f, i, v| v.path().map(|p| f.jwt[i].jwks_path = Some(p)))),
    Key("access.jwt.jwks_url", SetIn(|f, i, v| v.parsed(jwks_url).map(|u| f.jwt[i].jwks_url = Some(u)))),
    Key("access.jwt.name", SetIn(|f, i, v| v.text().map(|t| f.jwt[i].name = Some(t)))),
    Key(
        "access.grant.who",
        SetIn(|f, i, v| v.all_parsed("an array of principals", str::parse).map(|w| f.grants[i].who = w)),
    ),
    Key("access.grant.may", SetIn(|f, i, v| rights(v).map(|r| f.grants[i].may = Some(r)))),
    Key("access.grant.view", SetIn(|f, i, v| v.text().map(|t| f.grants[i].view = Some(t)))),
    Key(
        "views.NAME.roots",
        SetIn(|f, i, v| v.all_parsed("an array of paths", view_root).map(|r| f.views[i].roots = Some(r))),
    ),
    Key("audit.file", Set(|f, v| v.path().map(|p| f.audit_file = Some(p)))),
    Key("audit.on_failure", Set(|f, v| v.parsed(str::parse).map(|o| f.audit_on_failure = Some(o)))),
    Key("push.max_uploads", Set(|f, v| v.integer(COUNT).map(|n| f.push_max_uploads = Some(n)))),
    Key("push.max_nar_size", Set(|f, v| v.size().map(|s| f.push_max_nar_size = Some(s)))),
    Key("push.max_spool_size", Set(|f, v| v.size().map(|s| f.push_max_spool_size = Some(s)))),
    Key(
        "push.max_spool_size_per_principal",
        Set(|f, v| v.size().map(|s| f.push_max_spool_size_per_principal = Some(s))),
    ),
    Key("push.keep", Set(|f, v| v.parsed(duration).map(|d| f.push_keep = Some(d)))),
    Key(
        "push.trusted_public_keys",
        Set(|f, v| v.all_parsed("an array of public keys", public_key).map(|k| f.push_trusted_public_keys = k)),
    ),
    Key("bucket.url", Set(|f, v| v.parsed(str::parse).map(|u| f.bucket.url = Some(u)))),
    Key("bucket.endpoint", Set(|f, v| v.parsed(str::parse).map(|u| f.bucket.endpoint = Some(u)))),
    Key("bucket.region", Set(|f, v| v.text().map(|t| f.bucket.region = Some(t)))),
    Key("bucket.allow_http", Set(|f, v| v.boolean().map(|b| f.bucket.allow_http = Some(b)))),
    Key("bucket.credentials_file", Set(|f, v| v.path().map(|p| f.bucket.credentials_file = Some(p)))),
    Key("bucket.host", Set(|f, v| v.parsed(str::parse).map(|h| f.bucket.host = Some(h)))),
    Key("bucket.publish", Set(|f, v| v.parsed(str::parse).map(|p| f.bucket.publish = Some(p)))),
    Key("bucket.max_upload_rate", Set(|f, v| v.size().map(|s| f.bucket.max_upload_rate = Some(s)))),
    Key(
        "bucket.trusted_public_keys",
        Set(|f, v| v.all_parsed("an array of public keys", public_key).map(|k| f.bucket.trusted_public_keys = k)),
    ),
    Key("bucket.read", Set(|f, v| v.boolean().map(|b| f.bucket.read = Some(b)))),
    Key("bucket.redirect_from", Set(|f, v| redirect_from(v).map(|r| f.bucket.redirect_from = Some(r)))),
    Key("bucket.public_url", Set(|f, v| v.parsed(str::parse).map(|u| f.bucket.public_url = Some(u)))),
    Key("bucket.unreachable", Set(|f, v| v.parsed(str::parse).map(|u| f.bucket.unreachable = Some(u)))),
    Key("nix_db_path", Ignored("harmonia queries nix-daemon and never opens the database")),
    Key("zstd.max_ldm_encoders_per_worker", Ignored("nar_cache.threads limits the number of encoders")),
];

/// Parses a window; 0 is `None`.
fn window_log(value: &Value<'_>) -> Result<Option<u32>, ValueError> {
    value.integer::<u32>(0..=0).map(|_| None).or_else(|_| value.integer(WINDOW_LOG).map(Some))
}

/// Parses a size, or "never".
fn redirect_from(value: &Value<'_>) -> Result<RedirectFrom, ValueError> {
    let is_never = value.text().is_ok_and(|text| text == "never");
    if is_never { Ok(RedirectFrom::Never) } else { value.size().map(RedirectFrom::Size) }
}

/// Parses an array of rights.
fn rights(value: &Value<'_>) -> Result<Rights, ValueError> {
    let rights = value.all_parsed("an array of rights", str::parse)?;
    Ok(rights.into_iter().fold(Rights::NONE, Rights::union))
}

/// Returns the names of all keys.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|Key(name, _)| *name)
}

fn zstd_levels() -> RangeInclusive<i64> {
    let levels = zstd::compression_level_range();
    i64::from(*levels.start())..=i64::from(*levels.end())
}

impl ConfigFile {
    /// Reads the file at `path`.
    pub(super) fn read(path: &Path) -> Result<(Self, Vec<String>), ConfigErrors> {
        let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?;
        Self::parse(path, &text)
    }

    /// Parses `text` and returns warnings with it; `path` is for messages. Reports a syntax error alone, otherwise one error per
    /// invalid key.
    pub(super) fn parse(path: &Path, text: &str) -> Result<(Self, Vec<String>), ConfigErrors> {
        let mut file = Self { path: path.to_owned(), ..Self::default() };
        let lines = Lines::of(text);
        let document = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            // The parser puts what it expected on a line of its own.
            file.error(lines.line(at), Problem::Syntax(error.message().replace('\n', ", ")))
        })?;
        let names: Vec<_> = names().collect();
        let Contents { entries, tables } = Contents::of(document.get_ref(), &names);
        for table in tables {
            file.begin_table(&table, lines.line(table.at));
        }
        let (mut warnings, mut errors) = (Vec::new(), Collected::default());
        for Entry { name, shown, index, at, value } in entries {
            let Some(Key(key, effect)) = KEYS.iter().find(|Key(key, _)| *key == name) else {
                let problem = match table_of(&name, &names) {
                    Some(table) => Problem::Value { key: table, reason: Value(value).mismatch(kind_of(table)).reason },
                    None => Problem::UnknownKey { suggestion: nearest(&name, &names), key: shown },
                };
                errors.push(file.error(lines.line(at), problem));
                continue;
            };
            file.lines.insert((key, index), lines.line(at));
            let result = match effect {
                Set(set) => set(&mut file, &Value(value)),
                SetIn(set) => set(&mut file, index, &Value(value)),
                Ignored(why) => {
                    warnings.push(file.warning(key, format_args!("has no effect: {why}")));
                    Ok(())
                }
            };
            if let Err(ValueError { at, reason }) = result {
                errors.push(file.error(lines.line(at), Problem::Value { key, reason }));
            }
        }
        errors.end(Ok((file, warnings)))
    }

    /// Creates the element of an array of tables or the named table, and notes the line of the table.
    fn begin_table(&mut self, table: &Table<'_>, line: usize) {
        self.lines.insert((table.name, table.index), line);
        match table.name {
            "access.jwt" => self.jwt.push(JwtTable::default()),
            "access.grant" => self.grants.push(GrantTable::default()),
            "views.NAME" => self.views.push(ViewTable { name: table.chosen.to_owned(), roots: None }),
            _ => {}
        }
    }

    /// Returns whether the file has this table, be it empty.
    pub(super) fn has_table(&self, name: &'static str) -> bool {
        self.lines.contains_key(&(name, 0))
    }

    /// Returns an error at the line of a key that is set, or of a table.
    pub(super) fn error_at(&self, key: &'static str, problem: Problem) -> ConfigError {
        self.error_in(key, 0, problem)
    }

    /// Returns an error at the line of a key in the table of this number, or of that table.
    pub(super) fn error_in(&self, key: &'static str, index: usize, problem: Problem) -> ConfigError {
        self.error(self.line_of(key, index), problem)
    }

    /// Returns a warning at the line of a key that is set, or of a table.
    pub(super) fn warning(&self, key: &'static str, text: impl fmt::Display) -> String {
        self.warning_in(key, 0, text)
    }

    /// Returns a warning at the line of a key in the table of this number.
    pub(super) fn warning_in(&self, key: &'static str, index: usize, text: impl fmt::Display) -> String {
        format!("{}:{}: {key} {text}", self.path.display(), self.line_of(key, index))
    }

    fn line_of(&self, key: &'static str, index: usize) -> usize {
        self.lines.get(&(key, index)).copied().unwrap_or(1)
    }

    fn error(&self, line: usize, problem: Problem) -> ConfigError {
        ConfigError::File { path: self.path.clone(), line, problem }
    }
}
