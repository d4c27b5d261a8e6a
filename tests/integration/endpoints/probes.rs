//! `/version`, `/health`, `/ready` and `/pubkey`.

use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::http::Response;
use crate::support::server::Harmonia;

fn is_a_line_of_now(response: &Response, status: u16, line: &str) {
    assert_eq!((response.status, response.text()), (status, &*format!("{line}\n")));
    assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
}

fn is_not_ready(response: &Response, reason: &str) {
    is_a_line_of_now(response, 503, reason);
    assert!(response.header("retry-after").unwrap().parse::<u32>().is_ok());
    assert!(!response.header("x-request-id").unwrap().is_empty());
}

#[test]
fn not_ready_if_the_daemon_has_another_store_directory() {
    for release in Release::ALL {
        let socket = Daemon::shared(release).socket();
        let config = format!("daemon_socket = \"{}\"\nvirtual_nix_store = \"/gnu/store\"\n", socket.display());
        let harmonia = Harmonia::start(&config);
        is_not_ready(&harmonia.http().get("/ready"), "nix-daemon has another store directory");
        harmonia.wait_for_log("nix-daemon refuses paths of /gnu/store: ");
    }
}
