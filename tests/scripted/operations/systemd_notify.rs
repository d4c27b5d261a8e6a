//! Notifications to a service manager, whose socket the test plays.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::support::http::Http;
use crate::support::scratch;
use crate::support::server::Harmonia;

/// Upper bound of a wait, generous because the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// Creates a service manager's socket and starts the program with it. The program is ready even without nix-daemon.
fn told(watchdog: Duration) -> (UnixDatagram, Harmonia) {
    let directory = scratch::fresh_dir();
    let (socket, config) = (directory.join("notify"), directory.join("config.toml"));
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    fs::write(&config, format!("bind = \"127.0.0.1:0\"\ndaemon_socket = \"{}/none\"\n", directory.display())).unwrap();
    let mut program = Harmonia::program();
    program.arg("--config").arg(config).env("NOTIFY_SOCKET", socket);
    program.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
    (manager, Harmonia::launch(program))
}

fn next(manager: &UnixDatagram) -> String {
    let mut message = [0; 4096];
    let length = manager.recv(&mut message).unwrap();
    String::from_utf8(message[..length].to_vec()).unwrap()
}

/// Receives the next message that is neither of the watchdog nor a status text.
fn next_event(manager: &UnixDatagram) -> String {
    std::iter::repeat_with(|| next(manager))
        .find(|message| message != "WATCHDOG=1\n" && !message.starts_with("STATUS="))
        .unwrap()
}

#[test]
fn the_manager_is_told_when_requests_are_accepted_and_when_no_longer() {
    let (manager, mut harmonia) = told(PATIENCE);
    assert_eq!(next_event(&manager), "READY=1\n");
    assert_eq!(Http::new(harmonia.address()).get("/nix-cache-info").status, 200);
    harmonia.terminate();
    assert_eq!(next_event(&manager), "STOPPING=1\n");
    assert_eq!(harmonia.ended().code(), Some(0));
}

#[test]
fn the_status_says_that_there_is_no_daemon() {
    let (manager, _harmonia) = told(PATIENCE);
    let status = "STATUS=nix-daemon is unreachable\n";
    assert!(std::iter::repeat_with(|| next(&manager)).any(|message| message == status));
}

#[test]
fn a_reload_is_announced_with_its_time_and_ends_in_ready() {
    let (manager, harmonia) = told(PATIENCE);
    assert_eq!(next_event(&manager), "READY=1\n");
    harmonia.reload();
    let reloading = next_event(&manager);
    let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    assert!(time.trim_end().parse::<u64>().unwrap() > 0);
    assert_eq!(next_event(&manager), "READY=1\n");
}

#[test]
fn the_watchdog_is_told_for_as_long_as_requests_are_answered() {
    let (manager, harmonia) = told(Duration::from_millis(200));
    let mut told = std::iter::repeat_with(|| next(&manager)).filter(|message| message == "WATCHDOG=1\n");
    assert_eq!(told.by_ref().take(3).count(), 3);
    // A program that does not run answers nothing, and says nothing.
    harmonia.pause();
    manager.set_nonblocking(true).unwrap();
    let mut message = [0; 64];
    while manager.recv(&mut message).is_ok() {}
    manager.set_nonblocking(false).unwrap();
    manager.set_read_timeout(Some(Duration::from_millis(600))).unwrap();
    assert!(manager.recv(&mut message).is_err());
}
