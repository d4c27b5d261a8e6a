//! Names and passwords of a users file: who is let in, reloads, and guesses.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use data_encoding::BASE64;

use crate::support::footprint;
use crate::support::http::{Connection, Http, Response};
use crate::support::scratch;
use crate::support::scripted_daemon::ScriptedDaemon;
use crate::support::server::Harmonia;
use crate::support::store_item::{StoreItem, noise};

/// Hashes of a low cost, of the passwords "a" and "abc".
const OF_A: &str = "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe";
const OF_ABC: &str = "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i";

/// Number of checks of one address that wait.
const WAITING: u8 = 32;

/// A private cache that alice, whose password is "abc", and carol, whose password is "a", may read.
struct Private {
    item: StoreItem,
    users: PathBuf,
    harmonia: Harmonia,
    _daemon: ScriptedDaemon,
}

impl Private {
    fn start(item: StoreItem) -> Self {
        let daemon = ScriptedDaemon::start(item.script());
        let users = scratch::fresh_dir().join("users");
        fs::write(&users, format!("alice:{OF_ABC}\nbob:{OF_ABC}\ncarol:{OF_A}\n")).unwrap();
        let config = format!(
            "{}trusted_proxies = []\n[access]\nanonymous = [\"metrics\"]\nusers_file = \"{}\"\n[[access.grant]]\n\
             who = [\"user:alice\", \"user:carol\"]\nmay = [\"read\"]\n",
            daemon.config(),
            users.display()
        );
        let harmonia = Harmonia::start(&config);
        Self { item, users, harmonia, _daemon: daemon }
    }

    /// Returns a client with an address of its own: failures count for an address.
    fn http_from(&self, last: u8) -> Http {
        self.harmonia.http().from([127, 0, 1, last])
    }

    fn get_from(&self, last: u8, url: &str, credentials: &str) -> Response {
        self.http_from(last).get_with(url, &[("Authorization", &basic(credentials))])
    }

    fn status_from(&self, last: u8, credentials: &str) -> u16 {
        self.get_from(last, "/nix-cache-info", credentials).status
    }
}

fn basic(credentials: &str) -> String {
    format!("Basic {}", BASE64.encode(credentials.as_bytes()))
}

#[test]
fn the_right_password_of_a_user_with_a_grant_opens_a_private_cache_and_nothing_else_does() {
    let cache = Private::start(StoreItem::file(b"private"));
    for url in ["/nix-cache-info", &cache.item.narinfo_url(), &cache.item.nar_url()] {
        let response = cache.get_from(1, url, "alice:abc");
        assert_eq!(response.status, 200, "{url}");
        assert!(response.header("cache-control").unwrap().starts_with("private"), "{url}");
        assert_eq!(cache.harmonia.http().get(url).status, 401, "{url}");
    }
    assert_eq!(cache.status_from(1, "carol:a"), 200);
    let forbidden = cache.get_from(1, "/nix-cache-info", "bob:abc");
    assert_eq!(forbidden.status, 403);
    assert_eq!(forbidden.text(), "user:bob lacks the right to read: ask the operator of this cache\n");
    let wrong = cache.get_from(2, "/nix-cache-info", "alice:abd");
    assert_eq!(wrong.status, 401);
    assert_eq!(wrong.text(), "wrong user or password: check netrc-file on the client\n");
    // A name that exists is told from one that does not by no byte.
    let unknown = cache.get_from(2, "/nix-cache-info", "dave:abd");
    let without_date =
        |response: &Response| response.headers.iter().filter(|(name, _)| name != "date").cloned().collect::<Vec<_>>();
    assert_eq!((unknown.status, &unknown.body), (401, &wrong.body));
    assert_eq!(without_date(&unknown), without_date(&wrong));
    for (address, credentials) in (3..).zip([
        "alice:",
        ":abc",
        ":",
        "alice:a",
        "carol:abc",
        "Alice:abc",
        "alice :abc",
        "alice:ABC",
        "alice:abc ",
        "alice:abc:",
        "alice:abc\0",
        "alice\0:abc",
        "alice:\0",
        "alice:abc\n",
        &format!("alice:{OF_ABC}"),
    ]) {
        let response = cache.get_from(address, "/nix-cache-info", credentials);
        assert_eq!(response.status, 401, "{credentials:?}");
        assert!(response.header("www-authenticate").is_some() && response.text().lines().count() == 1);
    }
}

#[test]
fn a_header_that_is_too_long_is_refused_and_the_next_request_is_not() {
    let cache = Private::start(StoreItem::file(b"private"));
    // Longer than passwords are, and as long as the head of a request may just be.
    for length in [73, 200, 10_000] {
        assert_eq!(cache.status_from(1, &format!("alice:{}", "a".repeat(length))), 401, "{length}");
    }
    for length in [16 << 10, 1 << 20] {
        let mut connection = cache.http_from(1).connect().unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Basic {}\r\n\r\n", "a".repeat(length));
        // The server may close before it has read all of it, and the response is lost then.
        let _ = connection.send(request.as_bytes());
        if let Ok(response) = connection.receive(false) {
            assert_eq!(response.status, 431, "{length}");
        }
    }
    assert_eq!(cache.status_from(1, "alice:abc"), 200);
}

#[test]
fn sighup_replaces_the_users_while_downloads_go_on_and_a_bad_file_replaces_nothing() {
    let cache = Private::start(StoreItem::file(&noise(20 << 20)));
    let mut download = cache.http_from(1).connect_narrow().unwrap();
    let head = format!("Host: h\r\nConnection: close\r\nAuthorization: {}", basic("alice:abc"));
    download.send(format!("GET {} HTTP/1.1\r\n{head}\r\n\r\n", cache.item.nar_url()).as_bytes()).unwrap();
    assert_eq!(download.head().unwrap().status, 200);

    fs::write(&cache.users, format!("carol:{OF_A}\n")).unwrap();
    cache.harmonia.reload();
    cache.harmonia.wait_for_log("reloaded access: 1 grants, 1 users");
    assert_eq!((cache.status_from(2, "alice:abc"), cache.status_from(2, "carol:a")), (401, 200));

    for (bad, said) in [
        ("carol:hunter2\n", ":1: user \"carol\": the password is in another format, not a bcrypt hash"),
        ("# empty\nhunter2\n", ":2: no colon ends a name"),
    ] {
        fs::write(&cache.users, bad).unwrap();
        cache.harmonia.reload();
        let line = cache.harmonia.wait_for_log(said);
        assert!(line.contains("ERROR reload failed, keeping the current access: "), "{line}");
        assert!(line.contains(&*cache.users.to_string_lossy()), "{line}");
        assert_eq!((cache.status_from(3, "alice:abc"), cache.status_from(3, "carol:a")), (401, 200));
    }
    fs::remove_file(&cache.users).unwrap();
    cache.harmonia.reload();
    cache.harmonia.wait_for_log("keeping the current access: cannot read the users file ");
    assert_eq!(cache.status_from(3, "carol:a"), 200);
    assert!(!cache.harmonia.log().contains("hunter2"));

    assert!(download.read(u64::MAX).unwrap() == cache.item.nar, "the download was cut or changed");
}

#[test]
fn a_changed_password_is_in_force_after_sighup_though_the_old_one_was_remembered() {
    let cache = Private::start(StoreItem::file(b"private"));
    assert_eq!([(); 2].map(|()| cache.status_from(1, "alice:abc")), [200, 200]);
    fs::write(&cache.users, format!("alice:{OF_A}\n")).unwrap();
    // Nothing changes before the reload.
    assert_eq!((cache.status_from(1, "alice:abc"), cache.status_from(2, "alice:a")), (200, 401));
    cache.harmonia.reload();
    cache.harmonia.wait_for_log("reloaded access: 1 grants, 1 users");
    assert_eq!((cache.status_from(1, "alice:abc"), cache.status_from(3, "alice:a")), (401, 200));
}

/// Sends guesses at the password of alice, each on a connection of its own, and leaves these open.
fn guess(http: Http, count: u8) -> Vec<Connection> {
    let guess = |number: u8| {
        let mut connection = http.connect().unwrap();
        let authorization = basic(&format!("alice:guess {number}"));
        let request = format!("GET /nix-cache-info HTTP/1.1\r\nHost: h\r\nAuthorization: {authorization}\r\n\r\n");
        connection.send(request.as_bytes()).unwrap();
        connection
    };
    (0..count).map(guess).collect()
}

#[test]
fn guesses_wait_and_are_refused_while_whoever_logged_in_is_let_in() {
    let cache = Private::start(StoreItem::file(b"private"));
    let attacker = 1;
    // From the address that the guesses will come from, as behind a router of an office.
    assert_eq!(cache.status_from(attacker, "alice:abc"), 200);
    let (guesses, checked) = (100, 20);
    let (responses, arrived) = mpsc::channel();
    for mut connection in guess(cache.http_from(attacker), guesses) {
        let responses = responses.clone();
        // Those that wait end with the server.
        thread::spawn(move || connection.receive(false).map(|response| responses.send(response)));
    }
    // A few are checked, the more of them the slower this machine is; then the pauses are of eight seconds.
    let refused = arrived.iter().filter(|response| response.status != 401).take((guesses - WAITING - checked).into());
    for response in refused {
        assert_eq!((response.status, response.header("retry-after")), (429, Some("1")));
        assert!(response.text().starts_with("too many wrong passwords: "), "{}", response.text());
    }
    // Who has logged in is let in, and everybody at another address.
    for _ in 0..10 {
        assert_eq!(cache.status_from(attacker, "alice:abc"), 200);
    }
    assert_eq!(cache.status_from(2, "carol:a"), 200);
    assert_eq!(cache.http_from(attacker).get("/metrics").status, 200);
}

#[test]
fn guesses_and_unknown_names_take_no_memory() {
    let cache = Private::start(StoreItem::file(b"private"));
    let flood = || {
        for address in 10..60 {
            drop(guess(cache.http_from(address), 20));
            let long = format!("{}:{}", "n".repeat(200), "p".repeat(1000));
            drop(cache.get_from(address, "/nix-cache-info", &long));
        }
    };
    footprint::leaves_nothing(cache.harmonia.pid(), flood);
    let log = cache.harmonia.log();
    assert!(log.lines().count() < 100, "{log}");
    assert!(log.contains("refused a wrong name or password from 127.0.1.") && !log.contains("nnnn"), "{log}");
}
