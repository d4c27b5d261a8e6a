//! Mistakes in the configuration file.

use super::{Mistake, file};
use crate::support::exit::CONFIG;
use crate::support::keys;
use crate::support::scratch;

pub(super) fn mistakes() -> Vec<Mistake> {
    let mut mistakes = keys_and_values();
    mistakes.extend(addresses());
    mistakes.extend(files());
    mistakes
}

fn keys_and_values() -> Vec<Mistake> {
    let wrong = |what, text: &str, message: &[&str]| Mistake::in_file(what, text, CONFIG, message);
    let secret = std::fs::read_to_string(&keys::OURS.secret).unwrap();
    vec![
        wrong("a misspelt key", "worker = 4", &["config.toml:1: unknown key \"worker\"", "did you mean \"workers\"?"]),
        wrong(
            "a key in the wrong table",
            "[nar_cache]\nworkers = 4",
            &[
                "config.toml:2: unknown key \"nar_cache.workers\"",
                "did you mean \"workers\"? it belongs above all [tables]",
            ],
        ),
        wrong("a table of another cache", "[compression]\nlevel = 1", &["config.toml:1: unknown key \"compression\""]),
        wrong("a value where a table belongs", "zstd = 3", &["config.toml:1: zstd: expected a table, found 3"]),
        wrong("a word where a number belongs", "workers = \"four\"", &["workers: expected an integer from 1 to 1024"]),
        wrong("no worker at all", "workers = 0", &["workers: expected an integer from 1 to 1024, found 0"]),
        wrong("a negative priority", "priority = -1", &["priority: expected an integer from 0"]),
        wrong("\"yes\" for true", "enable_compression = \"yes\"", &["enable_compression: expected true or false"]),
        wrong(
            "a size in words",
            "nar_cache.max_size = \"10 gigs\"",
            &["nar_cache.max_size: ", "is not a size", "64 MiB"],
        ),
        wrong("a negative size", "narinfo_cache.max_size = -1", &["narinfo_cache.max_size: ", "not negative"]),
        wrong(
            "a fraction of a second",
            "gc_protection = 0.5",
            &["gc_protection: expected an integer from 0 to 86400, found 0.5"],
        ),
        wrong("a level that zstd does not have", "zstd.level = 99", &["zstd.level: expected an integer from"]),
        wrong("a window that no client has", "zstd.window_log = 5", &["zstd.window_log: expected an integer from"]),
        wrong(
            "a word that the key does not know",
            "nar_cache.precompress = \"always\"",
            &["\"off\", \"requested\" or \"new\""],
        ),
        wrong(
            "a source of NARs that there is not",
            "nar_source = \"disk\"",
            &["nar_source: expected", "found \"disk\""],
        ),
        wrong("no verification at all", "verify = \"never\"", &["verify: expected", "found \"never\""]),
        wrong("sign = true", "sign = true", &["sign: expected a string, found true"]),
        wrong(
            "one path where a list belongs",
            "sign_key_paths = \"/k\"",
            &["sign_key_paths: expected an array of paths"],
        ),
        wrong(
            "untrusted paths kept back where all are signed",
            "serve_untrusted = false",
            &["serve_untrusted has no effect with sign", "sign = \"trusted\""],
        ),
        wrong(
            "a trusted key without its name",
            "sign = \"trusted\"\ntrusted_public_keys = [\"AAAA\"]",
            &["config.toml:2: trusted_public_keys: an element is not a public key", "NAME:BASE64"],
        ),
        wrong(
            "a secret key among the trusted ones",
            &format!("sign = \"trusted\"\ntrusted_public_keys = [{:?}]", secret.trim()),
            &["is a secret key", "write its public key"],
        ),
        wrong(
            "a proxy by its name",
            "trusted_proxies = [\"localhost\"]",
            &["trusted_proxies: \"localhost\" is not an address", "192.0.2.1"],
        ),
        wrong("a mode as a number", "unix_socket_mode = 660", &["unix_socket_mode: expected a string, found 660"]),
        wrong("a mode in letters", "unix_socket_mode = \"rw-rw----\"", &["is not a mode", "three octal digits"]),
        wrong("a relative store directory", "virtual_nix_store = \"nix/store\"", &["virtual_nix_store: ", "nix/store"]),
        wrong("an empty path", "nar_cache.dir = \"\"", &["nar_cache.dir: expected a path, found \"\""]),
        wrong(
            "two ways to the daemon",
            "daemon_socket = \"/s\"\ndaemon_command = \"nix-daemon --stdio\"",
            &["daemon_socket and daemon_command are both set", "keep one of them"],
        ),
        wrong(
            "a certificate without its key",
            "tls_cert_path = \"/c\"",
            &["tls_cert_path is set without tls_key_path"],
        ),
        wrong(
            "several mistakes at once",
            "prioritty = 1\nworkers = \"4\"",
            &["config.toml:1: unknown key", "config.toml:2: workers: "],
        ),
    ]
}

fn addresses() -> Vec<Mistake> {
    let wrong = |what, text: &str, message: &[&str]| Mistake::in_file(what, text, CONFIG, message);
    vec![
        wrong("a port without an address", "bind = \"5000\"", &["has no valid port", "127.0.0.1:5000"]),
        wrong("an address without a host", "bind = \":5000\"", &["has no valid host", "[::]:5000"]),
        wrong(
            "an IPv6 address without brackets",
            "bind = \"::1:5000\"",
            &["IPv6 address without brackets", "[::1]:5000"],
        ),
        wrong("a port that there is not", "bind = \"[::]:99999\"", &["bind address \"[::]:99999\"", "help: "]),
        wrong("a URL for an address", "bind = \"https://[::]:443\"", &["is a URL", "tls_cert_path"]),
        wrong(
            "a relative Unix socket",
            "bind = \"unix:run/http\"",
            &["has a relative path", "unix:/run/harmonia/socket"],
        ),
        wrong(
            "a Unix socket too deep",
            &format!("bind = \"unix:/{}\"", "d/".repeat(60)),
            &["has a path of more than 107 bytes", "shorter directory"],
        ),
    ]
}

fn files() -> Vec<Mistake> {
    let wrong = |what, text: &str, message: &[&str]| Mistake::in_file(what, text, CONFIG, message);
    let named = |what, path: &str, message: &[&str]| {
        Mistake::on_command_line(what, &["check", "--config", path], CONFIG, message)
    };
    let latin = file("latin1.toml", b"build_log_dir = \"/\xe9\"\n");
    let directory = scratch::fresh_dir();
    vec![
        wrong("an address without quotes", "bind = [::]:5000", &["config.toml:1: ", "help: "]),
        wrong("YAML", "bind: \"[::]:5000\"", &["config.toml:1: ", "help: "]),
        wrong("typographic quotes", "bind = “[::]:5000”", &["config.toml:1: ", "help: "]),
        wrong("the same key twice", "workers = 1\nworkers = 2", &["config.toml:2: duplicate key", "help: "]),
        wrong("a string without its end", "build_log_dir = \"/var", &["config.toml:1: ", "help: "]),
        named(
            "a file that is not there",
            "/nonexistent/harmonia.toml",
            &["/nonexistent/harmonia.toml: No such file", "help: "],
        ),
        named("a directory as the file", directory.to_str().unwrap(), &["Is a directory", "help: "]),
        named("a file that is not UTF-8", latin.to_str().unwrap(), &["latin1.toml: ", "UTF-8", "help: "]),
    ]
}
