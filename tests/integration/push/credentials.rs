//! Pushes by users with and without the right to.

use std::fs;

use super::source::Source;
use crate::nix::content::Content;
use crate::nix::daemon::Daemon;
use crate::nix::prefix::Prefix;
use crate::nix::release::Release;
use crate::support::keys;
use crate::support::scratch;
use crate::support::server::Harmonia;

/// The password of both users, and its hash.
const PASSWORD: &str = "abcdefghijklmnopqrstuvwxyz";
const HASH: &str = "$2a$08$aTsUwsyowQuzRrDqFflhgekJ8d9/7Z3GV3UcgvzQW3J5zMyrTvlz.";

#[test]
fn a_user_with_the_right_to_push_pushes_and_others_are_told_why_not() {
    let config = ["substitute = false".to_owned(), format!("trusted-public-keys = {}", keys::FOREIGN.public)];
    let daemon = Daemon::on(Prefix::new(Release::Nix2_34, &config), Content::default());
    let users = scratch::fresh_dir().join("users");
    fs::write(&users, format!("pusher:{HASH}\nreader:{HASH}\n")).unwrap();
    let config = format!(
        "daemon_socket = \"{}\"\nstate_dir = \"{}\"\n[push]\n[access]\nusers_file = \"{}\"\n[[access.grant]]\n\
         who = [\"user:*\"]\nmay = [\"read\"]\n[[access.grant]]\nwho = [\"user:pusher\"]\nmay = [\"push\"]\n",
        daemon.socket().display(),
        scratch::fresh_dir().display(),
        users.display()
    );
    for (client, digit) in Release::ALL.into_iter().zip('3'..) {
        // One for each: wrong passwords slow an address down.
        let harmonia = Harmonia::start(&config);
        let source = Source::new(client, digit, 1 << 10);
        let is_valid = || daemon.run(&["nix-store", "--check-validity", &source.top]).succeeded();
        for (user, password, status, reason) in [
            (
                "reader",
                PASSWORD,
                "HTTP error 403",
                "user:reader lacks the right to push: ask the operator of this cache",
            ),
            ("pusher", "wrong", "HTTP error 401", "wrong user or password: check netrc-file on the client"),
            ("nobody", PASSWORD, "HTTP error 401", "wrong user or password: check netrc-file on the client"),
        ] {
            source.has_password("127.0.0.1", user, password);
            let said = source.push(harmonia.url(), &[&source.top]).failure();
            // Nix 2.3 prints no bodies.
            let says_why = said.contains(reason) || client == Release::Nix2_3;
            assert!(said.contains(status) && says_why, "{client} as {user}: {said}");
            assert!(!is_valid());
        }
        source.has_password("127.0.0.1", "pusher", PASSWORD);
        let _ = source.push(harmonia.url(), &[&source.top]).stdout();
        assert!(is_valid(), "{client}");
    }
}
