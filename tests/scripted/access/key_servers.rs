//! Servers of key sets that hang, send too much, redirect, or are down: requests never wait for them.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use super::token_requests::{config, with_bearer};
use crate::support::footprint;
use crate::support::issuer::{AUDIENCE, Issuer};
use crate::support::scratch;
use crate::support::server::Harmonia;

/// Starts a server that answers each request by this function, and returns its URL.
fn serve(answer: impl Fn(&mut TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/jwks", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                stream.read_line(&mut line).unwrap();
            }
            answer(stream.get_mut());
        }
    });
    url
}

fn respond(stream: &mut TcpStream, document: &str) {
    let length = document.len();
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{document}");
    stream.write_all(response.as_bytes()).unwrap();
}

fn start(url: &str) -> Harmonia {
    Harmonia::start(&config(&format!("jwks_url = \"{url}\"")))
}

/// Asserts that tokens are told to wait, and that everything else goes on.
fn assert_goes_on_without_keys(harmonia: &Harmonia) {
    let token = Issuer::new("1").token("acme/app", AUDIENCE, 300);
    let response = with_bearer(harmonia, &token);
    assert_eq!(response.status, 503, "{}", response.text());
    assert!(response.header("retry-after").is_some());
    assert!(response.text().starts_with("the keys of the token's issuer are not known yet: "), "{}", response.text());
    assert_eq!(harmonia.http().get("/health").status, 200);
    assert_eq!(harmonia.http().get("/nix-cache-info").status, 401);
}

/// A server of a key set: while there is none, connections wait for their response.
#[derive(Default)]
struct Held {
    document: Mutex<Option<String>>,
    changed: Condvar,
}

impl Held {
    fn set(&self, document: Option<String>) {
        *self.document.lock().unwrap() = document;
        self.changed.notify_all();
    }

    /// Starts to serve, and returns the URL.
    fn start(self: &Arc<Self>) -> String {
        let held = Arc::clone(self);
        serve(move |stream| {
            let lock = held.document.lock().unwrap();
            let document = held.changed.wait_while(lock, |document| document.is_none()).unwrap().clone();
            respond(stream, &document.unwrap());
        })
    }
}

fn has_kept_keys(state: &Path) -> bool {
    let mut files = fs::read_dir(state.join("jwks")).into_iter().flatten();
    files.any(|file| file.unwrap().path().extension().is_some_and(|it| it == "json"))
}

#[test]
fn tokens_are_503_until_the_first_keys_are_fetched_and_the_keys_outlive_a_restart() {
    let issuer = Issuer::new("1");
    let server = Arc::new(Held::default());
    let url = server.start();
    let state = scratch::fresh_dir();
    let config = format!("state_dir = \"{}\"\n{}", state.display(), config(&format!("jwks_url = \"{url}\"")));
    let token = issuer.token("acme/app", AUDIENCE, 300);
    let harmonia = Harmonia::start(&config);
    assert_goes_on_without_keys(&harmonia);
    server.set(Some(issuer.key_set()));
    harmonia.wait_for_log("fetched 1 token keys from ");
    assert_eq!(with_bearer(&harmonia, &token).status, 200);
    // The server of the keys hangs from now on.
    while !has_kept_keys(&state) {
        thread::yield_now();
    }
    server.set(None);
    drop(harmonia);
    let harmonia = Harmonia::start(&config);
    assert_eq!(with_bearer(&harmonia, &token).status, 200);
    let unknown = Issuer::new("2").token("acme/app", AUDIENCE, 300);
    assert_eq!(with_bearer(&harmonia, &unknown).status, 503);
    // The issuer has replaced its key meanwhile: the old one ends with the next fetch.
    let next = Issuer::new("2");
    server.set(Some(next.key_set()));
    harmonia.wait_for_log("fetched 1 token keys from ");
    assert_eq!(with_bearer(&harmonia, &next.token("acme/app", AUDIENCE, 300)).status, 200);
    assert_eq!(with_bearer(&harmonia, &token).status, 401);
}

#[test]
fn a_key_server_that_hangs_holds_up_no_request_no_reload_and_no_stop() {
    let server = Arc::new(Held::default());
    let mut harmonia = start(&server.start());
    assert_goes_on_without_keys(&harmonia);
    harmonia.reload();
    harmonia.wait_for_log("reloaded access: ");
    assert_goes_on_without_keys(&harmonia);
    harmonia.terminate();
    assert!(harmonia.ended().success());
}

#[test]
fn a_key_set_of_a_gigabyte_is_not_read() {
    let url = serve(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n");
        let chunk = vec![b' '; 1 << 20];
        while stream.write_all(&chunk).is_ok() {}
    });
    let harmonia = start(&url);
    let line = harmonia.wait_for_log("cannot fetch token keys from ");
    assert!(line.contains("answering tokens of this issuer with 503 until then: longer than 1048576 bytes"), "{line}");
    assert!(footprint::most_memory(harmonia.pid()) < 128 << 20);
    assert_goes_on_without_keys(&harmonia);
}

#[test]
fn a_redirect_of_a_key_server_is_not_followed() {
    let asked = Arc::new(AtomicUsize::new(0));
    let (issuer, counter) = (Issuer::new("1"), Arc::clone(&asked));
    let key_set = issuer.key_set();
    let evil = serve(move |stream| {
        counter.fetch_add(1, Ordering::Relaxed);
        respond(stream, &key_set);
    });
    let target = evil.clone();
    let url = serve(move |stream| {
        let response = format!("HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(response.as_bytes()).unwrap();
        let _ = stream.read(&mut [0]);
    });
    let harmonia = start(&url);
    let line = harmonia.wait_for_log("cannot fetch token keys from ");
    assert!(line.contains(&format!("a redirect to {evil}, which is not followed")), "{line}");
    assert_eq!(with_bearer(&harmonia, &issuer.token("acme/app", AUDIENCE, 300)).status, 503);
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[test]
fn a_key_server_that_is_down_is_named_once_in_the_log() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/jwks", listener.local_addr().unwrap());
    drop(listener);
    let harmonia = start(&url);
    let line = harmonia.wait_for_log("cannot fetch token keys from ");
    assert!(line.contains("WARN") && line.contains(&url) && line.contains("Connection refused"), "{line}");
    for _ in 0..10 {
        assert_goes_on_without_keys(&harmonia);
    }
    assert_eq!(harmonia.log().matches("cannot fetch token keys").count(), 1);
}
