//! `/version`, `/health`, `/ready` and `/pubkey`.

use std::time::{Duration, Instant};

use crate::sample;
use crate::support::keys;
use crate::support::probes::{is_a_line_of_now, is_not_ready};
use crate::support::scratch;
use crate::support::scripted_daemon::{Reply, Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;
use crate::support::wire::Wire;

/// Upper bound of a response: above the server's timeout of 3 s, below the 5 s of a connection attempt.
const SOON: Duration = Duration::from_millis(4500);

#[test]
fn the_version_is_that_of_the_package() {
    is_a_line_of_now(&sample::http().get("/version"), 200, concat!("harmonia ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn health_is_that_of_this_program_and_asks_no_daemon() {
    let daemon = ScriptedDaemon::start(Script::replying(|query| panic!("asked {query:?}")));
    let harmonia = Harmonia::start(&daemon.config());
    is_a_line_of_now(&harmonia.http().get("/health"), 200, "OK");
    assert_eq!(daemon.seen().queries, []);

    let without_daemon = Harmonia::start("daemon_socket = \"/nonexistent/socket\"\n");
    is_a_line_of_now(&without_daemon.http().get("/health"), 200, "OK");
}

#[test]
fn ready_is_200_when_the_daemon_replies() {
    is_a_line_of_now(&sample::http().get("/ready"), 200, "ready");
    let head = sample::http().head("/ready");
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("6"), 0));
}

#[test]
fn not_ready_names_the_reason_without_paths_and_recovers() {
    let item = StoreItem::file(b"ready again");
    let daemon = ScriptedDaemon::start(item.script());
    let harmonia = Harmonia::start(&daemon.config());
    for (script, reason) in [
        (
            Script::replying(|_| Wire::new().error("the database is locked").into()),
            "nix-daemon sent an error or invalid data",
        ),
        (Script::greeting(Reply::then_disconnect([])), "nix-daemon refuses this user"),
    ] {
        // A connection that is closed after its answer makes the next query dial, and meet the script's greeting.
        daemon.play(Script::replying(|_| Reply::then_disconnect([])));
        harmonia.http().get("/ready");
        daemon.play(script);
        is_not_ready(&harmonia.http().get("/ready"), reason);
        daemon.play(item.script());
        is_a_line_of_now(&harmonia.http().get("/ready"), 200, "ready");
    }
}

#[test]
fn a_daemon_that_is_not_there_is_unreachable_sooner_than_a_dial_gives_up() {
    let socket = scratch::fresh_dir().join("socket");
    let harmonia = Harmonia::start(&format!("daemon_socket = \"{}\"\n", socket.display()));
    let asked = Instant::now();
    is_not_ready(&harmonia.http().get("/ready"), "nix-daemon is unreachable");
    assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    harmonia.wait_for_log("\"/ready\" answered 503");
}

#[test]
fn a_silent_daemon_makes_ready_time_out_early() {
    let daemon = ScriptedDaemon::start(Script::replying(|_| Reply::from(Wire::new())));
    let harmonia = Harmonia::start(&daemon.config());
    let asked = Instant::now();
    is_not_ready(&harmonia.http().get("/ready"), "nix-daemon timed out");
    assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
}

#[test]
fn public_keys_are_lines_for_nix_conf() {
    let response = sample::http().get("/pubkey");
    assert_eq!((response.status, response.text()), (200, &*format!("{}\n", keys::OURS.public)));
    assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));

    let both = [&keys::OURS, &keys::FOREIGN].map(|key| format!("\"{}\"", key.secret.display())).join(", ");
    let two = Harmonia::start(&format!("daemon_socket = \"/nonexistent\"\nsign_key_paths = [{both}]\n"));
    let expected = format!("{}\n{}\n", keys::OURS.public, keys::FOREIGN.public);
    assert_eq!(two.http().get("/pubkey").text(), expected);

    let without = Harmonia::start("daemon_socket = \"/nonexistent\"\n");
    assert_eq!(without.http().get("/pubkey").status, 404);
}
