//! `nar_source = "auto"`, the default: files are read if they are those of the daemon's store; otherwise the daemon dumps
//! the NAR.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::endpoints::nar_source::{before, dumps, range};
use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::metrics::{metrics, value as series};
use crate::support::narinfo::value;
use crate::support::scratch;
use crate::support::scripted_daemon::{Query, Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::{StoreItem, hash_part};

/// The first NAR of a real store decides.
#[test]
fn by_default_nars_are_read_from_files_that_are_those_of_the_daemon() {
    for daemon in Release::ALL.map(Daemon::shared) {
        let release = daemon.release();
        let store = daemon.on_host("/nix/store");
        let config = before(daemon, &format!("real_nix_store = \"{}\"\n", store.display()));
        let (files, dumping) =
            (Harmonia::start(&config), Harmonia::start(&before(daemon, "nar_source = \"daemon\"\n")));
        for (name, path) in daemon.content().iter() {
            let narinfo = dumping.http().get(&format!("/{}.narinfo", hash_part(path)));
            let url = format!("/{}", value(narinfo.text(), "URL"));
            let nar = dumping.http().get(&url).body;
            assert!(files.http().get(&url).body == nar, "the NAR of {name} of {release} differs");
            let part = files.http().get_with(&url, &[("Range", &range(1, nar.len() / 2))]);
            assert!(part.status == 206 && part.body == nar[1..=nar.len() / 2], "{name} of {release}");
        }
        files.wait_for_log("reading NARs from the files in ");
        assert!(dumps(files.http()) < 1.0, "{release}");
    }
}

/// Paths of a daemon, and a directory with the files of another store.
struct Foreign {
    items: Vec<StoreItem>,
    store: PathBuf,
    daemon: ScriptedDaemon,
    harmonia: Harmonia,
}

impl Foreign {
    /// Creates correct files for this many paths, and wrong ones for the others.
    fn with(right: usize) -> Self {
        let letters = "abcdf";
        let items: Vec<_> = letters
            .chars()
            .map(|letter| {
                let mut item = StoreItem::file(letter.to_string().as_bytes());
                item.path = format!("/nix/store/{}-file", letter.to_string().repeat(32));
                item
            })
            .collect();
        let store = scratch::fresh_dir();
        for (number, (item, letter)) in items.iter().zip(letters.chars()).enumerate() {
            let contents = if number < right { letter.to_string() } else { "?".to_owned() };
            fs::write(store.join(Path::new(&item.path).file_name().unwrap()), contents).unwrap();
        }
        let known = items.clone();
        let daemon = ScriptedDaemon::start(Script::replying(move |query| {
            let about = |item: &&StoreItem| match query {
                Query::PathFromHashPart(hash) => hash == item.hash_part(),
                Query::PathInfo(path) | Query::Nar(path) => *path == item.path,
                _ => false,
            };
            known.iter().find(about).unwrap_or(&known[0]).reply(query)
        }));
        let config = format!("{}real_nix_store = \"{}\"\n", daemon.config(), store.display());
        let harmonia = Harmonia::start(&config);
        Self { items, store, daemon, harmonia }
    }

    fn is_served(&self, number: usize) {
        let item = &self.items[number];
        let response = self.harmonia.http().get(&item.nar_url());
        assert!(response.status == 200 && response.body == item.nar, "{number}: {}", response.status);
    }
}

#[test]
fn files_of_another_store_are_ignored_and_quarantine_no_path() {
    let foreign = Foreign::with(0);
    for _ in 0..2 {
        (0..foreign.items.len()).for_each(|number| foreign.is_served(number));
    }
    let line = foreign.harmonia.wait_for_log("are not those of its store");
    assert!(line.contains(&foreign.store.display().to_string()), "{line}");
    foreign.harmonia.wait_for_log("  help: set real_nix_store");
    assert_eq!(series(&metrics(foreign.harmonia.http()), "harmonia_quarantined_paths"), Some(0.0));
    let checked = foreign.daemon.config() + &format!("real_nix_store = \"{}\"\n", foreign.store.display());
    let file = scratch::fresh_dir().join("config.toml");
    fs::write(&file, checked).unwrap();
    let output = Harmonia::program().arg("--config").arg(file).arg("check").stdout(Stdio::piped()).output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    assert!(output.contains("NARs: read from nix-daemon, since the store's files of "), "{output}");
}

/// A path that both stores have proves nothing about the others.
#[test]
fn files_that_turn_out_to_be_of_another_store_are_given_up() {
    let foreign = Foreign::with(1);
    foreign.is_served(0);
    foreign.harmonia.wait_for_log("reading NARs from the files in ");
    let _ = foreign.harmonia.http().get_failing(&foreign.items[1].nar_url(), &[]);
    foreign.harmonia.wait_for_log("are not those of its store: ");
    (0..foreign.items.len()).for_each(|number| foreign.is_served(number));
    assert!(!foreign.harmonia.log().contains("(answering 404)"), "{}", foreign.harmonia.log());
}
