//! `harmonia pin` with the garbage collectors of all releases.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::operations::status_command::server;
use crate::support::scratch;
use crate::support::server::Harmonia;

#[test]
fn a_pinned_path_survives_the_garbage_collector_until_it_is_unpinned() {
    for release in Release::ALL {
        let daemon = Daemon::start(release);
        let (link_dir, state) = (scratch::fresh_dir(), scratch::fresh_dir());
        let config =
            format!("daemon_socket = \"{}\"\nstate_dir = {state:?}\ngc_protection = 0\n", daemon.socket().display());
        let (_harmonia, socket) = server(&config);
        let run = |arguments: &[&str]| {
            let output = Harmonia::program()
                .arg("--admin-socket")
                .arg(&socket)
                .args(arguments)
                .stdout(Stdio::piped())
                .output()
                .unwrap();
            assert!(output.status.success(), "{release}: {arguments:?}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let path = daemon.content().path("large");
        let link = link_dir.join("result");
        std::os::unix::fs::symlink(path, &link).unwrap();
        run(&["pin", "web", link.to_str().unwrap()]);
        let _ = daemon.run(&["nix-store", "--gc"]).stdout();
        assert!(daemon.on_host(path).exists(), "{release}: a pinned path was collected");
        run(&["unpin", "web"]);
        let _ = daemon.run(&["nix-store", "--gc"]).stdout();
        assert!(!daemon.on_host(path).exists(), "{release}: a path without a pin was kept");
        let output =
            Harmonia::program().arg("--admin-socket").arg(&socket).args(["pin", "web", path]).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(" is not valid, so it cannot be pinned\n"), "{release}: {message}");
        assert!(!state.join("pins/web").exists(), "{release}");
        assert_eq!(run(&["pins", "--json"]).trim(), json!([]).to_string());
    }
}

#[test]
fn check_says_whether_nix_daemon_sees_the_state_directory() {
    for release in Release::ALL {
        let daemon = Daemon::shared(release);
        let (state, file) = (scratch::fresh_dir(), scratch::fresh_dir().join("config.toml"));
        let socket = daemon.socket();
        fs::write(&file, format!("bind = \"127.0.0.1:0\"\ndaemon_socket = {socket:?}\nstate_dir = {state:?}\n"))
            .unwrap();
        let program = Harmonia::program();
        let check = format!("{} --config {} check", program.get_program().to_string_lossy(), file.display());
        // As with PrivateTmp=: the directory has the same path as one that nix-daemon sees, and is another.
        let private = format!("mount -t tmpfs tmpfs {} && {check}", state.display());
        for (command, expected) in [
            (vec!["sh", "-c", &check], "pins: ok, nix-daemon sees "),
            (vec!["unshare", "--mount", "sh", "-c", &private], "harmonia pin would not work: nix-daemon does not see "),
        ] {
            let output = Command::new(command[0]).args(&command[1..]).output().unwrap();
            let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(text.contains(expected), "{release}: {text}");
            assert!(!state.join(".pin-probe").exists(), "{release}");
        }
    }
}
