//! Resolved configuration: defaults filled in, contradictions refused, flags and environment applied.
//!
//! Owns the defaults. A [`Config`] that exists is usable: TLS is a certificate and a key or neither, there is one
//! daemon, and the compression window is one that every client can hold.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harmonia_protocol::StoreDir;

use super::access::AccessConfig;
use super::access_log::AccessLogConfig;
use super::admin_socket;
use super::audit::AuditConfig;
use super::bind::BindAddress;
use super::bucket::BucketConfig;
use super::byte_size::ByteSize;
use super::cidr::Cidr;
use super::daemon::{Daemon, DaemonAddress, DaemonCommand};
use super::environment::{Environment, first_directory_of, path_of};
use super::error::{Collected, ConfigError, ConfigErrors, Problem};
use super::file::ConfigFile;
use super::gateway;
use super::nar::{NarSource, Verify};
use super::nar_cache::{EncodersConfig, NarCacheConfig, ZstdConfig, enable_compression, encoders, nar_cache, zstd};
use super::push::PushConfig;
use super::signing::{Scope, SigningPolicy, TrustPolicy};
use super::store_layout::StoreLayout;
use super::unix_socket::SocketMode;
use super::views::{ViewConfig, views};

/// All addresses, IPv6 and IPv4.
const DEFAULT_BIND: &str = "[::]:5000";
/// Seconds: a third of what systemd waits before it kills.
const DEFAULT_SHUTDOWN_TIMEOUT: u64 = 30;
const DEFAULT_WORKERS: usize = 4;
/// Per worker. All of them are 327 Nix processes with 25 each; an idle one takes some 32 KiB of memory.
const DEFAULT_MAX_CONNECTIONS: usize = 2048;
const DEFAULT_MAX_METADATA_CONNECTIONS: usize = 8;
const DEFAULT_MAX_NAR_CONNECTIONS: usize = 16;
/// Before cache.nixos.org, which says 40.
const DEFAULT_PRIORITY: u32 = 30;
/// A hundred thousand paths with five references, a deriver and a signature of somebody else's, 1.1 KiB each.
const DEFAULT_NARINFO_CACHE: ByteSize = ByteSize::mebibytes(112);
/// Seconds: upper bound of the delay until an added signature is served.
const DEFAULT_NARINFO_TTL: u64 = 60;
/// Seconds: a client requests all narinfos of a closure before its first NAR.
const DEFAULT_GC_PROTECTION: u64 = 300;
/// Names of systemd credentials that are signing keys: `LoadCredential=sign-key-0:...`.
const CREDENTIAL_PREFIX: &[u8] = b"sign-key";

/// Flags of the command line, which take precedence over everything else.
#[derive(Debug, Clone, Default)]
pub struct CliOverrides {
    /// `--config`.
    pub config_file: Option<PathBuf>,
    /// `--bind`.
    pub bind: Option<BindAddress>,
    /// `--admin-socket`.
    pub admin_socket: Option<PathBuf>,
    /// `--daemon-socket`; excludes `--daemon-command`.
    pub daemon_socket: Option<PathBuf>,
    /// `--daemon-command`.
    pub daemon_command: Option<DaemonCommand>,
}

/// Files of a TLS server, both in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// Certificate, followed by its chain.
    pub cert: PathBuf,
    /// Private key of the certificate.
    pub key: PathBuf,
}

/// Limits of the cache of path infos in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NarinfoCacheConfig {
    /// Upper bound of its memory; 0 disables the cache.
    pub max_size: ByteSize,
    /// Time for which a path info is used without querying nix-daemon again.
    pub ttl: Duration,
}

/// The configuration that the program runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Address to listen on.
    pub bind: BindAddress,
    /// Permission bits of the socket, if that address is a Unix socket.
    pub unix_socket_mode: SocketMode,
    /// Path of the admin socket, if there is one.
    pub admin_socket: Option<PathBuf>,
    /// Time limit of unfinished responses after the signal to stop.
    pub shutdown_timeout: Duration,
    /// Threads that serve requests.
    pub workers: usize,
    /// Concurrent connections per worker.
    pub max_connections_per_worker: usize,
    /// Concurrent connections of one client, if they are limited.
    pub max_connections_per_client: Option<usize>,
    /// Networks of proxies, whose connections serve many clients.
    pub trusted_proxies: Vec<Cidr>,
    /// Connections to nix-daemon for metadata queries.
    pub max_metadata_connections: usize,
    /// Connections to nix-daemon for dumping NARs, in addition to those for metadata.
    pub max_nar_connections: usize,
    /// Source of the bytes of NARs.
    pub nar_source: NarSource,
    /// Policy for verifying NARs.
    pub verify: Verify,
    /// Priority in `/nix-cache-info`; clients query caches with lower ones first.
    pub priority: u32,
    /// Serves pages that list valid paths.
    pub browse: bool,
    /// Names compressed NARs in narinfos, and compresses responses for clients that accept it. Never without
    /// [`Self::nar_cache`].
    pub enable_compression: bool,
    /// Parameters for compressing NARs.
    pub zstd: ZstdConfig,
    /// Directory and limits of the NAR cache, if there is one.
    pub nar_cache: Option<NarCacheConfig>,
    /// Threads that compress NARs.
    pub encoders: EncodersConfig,
    /// Limits of the cache of path infos.
    pub narinfo_cache: NarinfoCacheConfig,
    /// Time for which a served path is protected from the garbage collector; `None` disables GC protection.
    pub gc_protection: Option<Duration>,
    /// Store directory that clients see.
    pub virtual_nix_store: StoreDir,
    /// Path of the store directory on this machine, if it is here.
    pub real_nix_store: Option<PathBuf>,
    /// Directory of build logs on this machine, which are in its `drvs`, if they are here.
    pub build_log_dir: Option<PathBuf>,
    /// The access log, if one is written.
    pub access_log: Option<AccessLogConfig>,
    /// Address of nix-daemon.
    pub daemon: Daemon,
    /// Files with signing keys, each once: of the configuration file, `SIGN_KEY_PATH`, `SIGN_KEY_PATHS` and credentials.
    pub sign_key_paths: Vec<PathBuf>,
    /// Directory of systemd credentials, which protects the files in it whatever their modes.
    pub credentials_directory: Option<PathBuf>,
    /// Policy for signing paths with these keys.
    pub sign: SigningPolicy,
    /// Files for serving https; `None` serves http.
    pub tls: Option<TlsConfig>,
    /// Who may do what; `None` lets every client read.
    pub access: Option<AccessConfig>,
    /// Parts of the store that grants refer to.
    pub views: Vec<ViewConfig>,
    /// The audit log, if one is written.
    pub audit: Option<AuditConfig>,
    /// Limits of uploads; `None` accepts none.
    pub push: Option<PushConfig>,
    /// The object store, if there is one.
    pub bucket: Option<BucketConfig>,
    /// Directory for what has to survive a restart, if there is one.
    pub state_dir: Option<PathBuf>,
}

impl Config {
    /// Reads the file, if a flag or the environment names one, and applies flags and environment. The strings are warnings
    /// for the log.
    pub fn load(overrides: CliOverrides, environment: &Environment) -> Result<(Self, Vec<String>), ConfigErrors> {
        let variable = path_of(environment.config_file.as_deref());
        let (file, mut warnings) = match overrides.config_file.as_deref().or(variable) {
            Some(path) => ConfigFile::read(path)?,
            None => (ConfigFile::default(), Vec::from_iter(environment.unread_file.as_deref().map(unread_file))),
        };
        let config = Self::resolve(file, overrides, environment, &mut warnings)?;
        Ok((config, warnings))
    }

    /// Checks the file alone, without the environment and the files that it names, and returns its warnings.
    pub fn check_syntax(path: &Path) -> Result<Vec<String>, ConfigErrors> {
        let (file, mut warnings) = ConfigFile::read(path)?;
        // Where the file is used, the unit may set a state directory.
        let environment = Environment { state_directory: Some("/".into()), ..Environment::default() };
        Self::resolve(file, CliOverrides::default(), &environment, &mut warnings)?;
        Ok(warnings)
    }

    pub(super) fn resolve(
        mut file: ConfigFile,
        overrides: CliOverrides,
        environment: &Environment,
        warnings: &mut Vec<String>,
    ) -> Result<Self, ConfigErrors> {
        let mut errors = Collected::default();
        let tls = errors.keep(tls(&mut file)).flatten();
        let sign = errors.keep(signing_policy(&mut file)).unwrap_or_default();
        let stores = (file.virtual_nix_store.take(), file.real_nix_store.take());
        let layout = StoreLayout::resolve(stores, file.build_log_dir.take(), environment);
        let layout = errors.keep(layout).unwrap_or_default();
        let credentials_directory = path_of(environment.credentials_directory.as_deref()).map(Path::to_owned);
        let sign_key_paths = sign_key_paths(&mut file, environment, credentials_directory.as_deref());
        let sign_key_paths = errors.keep(sign_key_paths).unwrap_or_default();
        let flags = (overrides.daemon_socket, overrides.daemon_command);
        let daemon = daemon(&mut file, flags, environment, layout.chroot_store().as_deref());
        let views = views(&mut file, &mut errors);
        let access = AccessConfig::resolve(&mut file, &views, tls.is_some(), (&mut errors, warnings));
        let state_dir = file.state_dir.take();
        let state_dir = state_dir.as_deref().or(first_directory_of(environment.state_directory.as_deref()));
        let state_dir = state_dir.map(Path::to_owned);
        let push = PushConfig::resolve(&mut file, access.as_ref(), state_dir.is_some(), (&mut errors, warnings));
        let nar_cache = nar_cache(&mut file, environment.cache_directory.as_deref(), warnings);
        let directories = (state_dir.is_some(), nar_cache.is_some());
        let bucket = BucketConfig::resolve(&mut file, environment, directories, (&mut errors, warnings));
        if let Ok(daemon) = &daemon {
            gateway::check(&file, daemon, bucket.as_ref(), (!views.is_empty(), push.is_some()), &mut errors);
        }
        let daemon = errors.end(daemon)?;
        let audit = AuditConfig::resolve(file.has_table("audit"), file.audit_file.take(), file.audit_on_failure);
        let (real_nix_store, build_log_dir) = layout.on_this_machine(&daemon);
        let access_log =
            AccessLogConfig::resolve(file.access_log_enable, file.access_log_file.take(), file.access_log_format);
        let (zstd, encoders) = (zstd(&file, warnings), encoders(&file));
        let enable_compression = enable_compression(&file, nar_cache.is_some(), warnings);
        warnings.extend(
            environment.unread_keys.iter().filter_map(|(name, value)| unread_key(name, value, &sign_key_paths)),
        );
        Ok(Self {
            bind: match overrides.bind.or(file.bind) {
                Some(bind) => bind,
                None => BindAddress::Tcp(DEFAULT_BIND.to_owned()),
            },
            unix_socket_mode: file.unix_socket_mode.unwrap_or_default(),
            admin_socket: admin_socket::resolve(overrides.admin_socket, file.admin_socket, environment),
            shutdown_timeout: Duration::from_secs(file.shutdown_timeout.unwrap_or(DEFAULT_SHUTDOWN_TIMEOUT)),
            workers: file.workers.unwrap_or(DEFAULT_WORKERS),
            max_connections_per_worker: file.max_connections.filter(|it| *it > 0).unwrap_or(DEFAULT_MAX_CONNECTIONS),
            max_connections_per_client: file.max_connections_per_client,
            trusted_proxies: file.trusted_proxies.unwrap_or_else(|| Cidr::LOOPBACK.to_vec()),
            max_metadata_connections: file.max_metadata_connections.unwrap_or(DEFAULT_MAX_METADATA_CONNECTIONS),
            max_nar_connections: file.max_nar_connections.unwrap_or(DEFAULT_MAX_NAR_CONNECTIONS),
            nar_source: file.nar_source.unwrap_or_default(),
            verify: file.verify.unwrap_or_default(),
            priority: file.priority.unwrap_or(DEFAULT_PRIORITY),
            browse: file.browse.unwrap_or(false),
            enable_compression,
            zstd,
            nar_cache,
            encoders,
            narinfo_cache: NarinfoCacheConfig {
                max_size: file.narinfo_cache_max_size.unwrap_or(DEFAULT_NARINFO_CACHE),
                ttl: Duration::from_secs(file.narinfo_cache_ttl.unwrap_or(DEFAULT_NARINFO_TTL)),
            },
            gc_protection: Some(Duration::from_secs(file.gc_protection.unwrap_or(DEFAULT_GC_PROTECTION)))
                .filter(|it| !it.is_zero() && daemon.address != DaemonAddress::None),
            virtual_nix_store: layout.virtual_nix_store,
            real_nix_store,
            build_log_dir,
            access_log,
            daemon,
            sign_key_paths,
            credentials_directory,
            sign,
            tls,
            access,
            views,
            audit,
            push,
            bucket,
            state_dir,
        })
    }

    /// Returns the upper bound of open connections.
    #[must_use]
    pub const fn max_connections(&self) -> usize {
        self.workers * self.max_connections_per_worker
    }
}

/// Returns a warning about a configuration file that earlier servers read by default.
fn unread_file(path: &Path) -> String {
    let path = path.display();
    format!("{path} in the working directory is not read\n  help: --config {path}, or CONFIG_FILE={path}")
}

/// Returns a warning about a signing key in a variable of another cache, unless the key is in use.
fn unread_key(variable: &str, value: &OsStr, in_use: &[PathBuf]) -> Option<String> {
    let path = Path::new(value);
    if in_use.iter().any(|key| key == path) {
        return None;
    }
    let path = path.display();
    Some(format!(
        "{variable} is not read: {path} signs nothing\n  help: sign_key_paths = [\"{path}\"] in the configuration file, or \
         SIGN_KEY_PATHS={path}"
    ))
}

fn tls(file: &mut ConfigFile) -> Result<Option<TlsConfig>, ConfigError> {
    const CERT: &str = "tls_cert_path";
    const KEY: &str = "tls_key_path";
    match (file.tls_cert_path.take(), file.tls_key_path.take()) {
        (Some(cert), Some(key)) => Ok(Some(TlsConfig { cert, key })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(file.error_at(CERT, Problem::HalfTls { present: CERT, absent: KEY })),
        (None, Some(_)) => Err(file.error_at(KEY, Problem::HalfTls { present: KEY, absent: CERT })),
    }
}

fn signing_policy(file: &mut ConfigFile) -> Result<SigningPolicy, ConfigError> {
    let public_keys = std::mem::take(&mut file.trusted_public_keys);
    let serve_untrusted = file.serve_untrusted.unwrap_or(true);
    let without_effect = |key| Err(file.error_at(key, Problem::RequiresTrusted { key }));
    match file.sign.unwrap_or(Scope::All) {
        Scope::Trusted => Ok(SigningPolicy::Trusted(TrustPolicy { public_keys, serve_untrusted })),
        Scope::All if !public_keys.is_empty() => without_effect("trusted_public_keys"),
        Scope::All if !serve_untrusted => without_effect("serve_untrusted"),
        Scope::All => Ok(SigningPolicy::All),
    }
}

fn daemon(
    file: &mut ConfigFile,
    flags: (Option<PathBuf>, Option<DaemonCommand>),
    environment: &Environment,
    chroot_store: Option<&Path>,
) -> Result<Daemon, ConfigError> {
    let flag = one_address(flags, || ConfigError::TwoDaemonFlags)?;
    let keys = (file.daemon_socket.take(), file.daemon_command.take());
    let key = one_address(keys, || file.error_at("daemon_command", Problem::TwoDaemons))?;
    Daemon::locate(flag, key, environment, chroot_store).map_err(ConfigError::DaemonSocketPath)
}

fn one_address(
    given: (Option<PathBuf>, Option<DaemonCommand>),
    two: impl FnOnce() -> ConfigError,
) -> Result<Option<DaemonAddress>, ConfigError> {
    match given {
        (Some(_), Some(_)) => Err(two()),
        (socket, command) => Ok(socket.map(gateway::address).or(command.map(DaemonAddress::Command))),
    }
}

fn sign_key_paths(
    file: &mut ConfigFile,
    environment: &Environment,
    credentials: Option<&Path>,
) -> Result<Vec<PathBuf>, ConfigError> {
    let mut all = Vec::from_iter(file.sign_key_path.take());
    all.append(&mut file.sign_key_paths);
    all.extend(path_of(environment.sign_key_path.as_deref()).map(Path::to_owned));
    let words = environment.sign_key_paths.as_deref().unwrap_or_default();
    let words = words.as_bytes().split(u8::is_ascii_whitespace);
    all.extend(words.filter(|word| !word.is_empty()).map(|word| PathBuf::from(OsStr::from_bytes(word))));
    if let Some(directory) = credentials {
        all.extend(
            credential_keys(directory)
                .map_err(|cause| ConfigError::Credentials { path: directory.to_owned(), cause })?,
        );
    }
    let mut once: Vec<PathBuf> = Vec::new();
    for path in all {
        if !once.contains(&path) {
            once.push(path);
        }
    }
    Ok(once)
}

/// Returns the signing keys among the credentials, in the order of their names.
fn credential_keys(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut keys = Vec::new();
    for entry in directory.read_dir()? {
        let entry = entry?;
        if entry.file_name().as_bytes().starts_with(CREDENTIAL_PREFIX) {
            keys.push(entry.path());
        }
    }
    keys.sort();
    Ok(keys)
}
