//! `/version`, `/health`, `/ready` and `/pubkey`.

use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::probes::is_not_ready;
use crate::support::server::Harmonia;

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
