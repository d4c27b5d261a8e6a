//! Rules for the sources, checked by reading them: dependencies between modules, and forbidden contents.
//!
//! `docs/explanation/architecture.md` has the reasons. A new module or a new arrow is entered here, in sight of the others.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const MAX_LINES: usize = 400;

/// Modules of the program that each module may name. Modules that are not listed are the top, and may name all.
const ARROWS: [(&str, &[&str]); 21] = [
    ("access", &["client_tls", "clock_cache", "config", "fairness", "metrics", "process", "sync"]),
    ("access_log", &["config", "log_lines", "metrics", "sync"]),
    ("admin", &["bucket", "config", "fairness", "http", "metrics", "nar_cache", "net", "process", "store", "sync"]),
    ("audit_log", &["config", "fairness", "log_lines", "metrics", "sync"]),
    (
        "bucket",
        &[
            "client_tls",
            "clock_cache",
            "config",
            "fairness",
            "metrics",
            "nar_cache",
            "process",
            "signing",
            "store",
            "sync",
        ],
    ),
    ("client_tls", &[]),
    ("clock_cache", &[]),
    ("config", &[]),
    ("fairness", &["metrics", "sync"]),
    (
        "http",
        &[
            "access",
            "access_log",
            "audit_log",
            "bucket",
            "clock_cache",
            "config",
            "fairness",
            "human_size",
            "metrics",
            "nar_cache",
            "push",
            "signing",
            "store",
            "sync",
        ],
    ),
    ("human_size", &[]),
    ("log_lines", &[]),
    ("metrics", &["sync"]),
    ("nar_cache", &["config", "fairness", "human_size", "metrics", "store", "sync"]),
    ("no_bucket", &["config", "fairness", "metrics", "nar_cache", "signing", "store"]),
    ("net", &["config", "fairness", "metrics", "sync"]),
    ("process", &["sync"]),
    ("push", &["clock_cache", "config", "fairness", "human_size", "nar_cache", "store", "sync"]),
    ("signing", &["config"]),
    ("store", &["clock_cache", "config", "fairness", "metrics", "process", "sync"]),
    ("sync", &[]),
];
const TOP: [&str; 6] = ["cli", "commands", "error", "lib", "main", "output"];

/// Modules of the program that may name a package.
const PACKAGES: [(&str, &[&str]); 24] = [
    ("arc_swap", &["access", "http", "net", "store"]),
    ("bcrypt", &["access"]),
    ("brotli_decompressor", &["push"]),
    ("clap", &["cli", "lib"]),
    ("flate2", &["push"]),
    ("futures_util", &["bucket"]),
    ("hyper", &["access", "admin", "bucket", "commands", "http", "net"]),
    ("hyper_util", &["access", "admin", "bucket", "net"]),
    ("if_addrs", &["commands"]),
    ("indicatif", &["commands"]),
    ("ipnet", &["config"]),
    ("libc", &["net", "process"]),
    ("lzma_rust2", &["push"]),
    ("prometheus_client", &["metrics"]),
    ("object_store", &["bucket"]),
    ("rustls_native_certs", &["client_tls"]),
    ("rustls_pemfile", &["net"]),
    ("sd_notify", &["net", "process"]),
    ("subtle", &["access"]),
    ("tokio_rustls", &["access", "bucket", "client_tls", "net"]),
    ("toml", &["config"]),
    ("tracing_subscriber", &["process"]),
    ("twox_hash", &["bucket", "http", "nar_cache"]),
    ("x509_parser", &["net"]),
];

/// Files that may spawn tasks, which end on their own. All other tasks belong to `supervisor`, so that a panic does not end
/// them silently.
const SPAWNING: [&str; 19] = [
    "src/admin/nar_cache.rs",
    "src/bucket/engine/http_client.rs",
    "src/bucket/read/narinfo.rs",
    "src/commands/serve/mod.rs",
    "src/nar_cache/fetch/fetches.rs",
    "src/nar_cache/fill/fills.rs",
    "src/nar_cache/precompress/run.rs",
    "src/nar_cache/warm/run.rs",
    "src/net/accept.rs",
    "src/process/supervisor.rs",
    "src/store/daemon/dialer.rs",
    "src/store/daemon/empty_store.rs",
    "src/store/path_info/prefetch.rs",
    "src/store/path_info/query.rs",
    "src/store/path_info/store_names.rs",
    "src/store/path_info/inventory.rs",
    "src/store/views/scan.rs",
    "src/store/nar/opener.rs",
    "src/store/daemon/transport.rs",
];

/// Names that only the client of the protocol may use: everything else there is without I/O.
const IO: [&str; 6] = ["tokio::", "std::env::", "std::fs::", "std::net::", "std::process::", "std::os::unix::net::"];

#[test]
fn modules_name_only_what_lies_below_them() {
    let arrows = BTreeMap::from(ARROWS);
    for source in sources("src") {
        let module = module(&source);
        let Some(below) = arrows.get(module.as_str()) else {
            assert!(TOP.contains(&module.as_str()), "{module} has no place in the architecture");
            continue;
        };
        for named in paths_in(&code(&source), "crate::") {
            // `use crate::{a, b}` would hide the names from this test.
            assert!(
                named == module || below.contains(&named.as_str()),
                "{} names crate::{named}, which is not below {module}",
                source.display()
            );
        }
    }
}

#[test]
fn packages_are_named_only_by_the_modules_that_own_their_subject() {
    for source in sources("src") {
        let (module, code) = (module(&source), code(&source));
        for (package, owners) in PACKAGES {
            assert!(
                owners.contains(&module.as_str()) || !names(&code, &format!("{package}::")),
                "{} names {package}, which belongs to {owners:?}",
                source.display()
            );
        }
    }
}

#[test]
fn tasks_without_an_end_are_supervised() {
    for source in sources("src") {
        let path = source.strip_prefix(root()).unwrap().to_str().unwrap();
        let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
        let code = code(&source);
        let program = code.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let spawns = !is_test && names(program, "tokio::spawn(");
        assert!(
            !spawns || SPAWNING.contains(&path),
            "{path} spawns a task\n  help: if it has no end, use supervisor; if it ends by itself, enter the file in SPAWNING"
        );
    }
}

#[test]
fn the_protocol_does_no_io_but_in_its_client() {
    let client = root().join("protocol/src/client");
    for source in sources("protocol/src").into_iter().filter(|source| !source.starts_with(&client)) {
        let code = code(&source);
        for io in IO {
            assert!(!names(&code, io), "{} names {io}", source.display());
        }
    }
}

#[test]
fn no_source_is_longer_than_a_reader_can_keep_in_mind() {
    for source in ["src", "protocol", "tests", "xtask"].into_iter().flat_map(sources) {
        let lines = fs::read_to_string(&source).unwrap().lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines", source.display());
    }
}

#[test]
fn dependencies_come_from_one_registry() {
    let locks = ["Cargo.lock", "tests/fuzz/Cargo.lock"].map(|lock| fs::read_to_string(root().join(lock)).unwrap());
    let sources: Vec<_> = locks.iter().flat_map(|lock| lock.lines()).filter(|it| it.starts_with("source = ")).collect();
    assert!(sources.len() > 1);
    for source in &sources {
        assert!(source.starts_with("source = \"registry+") && source == &sources[0], "{source}");
    }
}

#[test]
fn no_file_names_the_home_of_whoever_wrote_it() {
    // Put together here, so that this file does not hold them.
    let homes = ["home", "Users", "root"].map(|directory| format!("/{directory}/"));
    let mut files = Vec::new();
    walk(&root(), &mut files);
    for file in files {
        let bytes = fs::read(&file).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for home in &homes {
            assert!(!text.contains(home.as_str()), "{} names {home}", file.display());
        }
    }
}

#[test]
fn the_reader_of_sources_sees_code_and_not_comments() {
    let text =
        "// crate::a::B\nuse crate::b::C; // crate::c\n    /// [`crate::d`]\nlet e = crate::e::f(sub_crate::g);\n";
    let code = without_comments(text);
    assert_eq!(paths_in(&code, "crate::"), ["b", "e"]);
    assert!(names(&code, "crate::") && !names("sub_crate::g", "crate::") && !names("crates::g", "crate::"));
    assert_eq!(paths_in("use crate::{a, b};", "crate::"), [""]);
    assert_eq!(module(&root().join("src/http/route.rs")), "http");
    assert_eq!(module(&root().join("src/cli.rs")), "cli");
}

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the module of the program to which a file of `src` belongs.
fn module(source: &Path) -> String {
    let below = source.strip_prefix(root().join("src")).unwrap();
    let first = Path::new(below.components().next().unwrap().as_os_str());
    first.file_stem().unwrap().to_str().unwrap().to_owned()
}

/// Returns the Rust sources below a directory.
pub(crate) fn sources(directory: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    walk(&root().join(directory), &mut files);
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    assert!(!files.is_empty(), "there are no sources in {directory}");
    files
}

/// Returns all files below a directory but those that git or cargo created.
fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let made = [".git", "target"].iter().any(|name| path == root().join(name));
        if path.is_symlink() || made {
            continue;
        }
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}

pub(crate) fn code(source: &Path) -> String {
    without_comments(&fs::read_to_string(source).unwrap())
}

/// Removes comments. It also cuts strings at `//`, which these rules can afford.
fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Returns the word after each `prefix` that begins a path.
fn paths_in(code: &str, prefix: &str) -> Vec<String> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let begins = |at: usize| !code[..at].ends_with(word);
    let found = code.match_indices(prefix).filter(|(at, _)| begins(*at));
    found.map(|(at, _)| code[at + prefix.len()..].chars().take_while(|c| word(*c)).collect()).collect()
}

fn names(code: &str, prefix: &str) -> bool {
    !paths_in(code, prefix).is_empty()
}
