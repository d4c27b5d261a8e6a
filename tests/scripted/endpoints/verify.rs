//! `verify`: which dumps of nix-daemon are hashed, shown by a daemon whose second dump is wrong. NARs that are read from files
//! are in `nar_source`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::scratch;
use crate::support::scripted_daemon::{Query, Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;

/// Size of a NAR of more than one piece.
const SIZE: usize = 2_000_000;

/// Path, its location in a store directory that the server reads, and a NAR of it with other contents.
struct Lie {
    item: StoreItem,
    place: PathBuf,
    false_nar: Vec<u8>,
}

impl Lie {
    fn new() -> Self {
        let item = StoreItem::file_of(SIZE);
        let place = scratch::fresh_dir().join(Path::new(&item.path).file_name().unwrap());
        fs::write(&place, "only looked at").unwrap();
        let mut false_nar = item.nar.clone();
        false_nar[SIZE / 2] ^= 1;
        Self { item, place, false_nar }
    }

    /// Starts a server that reads the store.
    fn server(&self, daemon: &ScriptedDaemon, config: &str) -> Harmonia {
        let store = self.place.parent().unwrap().display();
        Harmonia::start(&format!("{}nar_source = \"daemon\"\nreal_nix_store = \"{store}\"\n{config}", daemon.config()))
    }

    fn is_served(&self, harmonia: &Harmonia, nar: &[u8]) {
        let response = harmonia.http().get(&self.item.nar_url());
        assert!(response.status == 200 && response.body == nar, "{}", response.status);
    }

    /// Checks that the NAR is truncated.
    fn is_broken_off(&self, harmonia: &Harmonia) {
        let body = harmonia.http().get_failing(&self.item.nar_url(), &[]);
        assert!(body.len() < self.item.nar.len());
    }

    /// Makes nix-daemon dump this NAR from now on.
    fn dump(&self, daemon: &ScriptedDaemon, nar: &[u8]) {
        let item = StoreItem { nar: nar.to_owned(), ..self.item.clone() };
        daemon.play(item.script());
    }

    /// Replaces the path with another file of the same contents.
    fn replace(&self) {
        let other = scratch::fresh_dir().join("other");
        fs::write(&other, "only looked at").unwrap();
        fs::rename(other, &self.place).unwrap();
    }
}

#[test]
fn each_dump_of_the_daemon_is_hashed() {
    for verify in ["once", "always"] {
        let lie = Lie::new();
        let daemon = ScriptedDaemon::start(lie.item.script());
        let harmonia = lie.server(&daemon, &format!("verify = \"{verify}\"\n"));
        lie.is_served(&harmonia, &lie.item.nar);
        lie.dump(&daemon, &lie.false_nar);
        lie.is_broken_off(&harmonia);
        // It is quarantined, and rechecked because its stamp has changed, if that has not been done yet.
        lie.dump(&daemon, &lie.item.nar);
        lie.replace();
        assert!([404, 200].contains(&harmonia.http().get(&lie.item.nar_url()).status));
        harmonia.wait_for_log("from quarantine: its NAR was verified");
        lie.is_served(&harmonia, &lie.item.nar);
    }
}

#[test]
fn a_path_that_changes_while_it_is_hashed_is_not_quarantined() {
    let lie = Lie::new();
    let (item, changing) =
        (lie.item.clone(), Lie { item: lie.item.clone(), place: lie.place.clone(), false_nar: Vec::new() });
    let false_nar = lie.false_nar.clone();
    let daemon = ScriptedDaemon::start(Script::replying(move |query| match query {
        Query::Nar(_) => {
            changing.replace();
            StoreItem { nar: false_nar.clone(), ..item.clone() }.reply(query)
        }
        _ => item.reply(query),
    }));
    let harmonia = lie.server(&daemon, "verify = \"once\"\n");
    lie.is_broken_off(&harmonia);
    harmonia.wait_for_log("changed while its NAR was read");
    assert!(!harmonia.log().contains("but its path info says"));
}

#[test]
fn a_nar_that_is_compressed_is_hashed_even_if_it_was_verified_before() {
    let lie = Lie::new();
    let daemon = ScriptedDaemon::start(lie.item.script());
    let keeping = format!("verify = \"once\"\nnar_cache.dir = \"{}\"\n", scratch::fresh_dir().display());
    let harmonia = lie.server(&daemon, &format!("enable_compression = true\n{keeping}"));
    lie.is_served(&harmonia, &lie.item.nar);
    lie.dump(&daemon, &lie.false_nar);
    let narinfo = harmonia.http().get(&lie.item.narinfo_url());
    let url = narinfo.text().lines().find_map(|line| line.strip_prefix("URL: ")).unwrap().to_owned();
    assert!(url.ends_with(".nar.zst"), "{url}");
    let _ = harmonia.http().get_failing(&format!("/{url}"), &[]);
    harmonia.wait_for_log("but its path info says");
}
