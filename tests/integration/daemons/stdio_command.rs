//! A program in place of the daemon's socket: `nix-daemon --stdio` of real releases.

use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::nix::shared_server;
use crate::support::keys;
use crate::support::narinfo::value;
use crate::support::server::Harmonia;

#[test]
fn nix_daemon_on_pipes_serves_the_same_narinfos_and_nars() {
    for release in Release::ALL {
        let command = Daemon::shared(release).stdio_command();
        let harmonia =
            Harmonia::start(&format!("daemon_command = [{command:?}]\nsign_key_paths = [{:?}]\n", keys::OURS.secret));
        let greeting = harmonia.wait_for_log("nix-daemon at ");
        assert!(greeting.contains(&command.display().to_string()), "{greeting}");
        for name in ["regular", "many-references", "odd-entries", "large"] {
            let narinfo = harmonia.http().get(&shared_server::narinfo_url(name));
            assert_eq!(narinfo.text(), shared_server::narinfo(name), "{name} of {release}");
            let url = format!("/{}", value(narinfo.text(), "URL"));
            let (nar, expected) = (harmonia.http().get(&url), shared_server::http().get(&url));
            assert!(nar.status == 200 && nar.body == expected.body, "{name} of {release}");
        }
        let missing = harmonia.http().get("/zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz.narinfo");
        assert_eq!(missing.status, 404);
    }
}

#[test]
fn a_program_that_ends_at_once_is_502() {
    let harmonia = Harmonia::start("daemon_command = [\"/bin/false\"]\n");
    assert_eq!(harmonia.http().get(&shared_server::narinfo_url("regular")).status, 502);
}

#[test]
fn an_option_names_the_program_too() {
    let mut program = Harmonia::program();
    program.args(["--bind", "127.0.0.1:0", "--daemon-command"]).arg(Daemon::shared(Release::Nix2_26).stdio_command());
    let harmonia = Harmonia::launch(program);
    assert_eq!(harmonia.http().get(&shared_server::narinfo_url("regular")).status, 200);
}
