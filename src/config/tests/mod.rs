//! Tests from text, flags and environment to a configuration or a message.

mod example;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::daemon::{Daemon, DaemonSource};
use super::file::ConfigFile;
use super::*;

pub(super) fn environment() -> Environment {
    Environment { default_socket: PathBuf::from("/nix/var/nix/daemon-socket/socket"), ..Environment::default() }
}

fn load(text: &str, overrides: CliOverrides, environment: &Environment) -> Result<(Config, Vec<String>), ConfigErrors> {
    let (file, mut warnings) = ConfigFile::parse(Path::new("config.toml"), text)?;
    let config = Config::resolve(file, overrides, environment, &mut warnings)?;
    Ok((config, warnings))
}

pub(crate) fn loaded(text: &str) -> (Config, Vec<String>) {
    load(text, CliOverrides::default(), &environment()).unwrap()
}

pub(super) fn loaded_in(text: &str, environment: &Environment) -> Config {
    load(text, CliOverrides::default(), environment).unwrap().0
}

pub(super) fn message(text: &str) -> String {
    load(text, CliOverrides::default(), &environment()).unwrap_err().to_string()
}

#[test]
fn each_mistake_is_reported_with_its_line_its_key_and_what_to_do() {
    for (text, expected) in [
        ("# a\n\nworker = 4", "config.toml:3: unknown key \"worker\"\n  help: did you mean \"workers\"?"),
        ("\n[zstd]\nlevle = 3", "config.toml:3: unknown key \"zstd.levle\"\n  help: did you mean \"zstd.level\"?"),
        ("colour = 1", "config.toml:1: unknown key \"colour\"\n  help: config.example.toml lists every key"),
        (
            "[compression]\nlevel = 1",
            "config.toml:1: unknown key \"compression\"\n  help: config.example.toml lists every key",
        ),
        ("zstd = 3", "config.toml:1: zstd: expected a table, found 3"),
        (
            "[narinfo_cache]\nmax_size = \"64 MBs\"",
            "config.toml:2: narinfo_cache.max_size: \"64 MBs\" is not a size\n  help: write a number of bytes, or a whole \
             number with K, M, G or T for powers of 1024, e.g. \"64 MiB\" or \"64M\"",
        ),
        (
            "narinfo_cache.max_size = -1",
            "config.toml:1: narinfo_cache.max_size: expected a number of bytes that is not negative, found -1",
        ),
        (
            "narinfo_cache.max_size = true",
            "config.toml:1: narinfo_cache.max_size: expected a size such as \"64 MiB\", found true",
        ),
        ("workers = \"four\"", "config.toml:1: workers: expected an integer from 1 to 1024, found \"four\""),
        ("workers = 0", "config.toml:1: workers: expected an integer from 1 to 1024, found 0"),
        ("workers = 1025", "config.toml:1: workers: expected an integer from 1 to 1024, found 1025"),
        ("shutdown_timeout = -1", "config.toml:1: shutdown_timeout: expected an integer from 0 to 86400, found -1"),
        ("unix_socket_mode = 660", "config.toml:1: unix_socket_mode: expected a string, found 660"),
        (
            "unix_socket_mode = \"rw\"",
            "config.toml:1: unix_socket_mode: \"rw\" is not a mode\n  help: write three octal digits after a zero, e.g. \
             \"0660\" for owner and group",
        ),
        ("[workers]", "config.toml:1: workers: expected an integer from 1 to 1024, found a table"),
        ("priority = -1", "config.toml:1: priority: expected an integer from 0 to 2147483647, found -1"),
        (
            "priority = 99999999999999999999999",
            "config.toml:1: priority: expected an integer from 0 to 2147483647, found 99999999999999999999999",
        ),
        ("zstd.level = 23", "config.toml:1: zstd.level: expected an integer from -131072 to 22, found 23"),
        ("zstd.window_log = 32", "config.toml:1: zstd.window_log: expected an integer from 10 to 31, found 32"),
        ("enable_compression = 1", "config.toml:1: enable_compression: expected true or false, found 1"),
        (
            "nar_source = \"disk\"",
            "config.toml:1: nar_source: expected \"auto\", \"daemon\" or \"store\", found \"disk\"",
        ),
        ("verify = \"never\"", "config.toml:1: verify: expected \"always\" or \"once\", found \"never\""),
        ("real_nix_store = \"\"", "config.toml:1: real_nix_store: expected a path, found \"\""),
        ("sign_key_paths = \"/k\"", "config.toml:1: sign_key_paths: expected an array of paths, found \"/k\""),
        ("sign_key_paths = [\n\"/k\",\n2,\n]", "config.toml:3: sign_key_paths: expected a string, found 2"),
        ("daemon_command = 2.5", "config.toml:1: daemon_command: expected a command or an array of strings, found 2.5"),
        (
            "daemon_command = []",
            "config.toml:1: daemon_command: the daemon's command is empty\n  help: write one such as `ssh HOST nix-daemon --stdio`, or leave it out",
        ),
        (
            "daemon_command = \"a | b\"",
            "config.toml:1: daemon_command: the daemon's command contains |, but it is split at white space and run \
             without a shell\n  help: write daemon_command in the configuration file as an array of strings, or name a \
             script",
        ),
        (
            "daemon_socket = \"ssh://builder\"",
            "config.toml:1: daemon_socket: \"ssh://builder\" is not a Unix socket\n  help: for a daemon elsewhere use a \
             command such as `ssh HOST nix-daemon --stdio`",
        ),
        (
            "daemon_socket = \"/s\"\n\ndaemon_command = \"c\"",
            "config.toml:3: daemon_socket and daemon_command are both set\n  help: keep one of them",
        ),
        (
            "\ntls_cert_path = \"/c\"",
            "config.toml:2: tls_cert_path is set without tls_key_path\n  help: set both to serve https, neither to serve \
             http",
        ),
        (
            "tls_key_path = \"/k\"",
            "config.toml:1: tls_key_path is set without tls_cert_path\n  help: set both to serve https, neither to serve \
             http",
        ),
    ] {
        assert_eq!(message(text), expected);
    }
}

#[test]
fn the_first_mistake_of_a_file_is_the_one_reported() {
    assert!(message("workers = 0\nbindd = \"x\"").starts_with("config.toml:1: workers"));
}

#[test]
fn text_that_is_not_toml_and_malformed_values_are_reported_with_their_line() {
    for (text, start) in [
        ("workers = 4\nbind = \"x", "config.toml:2: invalid basic string"),
        ("workers = 4\nworkers = 5", "config.toml:2: duplicate key"),
        ("\nbind = \"nowhere\"", "config.toml:2: bind: "),
        ("\nvirtual_nix_store = \"nix/\"", "config.toml:2: virtual_nix_store: \"nix/\" is not a store directory"),
    ] {
        let message = message(text);
        assert!(message.starts_with(start), "{message}");
    }
}

#[test]
fn a_size_is_a_number_of_bytes_or_has_a_unit() {
    for (value, bytes) in [("0", 0), ("1_000", 1000), ("\"1 GiB\"", 1 << 30)] {
        let (config, _) = loaded(&format!("narinfo_cache.max_size = {value}"));
        assert_eq!(config.narinfo_cache.max_size.bytes(), bytes, "{value}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let overrides = CliOverrides { config_file: Some("/nonexistent/harmonia.toml".into()), ..CliOverrides::default() };
    let error = Config::load(overrides, &environment()).unwrap_err();
    assert!(error.to_string().starts_with("cannot read /nonexistent/harmonia.toml: "), "{error}");
}

#[test]
fn the_flag_names_the_file_or_else_the_environment_does() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (flag, variable) = (file("flag.toml", "workers = 7"), file("variable.toml", "workers = 8"));
    let workers = |config_file, variable: &OsStr| {
        let environment = Environment { config_file: Some(variable.to_owned()), ..environment() };
        Config::load(CliOverrides { config_file, ..CliOverrides::default() }, &environment).unwrap().0.workers
    };
    assert_eq!(workers(Some(flag), variable.as_os_str()), 7);
    assert_eq!(workers(None, variable.as_os_str()), 8);
    assert_eq!(workers(None, OsStr::new("")), 4);
}

#[test]
fn the_defaults_are_those_of_harmonias_readme() {
    let (config, warnings) = Config::load(CliOverrides::default(), &environment()).unwrap();
    assert_eq!(config.bind.to_string(), "[::]:5000");
    assert_eq!((config.workers, config.max_connections_per_worker, config.priority), (4, 2048, 30));
    assert_eq!((config.max_connections(), config.max_connections_per_client), (8192, None));
    assert!(!config.enable_compression);
    assert_eq!((config.nar_cache, config.nar_source, config.verify), (None, NarSource::Auto, Verify::Once));
    assert_eq!(config.encoders.nice, 10);
    assert_eq!(config.trusted_proxies, Cidr::LOOPBACK);
    assert_eq!(config.virtual_nix_store.as_str(), "/nix/store");
    assert_eq!(config.real_nix_store.as_deref(), Some(Path::new("/nix/store")));
    assert_eq!((config.sign_key_paths, config.tls), (vec![], None));
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn a_file_written_for_harmonia_loads_with_one_warning_per_key_without_effect() {
    let (config, warnings) = loaded(
        r#"
bind = "unix:/run/harmonia/socket"
workers = 4
max_connection_rate = 256
max_connections = 25000
priority = 30
enable_compression = true
virtual_nix_store = "/nix/store"
real_nix_store = "/guest/nix/store"
nix_db_path = "/nix/var/nix/db/db.sqlite"
sign_key_path = "/run/secrets/old.secret"
sign_key_paths = [ "/run/secrets/cache.secret" ]
tls_cert_path = "/path/to/cert.pem"
tls_key_path = "/path/to/key.pem"

[zstd]
level = 9
long_distance_matching = true
window_log = 27
max_ldm_encoders_per_worker = 2
"#,
    );
    assert_eq!(config.bind, BindAddress::Unix("/run/harmonia/socket".into()));
    assert_eq!(config.real_nix_store.as_deref(), Some(Path::new("/guest/nix/store")));
    assert_eq!(config.max_connections(), 4 * 25_000);
    assert_eq!(loaded("max_connections = 0\nworkers = 2").0.max_connections(), 2 * 2048);
    assert_eq!(config.sign_key_paths, ["/run/secrets/old.secret", "/run/secrets/cache.secret"].map(PathBuf::from));
    assert_eq!(config.tls, Some(TlsConfig { cert: "/path/to/cert.pem".into(), key: "/path/to/key.pem".into() }));
    assert_eq!(config.zstd, ZstdConfig { level: 9, long_distance_matching: true, window_log: Some(27) });
    assert_eq!(
        warnings,
        [
            "config.toml:10: nix_db_path has no effect: harmonia queries nix-daemon and never opens the database",
            "config.toml:20: zstd.max_ldm_encoders_per_worker has no effect: nar_cache.threads limits the \
             number of encoders",
            "config.toml:7: enable_compression has no effect without a NAR cache directory\n  help: set \
             nar_cache.dir, or CacheDirectory= in the unit",
        ]
    );
}

#[test]
fn the_command_line_wins_over_the_file() {
    let overrides = CliOverrides {
        bind: Some("127.0.0.1:1".parse().unwrap()),
        daemon_socket: Some("/flag".into()),
        ..CliOverrides::default()
    };
    let (config, _) = load("bind = \"127.0.0.1:2\"\ndaemon_socket = \"/file\"", overrides, &environment()).unwrap();
    assert_eq!(config.bind.to_string(), "127.0.0.1:1");
    assert_eq!(config.daemon, Daemon { address: DaemonAddress::Socket("/flag".into()), chosen_by: DaemonSource::Flag });
}

#[test]
fn two_daemons_on_the_command_line_are_an_error() {
    let overrides = CliOverrides {
        daemon_socket: Some("/s".into()),
        daemon_command: Some("c".parse().unwrap()),
        ..CliOverrides::default()
    };
    let error = load("", overrides, &environment()).unwrap_err().to_string();
    assert!(error.starts_with("--daemon-socket and --daemon-command are both given\n  help: "), "{error}");
}

#[test]
fn signing_keys_of_file_environment_and_credentials_add_up_without_duplicates() {
    let credentials = tempfile::tempdir().unwrap();
    for name in ["sign-key-1", "sign-key-0", "tls-key"] {
        std::fs::write(credentials.path().join(name), "").unwrap();
    }
    let zero = credentials.path().join("sign-key-0");
    let environment = Environment {
        sign_key_paths: Some(OsString::from(format!(" /b  {}\n", zero.display()))),
        credentials_directory: Some(credentials.path().into()),
        ..environment()
    };
    let (config, _) = load("sign_key_paths = [\"/a\", \"/b\"]", CliOverrides::default(), &environment).unwrap();
    assert_eq!(
        config.sign_key_paths,
        [PathBuf::from("/a"), PathBuf::from("/b"), zero, credentials.path().join("sign-key-1")]
    );
    assert_eq!(config.credentials_directory.as_deref(), Some(credentials.path()));
}

#[test]
fn what_earlier_servers_read_is_read_or_named() {
    let environment = Environment {
        sign_key_path: Some("/one key".into()),
        sign_key_paths: Some("/b /c".into()),
        unread_file: Some("settings.toml".into()),
        ..environment()
    };
    let (config, warnings) = Config::load(CliOverrides::default(), &environment).unwrap();
    assert_eq!(config.sign_key_paths, ["/one key", "/b", "/c"].map(PathBuf::from));
    assert_eq!(
        warnings,
        ["settings.toml in the working directory is not read\n  help: --config settings.toml, or \
          CONFIG_FILE=settings.toml"]
    );
    let named = Environment { config_file: Some("/nonexistent".into()), ..environment };
    assert!(Config::load(CliOverrides::default(), &named).unwrap_err().to_string().contains("/nonexistent"));
}

#[test]
fn a_key_that_only_another_cache_reads_is_warned_about_unless_it_is_in_use() {
    let environment = Environment {
        unread_keys: vec![("NIX_SECRET_KEY_FILE", "/secret".into()), ("CACHE_SECRET_KEY_PATH", "/used".into())],
        ..environment()
    };
    let (config, warnings) = load("sign_key_paths = [\"/used\"]", CliOverrides::default(), &environment).unwrap();
    assert_eq!(config.sign_key_paths, [PathBuf::from("/used")]);
    assert_eq!(
        warnings,
        ["NIX_SECRET_KEY_FILE is not read: /secret signs nothing\n  help: sign_key_paths = [\"/secret\"] in the \
          configuration file, or SIGN_KEY_PATHS=/secret"]
    );
}

#[test]
fn credentials_that_cannot_be_listed_are_an_error_that_names_the_directory() {
    let environment = Environment { credentials_directory: Some("/nonexistent".into()), ..environment() };
    let error = load("", CliOverrides::default(), &environment).unwrap_err().to_string();
    assert!(error.starts_with("cannot list /nonexistent (CREDENTIALS_DIRECTORY): "), "{error}");
}
