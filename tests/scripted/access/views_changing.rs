//! Views whose roots change, and a nix-daemon that is away meanwhile.

use std::fs;
use std::process::Stdio;

use super::views::{Machine, assert_as_not_there, item, items, reply};
use crate::operations::hidden::text;
use crate::support::scratch;
use crate::support::scripted_daemon::{Reply, Script};
use crate::support::server::Harmonia;

const GRANT: &str = "[[access.grant]]\nwho = [\"anonymous\"]\nmay = [\"read\"]\nview = \"public\"\n";

#[test]
fn a_new_root_shows_at_the_first_request_with_its_closure() {
    let machine = Machine::new();
    assert_eq!(machine.status(4), 404);
    machine.add("public", 3);
    assert_eq!(machine.status(4), 200);
    assert_eq!(machine.status(3), 200);
}

#[test]
fn a_removed_root_disappears_from_every_cache() {
    let machine = Machine::new();
    machine.add("public", 3);
    let compressed = |range: &[(&str, &str)]| {
        let mut headers = vec![("Accept-Encoding", "zstd")];
        headers.extend_from_slice(range);
        machine.harmonia.http().get_with(&item(3).nar_url(), &headers).status
    };
    // Now its path info, its signatures and its compressed NAR are cached.
    assert_eq!((machine.status(3), compressed(&[])), (200, 200));
    fs::remove_file(machine.roots.join("public/3")).unwrap();
    machine.wait_until_gone(3);
    assert_as_not_there(&machine, 3, 77);
    assert_eq!((machine.status(1), compressed(&[("Range", "bytes=1-")])), (200, 404));
}

#[test]
fn without_nix_daemon_a_miss_is_no_404_if_a_root_is_new() {
    let machine = Machine::new();
    assert_eq!((machine.status(1), machine.status(2)), (200, 200));
    machine.daemon.play(Script::replying(|_| Reply::then_disconnect([])));
    // Nothing new: everything is known.
    assert_eq!((machine.status(1), machine.status(5)), (200, 404));
    machine.add("public", 3);
    assert_eq!((machine.status(1), machine.status(5)), (200, 502));
    machine.daemon.play(Script::replying(|query| reply(&items(), query)));
    assert_eq!((machine.status(4), machine.status(5)), (200, 404));
}

#[test]
fn a_reload_changes_roots_and_views() {
    let machine = Machine::new();
    machine.add("public", 3);
    assert_eq!([1, 3, 5].map(|number| machine.status(number)), [200, 200, 404]);
    let roots = |numbers: &[usize]| {
        let paths = numbers.iter().map(|number| item(*number).path).collect::<Vec<_>>();
        format!("[views.public]\nroots = {paths:?}\n")
    };
    machine.reload(&format!("[access]\nanonymous = []\n{GRANT}{}", roots(&[5])));
    machine.harmonia.wait_for_log_times("reloaded access", 1);
    assert_eq!([1, 3, 5].map(|number| machine.status(number)), [404, 404, 200]);
    assert_as_not_there(&machine, 3, 77);
    // A view that is not defined leaves the old one in force.
    machine.reload(&format!("[access]\nanonymous = []\n{GRANT}"));
    machine.harmonia.wait_for_log("there is no view \"public\"");
    machine.harmonia.wait_for_log_times("reloaded access", 2);
    assert_eq!([1, 5].map(|number| machine.status(number)), [404, 200]);
    // So does a file of users that cannot be read, with the view that is not in the configuration any more.
    let users = "[access]\nanonymous = []\nusers_file = \"/nonexistent\"\n";
    machine.reload(&format!("{users}{}{}", GRANT.replace("public", "other"), roots(&[1]).replace("public", "other")));
    machine.harmonia.wait_for_log("keeping the current access: ");
    assert_eq!([1, 5].map(|number| machine.status(number)), [404, 200]);
    // Without a grant everybody has to say who it is.
    machine.reload(&format!("[access]\nanonymous = []\n{}", roots(&[5])));
    machine.harmonia.wait_for_log_times("reloaded access", 3);
    assert_eq!([1, 5].map(|number| machine.status(number)), [401, 401]);
}

#[test]
fn a_view_shows_what_is_pinned_until_it_is_unpinned() {
    let machine = Machine::new();
    assert_eq!([3, 4].map(|number| machine.status(number)), [404, 404]);
    text(&machine.admin, &["pin", "web", &item(3).path]);
    assert_eq!([4, 3].map(|number| machine.status(number)), [200, 200]);
    text(&machine.admin, &["unpin", "web"]);
    machine.wait_until_gone(3);
    assert_as_not_there(&machine, 3, 77);
    assert_eq!(machine.status(1), 200);
}

#[test]
fn a_check_counts_the_roots_of_each_view_and_names_what_cannot_be_read() {
    let machine = Machine::new();
    // Root may read everything, but no system has a name this long.
    let long = format!("/{}", "n".repeat(300));
    let views =
        [("empty", machine.roots.join("empty/*")), ("public", machine.roots.join("public/*")), ("long", long.into())];
    let views = views.map(|(name, root)| format!("[views.{name}]\nroots = [{root:?}]\n")).concat();
    let file = scratch::fresh_dir().join("config.toml");
    fs::write(&file, format!("bind = \"127.0.0.1:0\"\n{}{views}", machine.daemon.config())).unwrap();
    let mut check = Harmonia::program();
    let output = check.arg("--config").arg(&file).arg("check").stdout(Stdio::piped()).output().unwrap();
    let [found, errors] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(found.contains("view \"public\": ok, 1 root\n"), "{found}{errors}");
    assert!(
        errors.contains("view \"empty\" has no roots, so that nothing is in it\n  help: create one of /"),
        "{errors}"
    );
    assert!(errors.contains("view \"long\" has 0 roots, others may be missing: cannot read \"/nnn"), "{errors}");
}
