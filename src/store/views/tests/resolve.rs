//! Resolution of roots in directories of the test's own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use harmonia_protocol::{StoreDir, StorePath};
use proptest::prelude::*;

use crate::store::pins::directory;
use crate::store::pins::pin::Generation;
use crate::store::views::resolve::{Roots, resolve};

/// A state directory with profiles and roots, and a store.
struct Machine {
    _directory: tempfile::TempDir,
    top: PathBuf,
    store: PathBuf,
}

impl Machine {
    /// Creates a machine whose store has these numbered paths, which are directories with a file `bin`.
    fn new(paths: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().canonicalize().unwrap();
        let store = top.join("real-store");
        for number in 0..paths {
            fs::create_dir_all(store.join(name(number))).unwrap();
            fs::write(store.join(name(number)).join("bin"), "").unwrap();
        }
        fs::create_dir_all(top.join("roots")).unwrap();
        fs::create_dir_all(top.join("profiles")).unwrap();
        Self { _directory: directory, top, store }
    }

    fn link(&self, from: &str, to: impl AsRef<Path>) {
        symlink(to, self.top.join(from)).unwrap();
    }

    fn logical(number: usize) -> PathBuf {
        Path::new("/nix/store").join(name(number))
    }

    fn roots(&self, pattern: &str) -> Roots {
        let pattern = if pattern.starts_with('/') { pattern.to_owned() } else { self.in_top(pattern) };
        resolve(&[pattern], &StoreDir::default(), &self.store)
    }

    fn in_top(&self, below: &str) -> String {
        self.top.join(below).to_str().unwrap().to_owned()
    }

    fn numbers(&self, pattern: &str) -> Vec<usize> {
        let roots = self.roots(pattern);
        assert!(roots.failure.is_none(), "{:?}", roots.failure);
        roots.paths.iter().map(|path| path.hash_part().as_str().parse().unwrap()).collect()
    }
}

fn name(number: usize) -> String {
    format!("{number:032}-path")
}

#[test]
fn a_profile_leads_to_a_generation_and_that_to_a_store_path() {
    let machine = Machine::new(2);
    machine.link("profiles/team-1-link", Machine::logical(0));
    machine.link("profiles/team-2-link", machine.store.join(name(1)).join("bin"));
    machine.link("profiles/team", "team-2-link");
    machine.link("profiles/indirect", machine.in_top("profiles/../profiles/team-1-link"));
    assert_eq!(machine.numbers("profiles/team"), [1]);
    assert_eq!(machine.numbers("profiles/indirect"), [0]);
    assert_eq!(machine.numbers("profiles/team-*-link"), [0, 1]);
    assert_eq!(machine.numbers("profiles/other"), [0; 0]);
    // Replaced by a rename, as Nix does it.
    machine.link("profiles/new", "team-1-link");
    fs::rename(machine.top.join("profiles/new"), machine.top.join("profiles/team")).unwrap();
    assert_eq!(machine.numbers("profiles/team"), [0]);
}

#[test]
fn pins_are_roots_by_their_links_and_by_no_other_file_of_theirs() {
    let (machine, web) = (Machine::new(2), "web".parse().unwrap());
    let pinned = directory::create(&machine.top.join("pins"), &web).unwrap();
    for (number, of) in [(1, 0), (2, 1)] {
        let path = StorePath::from_base_name(&name(of)).unwrap();
        let paths = vec![path.base_name().to_owned()];
        directory::link(&pinned, number, &[path], &StoreDir::default()).unwrap();
        let generation = Generation { number, paths, by: String::new(), since: 0, until: None };
        directory::finish(&pinned, &generation).unwrap();
    }
    // Left by a crash.
    fs::write(pinned.join(".3.json.tmp"), "{").unwrap();
    for roots in ["pins/web/*", "pins/web", "pins/*", "pins"] {
        assert_eq!(machine.numbers(roots), [0, 1], "{roots}");
    }
    assert_eq!(machine.numbers("pins/web/2-*"), [1]);
    assert_eq!(machine.numbers("pins/web/.*"), [0; 0]);
    directory::remove(&pinned, 2).unwrap();
    assert_eq!(machine.numbers("pins/web/*"), [0]);
}

#[test]
fn a_store_path_is_a_root_with_what_is_below_it_by_either_store_directory() {
    let machine = Machine::new(2);
    let logical = Machine::logical(0);
    for below in ["", "/bin", "/bin/missing", "/*"] {
        assert_eq!(machine.numbers(&format!("{}{below}", logical.display())), [0], "{below}");
        assert_eq!(machine.numbers(&format!("{}{below}", machine.store.join(name(0)).display())), [0], "{below}");
    }
    assert_eq!(machine.numbers("/nix/store/*-path"), [0, 1]);
    for none in ["/nix/store", "/nix/store/", "/nix/store/.links", "/nix/store/*-other", "/nix/stores/x", "real-store"]
    {
        assert_eq!(machine.numbers(none), [0; 0], "{none}");
    }
}

#[test]
fn a_root_that_is_not_in_the_store_is_known_to_be_absent() {
    let machine = Machine::new(1);
    let roots = machine.roots(Machine::logical(7).to_str().unwrap());
    assert_eq!((roots.paths.len(), roots.absent.len()), (1, 1));
    assert!(!roots.stamps.hold(), "the store has just changed");
    let roots = machine.roots(Machine::logical(0).to_str().unwrap());
    assert!(roots.absent.is_empty() && roots.stamps.hold());
}

#[test]
fn a_directory_is_searched_but_not_through_a_symlink_to_another() {
    let machine = Machine::new(4);
    fs::create_dir_all(machine.top.join("roots/team/deep")).unwrap();
    fs::create_dir_all(machine.top.join("elsewhere")).unwrap();
    machine.link("roots/team/a", Machine::logical(0));
    machine.link("roots/team/deep/b", Machine::logical(1));
    machine.link("elsewhere/result", Machine::logical(2));
    machine.link("roots/team/indirect", machine.in_top("elsewhere/result"));
    machine.link("elsewhere/other", Machine::logical(3));
    machine.link("roots/team/elsewhere", machine.in_top("elsewhere"));
    fs::write(machine.top.join("roots/team/file"), "").unwrap();
    for pattern in ["roots/team", "roots/t*", "roots", "roots/team/"] {
        assert_eq!(machine.numbers(pattern), [0, 1, 2], "{pattern}");
    }
    assert_eq!(machine.numbers("roots/team/*"), [0, 1, 2]);
    // Named by the pattern itself, it is on the way.
    assert_eq!(machine.numbers("roots/team/elsewhere/o*"), [3]);
}

#[test]
fn loops_and_long_chains_end() {
    let machine = Machine::new(1);
    machine.link("roots/a", "b");
    machine.link("roots/b", "a");
    machine.link("roots/self", machine.in_top("roots"));
    machine.link("roots/chain-0", Machine::logical(0));
    for number in 1..60 {
        machine.link(&format!("roots/chain-{number}"), format!("chain-{}", number - 1));
    }
    assert_eq!(machine.numbers("roots/chain-39"), [0]);
    assert_eq!(machine.numbers("roots/chain-40"), [0; 0]);
    assert_eq!(machine.numbers("roots/a"), [0; 0]);
    assert_eq!(machine.numbers("roots/self/self/self/*"), [0]);
    assert_eq!(machine.numbers("roots/chain-5/../../x"), [0], "the path below a store path does not matter");
}

#[test]
fn dangling_symlinks_and_files_are_no_roots() {
    let machine = Machine::new(1);
    machine.link("roots/dangling", machine.in_top("elsewhere/gone"));
    machine.link("roots/short", "/nix/store");
    machine.link("roots/odd", "/nix/store/not-a-path");
    machine.link("roots/star", "/nix/store/*");
    fs::write(machine.top.join("roots/file"), "").unwrap();
    assert_eq!(machine.numbers("roots/*"), [0; 0]);
    assert_eq!(machine.numbers("roots/file/below"), [0; 0]);
    assert_eq!(machine.numbers("nowhere/*"), [0; 0]);
}

#[test]
fn changes_on_the_way_are_seen_by_stamps_or_too_recent_to_rely_on() {
    let machine = Machine::new(2);
    machine.link("roots/a", Machine::logical(0));
    // Everything here has just been made.
    assert!(!machine.roots("roots/*").stamps.hold());
}

proptest! {
    /// The kernel follows the same symlinks to the same store paths.
    #[test]
    fn it_follows_symlinks_as_the_kernel_does(targets in prop::collection::vec((0_usize..9, 0_usize..3), 1..12)) {
        let machine = Machine::new(4);
        for (from, (to, form)) in targets.iter().enumerate() {
            let to = match (*to, form) {
                (to @ 0..4, 0) => machine.store.join(name(to)),
                (to @ 0..4, 1) => machine.store.join(name(to)).join("bin"),
                (to @ 0..4, _) => Path::new("../real-store").join(name(to)),
                (to, 0) => machine.top.join(format!("roots/{}", to - 4)),
                (to, 1) => PathBuf::from(format!("{}", to + 1)),
                (to, _) => PathBuf::from(format!(".././roots//{}", to - 3)),
            };
            machine.link(&format!("roots/{from}"), to);
        }
        for from in 0..targets.len() {
            let place = machine.top.join(format!("roots/{from}"));
            let expected = place.canonicalize().ok().and_then(|end| {
                let below = end.strip_prefix(&machine.store).ok()?;
                below.components().next()?.as_os_str().to_str()?[..32].parse::<usize>().ok()
            });
            prop_assert_eq!(machine.numbers(&format!("roots/{from}")), expected.into_iter().collect::<Vec<_>>());
        }
    }
}
