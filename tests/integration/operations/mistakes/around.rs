//! Mistakes outside of the configuration: addresses, nix-daemon, the environment, the command line, directories.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use super::{Mistake, file};
use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::exit::{CANNOT_CREATE, CONFIG, DATA, NO_PERMISSION, OK, OS_ERROR, PROTOCOL, UNAVAILABLE, USAGE};
use crate::support::scratch;
use crate::support::scripted_daemon::{Reply, Script, ScriptedDaemon};

/// Servers and files that live while the mistakes are made.
#[expect(dead_code, reason = "kept for what its end would undo")]
pub(super) struct Kept(TcpListener, UnixListener, Vec<ScriptedDaemon>);

pub(super) fn mistakes() -> (Vec<Mistake>, Kept) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let path = scratch::fresh_dir().join("http");
    let unix = UnixListener::bind(&path).unwrap();
    let daemons = [Reply::then_disconnect([]), Reply::then_disconnect("SSH-2.0-OpenSSH_9.2\r\n")];
    let daemons = Vec::from(daemons.map(|greeting| ScriptedDaemon::start(Script::greeting(greeting))));
    let mut mistakes = addresses(&taken, &path);
    mistakes.extend(daemon(&daemons));
    mistakes.extend(environment());
    mistakes.extend(command_line());
    mistakes.extend(directories());
    (mistakes, Kept(taken, unix, daemons))
}

fn addresses(taken: &TcpListener, unix: &std::path::Path) -> Vec<Mistake> {
    let wrong =
        |what, bind: &str, message: &[&str]| Mistake::in_file(what, format!("bind = {bind:?}"), UNAVAILABLE, message);
    let port = taken.local_addr().unwrap().to_string();
    let precious = file("precious", "");
    vec![
        wrong(
            "a port that another program has",
            &port,
            &["cannot listen on", &port, "find the server that uses this port"],
        ),
        Mistake {
            arguments: Vec::new(),
            ..wrong("the same without a check", &port, &["cannot listen on", "ss -ltnp"])
        },
        wrong(
            "an address of another machine",
            "192.0.2.1:5000",
            &["cannot listen on 192.0.2.1:5000", "use the address of an interface"],
        ),
        wrong(
            "a name that there is not",
            "no-such-host.invalid:5000",
            &["cannot resolve no-such-host.invalid", "use an address"],
        ),
        wrong(
            "a Unix socket of another server",
            &format!("unix:{}", unix.display()),
            &["another server is listening there", "help: "],
        ),
        wrong(
            "a file where the socket is to be",
            &format!("unix:{}", precious.display()),
            &["is not a socket", "help: "],
        ),
        wrong(
            "a Unix socket without its directory",
            "unix:/nonexistent/http",
            &["/nonexistent/http", "create the directory"],
        ),
    ]
}

fn daemon(scripted: &[ScriptedDaemon]) -> Vec<Mistake> {
    let wrong = |what, config: String, code, message: &[&str]| Mistake::in_file(what, config, code, message);
    let socket = |path: &str| format!("daemon_socket = {path:?}");
    let command = |command: &str| format!("daemon_command = {command:?}");
    let stale = scratch::fresh_dir().join("socket");
    drop(UnixListener::bind(&stale).unwrap());
    let elsewhere = format!(
        "virtual_nix_store = \"/gnu/store\"\n{}",
        socket(Daemon::shared(Release::Nix2_34).socket().to_str().unwrap())
    );
    let [refusing, foreign] = scripted else { panic!("other daemons") };
    vec![
        wrong(
            "a daemon that is not there",
            socket("/nonexistent/socket"),
            UNAVAILABLE,
            &["cannot reach nix-daemon at /nonexistent/socket", "help: "],
        ),
        wrong(
            "a daemon that was stopped",
            socket(stale.to_str().unwrap()),
            UNAVAILABLE,
            &["connection refused", "help: "],
        ),
        wrong(
            "a file for the daemon's socket",
            socket(file("socket", "").to_str().unwrap()),
            UNAVAILABLE,
            &["cannot reach nix-daemon", "help: "],
        ),
        wrong(
            "a daemon's socket too deep",
            socket(&format!("/{}", "d/".repeat(60))),
            CONFIG,
            &["daemon_socket: ", "107", "help: "],
        ),
        wrong(
            "a store's URI for the socket",
            socket("ssh://builder"),
            CONFIG,
            &["is not a Unix socket", "ssh HOST nix-daemon --stdio"],
        ),
        wrong(
            "a daemon that lets this user not in",
            refusing.config(),
            NO_PERMISSION,
            &["is in allowed-users of nix.conf"],
        ),
        wrong("something else at the socket", foreign.config(), PROTOCOL, &["is not nix-daemon", "help: "]),
        wrong(
            "another store directory than the daemon's",
            elsewhere,
            PROTOCOL,
            &["refuses paths of /gnu/store", "help: "],
        ),
        wrong("a command that is not there", command("nix-demon --stdio"), UNAVAILABLE, &["nix-demon", "help: "]),
        wrong(
            "a command for a shell",
            command("nix-daemon --stdio | tee log"),
            CONFIG,
            &["without a shell", "array of strings"],
        ),
        wrong(
            "a command that ends at once",
            command("false"),
            UNAVAILABLE,
            &["it exited before the handshake", "help: "],
        ),
        wrong(
            "a command that says something else",
            command("echo hello from a shell"),
            PROTOCOL,
            &["is not nix-daemon", "help: "],
        ),
        wrong("no command at all", command(""), CONFIG, &["daemon_command: ", "help: "]),
    ]
}

fn environment() -> Vec<Mistake> {
    let wrong = Mistake::in_environment;
    let unused = file("nix-serve.secret", "");
    vec![
        wrong(
            "a variable that names no file",
            "CONFIG_FILE",
            "/nonexistent/harmonia.toml",
            CONFIG,
            &["/nonexistent/harmonia.toml", "help: "],
        ),
        wrong(
            "keys separated by colons",
            "SIGN_KEY_PATHS",
            "/etc/a:/etc/b",
            CONFIG,
            &["/etc/a:/etc/b", "by spaces in SIGN_KEY_PATHS"],
        ),
        wrong("a relative store", "NIX_STORE_DIR", "nix/store", CONFIG, &["NIX_STORE_DIR: ", "nix/store"]),
        wrong(
            "a store's URI for a socket",
            "NIX_DAEMON_SOCKET_PATH",
            "tcp://builder",
            CONFIG,
            &["NIX_DAEMON_SOCKET_PATH: ", "help: "],
        ),
        wrong(
            "credentials that systemd did not make",
            "CREDENTIALS_DIRECTORY",
            "/nonexistent",
            CONFIG,
            &["/nonexistent (CREDENTIALS_DIRECTORY)", "help: "],
        ),
        wrong(
            "the key variable of another cache",
            "NIX_SECRET_KEY_FILE",
            unused.to_str().unwrap(),
            OK,
            &["WARN NIX_SECRET_KEY_FILE is not read", "sign_key_paths"],
        ),
        wrong(
            "a level that the log does not have",
            "RUST_LOG",
            "verbose",
            OK,
            &["WARN RUST_LOG: \"verbose\" is neither", "error, warn, info"],
        ),
    ]
}

fn command_line() -> Vec<Mistake> {
    let wrong = Mistake::on_command_line;
    vec![
        wrong("an option that there is not", &["--port", "5000"], USAGE, &["unexpected argument '--port'", "--help"]),
        wrong("a command that there is not", &["serve"], USAGE, &["unrecognized subcommand 'serve'", "--help"]),
        wrong("a misspelt command", &["chekc"], USAGE, &["unrecognized subcommand 'chekc'", "check"]),
        wrong(
            "an option without its value",
            &["--config"],
            USAGE,
            &["a value is required for '--config <FILE>'", "--help"],
        ),
        wrong("an address without a port", &["--bind", "localhost"], USAGE, &["has no valid port", "help: "]),
        wrong(
            "two ways to the daemon on the command line",
            &["check", "--daemon-socket", "/s", "--daemon-command", "c"],
            CONFIG,
            &["--daemon-socket and --daemon-command are both given", "keep one of them"],
        ),
        wrong(
            "a check of a file and of a unit",
            &["check", "--syntax", "f", "--unit", "u"],
            USAGE,
            &["cannot be used with", "--help"],
        ),
        wrong(
            "a check of the syntax of no file",
            &["check", "--syntax", "/nonexistent"],
            CONFIG,
            &["/nonexistent", "help: "],
        ),
        wrong(
            "a unit that there is not",
            &["check", "--unit", "no-such-unit-1"],
            if rustix::process::geteuid().is_root() { UNAVAILABLE } else { NO_PERMISSION },
            &["help: "],
        ),
        wrong("nothing to warm", &["cache", "warm"], USAGE, &["required arguments", "<PATH>", "--help"]),
        Mistake {
            variables: vec![("CACHE_DIRECTORY", scratch::fresh_dir().join("nars").display().to_string())],
            ..wrong(
                "a file for a store path",
                &["cache", "warm", "/etc/hostname"],
                DATA,
                &["/etc/hostname is neither a store path nor a link to one", "help: "],
            )
        },
        wrong(
            "a cache that is not configured",
            &["cache", "stats", "--config", "/dev/null"],
            CONFIG,
            &["no NAR cache directory is configured", "help: "],
        ),
        wrong(
            "a quick start without a home",
            &["quickstart"],
            CANNOT_CREATE,
            &["neither STATE_DIRECTORY, XDG_STATE_HOME nor HOME is set", "set HOME"],
        ),
    ]
}

fn directories() -> Vec<Mistake> {
    let of = |dir: &std::path::Path| format!("nar_cache.dir = {dir:?}");
    let used = scratch::fresh_dir();
    fs::create_dir(used.join("tmp")).unwrap();
    fs::write(used.join("tmp/thesis"), "").unwrap();
    vec![
        Mistake::in_file("a file for the cache directory", of(&file("nars", "")), OS_ERROR, &["nars", "help: "]),
        Mistake::in_file("a directory that others use", of(&used), CONFIG, &[used.to_str().unwrap(), "help: "]),
        Mistake::in_file(
            "compression without a directory",
            "enable_compression = true",
            OK,
            &["WARN", "enable_compression has no effect", "set nar_cache.dir"],
        ),
        Mistake::in_file(
            "a key of another cache",
            "nix_db_path = \"/nix/var/nix/db/db.sqlite\"\nworker = 1",
            CONFIG,
            &["unknown key \"worker\"", "did you mean"],
        ),
    ]
}
