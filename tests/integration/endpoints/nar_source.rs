//! NARs that are read from the store's files: they equal nix-daemon's, are verified like those, and a corrupt one ends in
//! an error.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use harmonia_protocol::nar::{Name, Node};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::http::Http;
use crate::support::metrics::{metrics, value as series};
use crate::support::narinfo::value;
use crate::support::scratch;
use crate::support::scripted_daemon::{Query, Reply, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::{StoreItem, hash_part};

/// Returns the configuration of a server that reads the files in this directory.
fn reading(store: &Path, daemon: &str) -> String {
    format!("{daemon}nar_source = \"store\"\nreal_nix_store = \"{}\"\n", store.display())
}

pub(super) fn before(daemon: &Daemon, more: &str) -> String {
    format!("daemon_socket = \"{}\"\n{more}", daemon.socket().display())
}

pub(super) fn range(first: usize, last: usize) -> String {
    format!("bytes={first}-{last}")
}

/// Returns how many NARs the daemon has dumped for a server.
pub(super) fn dumps(http: Http) -> f64 {
    series(&metrics(http), r#"harmonia_daemon_operations_total{op="NarFromPath",result="ok"}"#).unwrap_or(0.0)
}

#[test]
fn the_files_of_every_release_are_the_nars_of_its_daemon() {
    for daemon in Release::ALL.map(Daemon::shared) {
        let release = daemon.release();
        let files = Harmonia::start(&reading(&daemon.on_host("/nix/store"), &before(daemon, "")));
        let dumping = Harmonia::start(&before(daemon, ""));
        for (name, path) in daemon.content().iter() {
            let narinfo = dumping.http().get(&format!("/{}.narinfo", hash_part(path)));
            let url = format!("/{}", value(narinfo.text(), "URL"));
            let nar = dumping.http().get(&url).body;
            // The first one is of a NAR that has not been verified yet.
            for (first, last) in [(nar.len() - 1, nar.len() - 1), (1, nar.len() / 2), (nar.len() / 2, nar.len() - 1)] {
                let part = files.http().get_with(&url, &[("Range", &range(first, last))]);
                assert_eq!(part.status, 206, "{name} of {release}");
                assert!(part.body == nar[first..=last], "{name} of {release} from {first} to {last}");
            }
            assert!(files.http().get(&url).body == nar, "the NAR of {name} of {release} differs");
            let listing = format!("/{}.ls", hash_part(path));
            let [theirs, ours] = [&dumping, &files].map(|server| server.http().get(&listing));
            assert_eq!((theirs.status, theirs.body), (ours.status, ours.body), "{name} of {release}");
        }
        assert!(dumps(dumping.http()) > 0.0);
        assert!(dumps(files.http()) < 1.0, "{release}");
    }
}

#[test]
fn what_is_compressed_from_files_has_the_same_bytes() {
    let daemon = Daemon::shared(Release::Nix2_34);
    let keeping = || format!("enable_compression = true\nnar_cache.dir = \"{}\"\n", scratch::fresh_dir().display());
    let files = Harmonia::start(&reading(&daemon.on_host("/nix/store"), &before(daemon, &keeping())));
    let dumping = Harmonia::start(&before(daemon, &keeping()));
    for name in ["odd-entries", "large"] {
        let narinfo = dumping.http().get(&format!("/{}.narinfo", hash_part(daemon.content().path(name))));
        let url = format!("/{}", value(narinfo.text(), "URL"));
        assert!(url.ends_with(".nar.zst"));
        assert!(files.http().get(&url).body == dumping.http().get(&url).body, "{name}");
    }
    assert!(dumps(files.http()) < 1.0);
}

/// Returns a tree of two directories with a file each, larger than one read.
fn tree() -> Node {
    let directory = |entries: Vec<(&str, Node)>| {
        let entries = entries.into_iter().map(|(name, node)| (Name::new(name.as_bytes()).unwrap(), node));
        Node::Directory(entries.collect())
    };
    let file = |byte| Node::Regular { executable: false, contents: Bytes::from(vec![byte; 300_000]) };
    directory(vec![("a", directory(vec![("file", file(b'a'))])), ("b", directory(vec![("file", file(b'b'))]))])
}

/// Path whose info a scripted daemon has, its location in a store directory, and a server that reads its files.
struct Scene {
    item: StoreItem,
    place: PathBuf,
    daemon: ScriptedDaemon,
    harmonia: Harmonia,
}

impl Scene {
    /// Creates the scene with the correct files of the tree.
    fn new(config: &str) -> Self {
        let mut nar = BytesMut::new();
        tree().encode(&mut nar);
        let scene = Self::with(StoreItem::with_nar(nar.to_vec()), config);
        for (name, byte) in [("a", b'a'), ("b", b'b')] {
            fs::create_dir_all(scene.place.join(name)).unwrap();
            fs::write(scene.place.join(name).join("file"), vec![byte; 300_000]).unwrap();
        }
        scene
    }

    /// Creates the scene without any files.
    fn with(item: StoreItem, config: &str) -> Self {
        let store = scratch::fresh_dir();
        let place = store.join(Path::new(&item.path).file_name().unwrap());
        let daemon = ScriptedDaemon::start(item.script());
        let harmonia = Harmonia::start(&reading(&store, &format!("{}{config}", daemon.config())));
        Self { item, place, daemon, harmonia }
    }

    fn is_served(&self) {
        let response = self.harmonia.http().get(&self.item.nar_url());
        assert!(response.status == 200 && response.body == self.item.nar, "{}", response.status);
    }

    fn fails(&self, headers: &[(&str, &str)]) {
        let body = self.harmonia.http().get_failing(&self.item.nar_url(), headers);
        assert!(body.len() < self.item.nar.len());
    }

    /// Changes the stamp of the path, whose files are right again, and waits until it leaves quarantine.
    fn is_repaired(&self) {
        let passing = self.place.join("passing");
        fs::write(&passing, "").unwrap();
        fs::remove_file(passing).unwrap();
        // It may have been looked at already.
        assert!([404, 206].contains(&self.part(1)));
        self.harmonia.wait_for_log("from quarantine: its NAR was verified");
    }

    /// Returns the offset of a file's contents in the NAR.
    fn offset(&self, byte: u8) -> usize {
        self.item.nar.windows(9).position(|window| window == [byte; 9]).unwrap()
    }

    fn part(&self, first: usize) -> u16 {
        let response = self.harmonia.http().get_with(&self.item.nar_url(), &[("Range", &range(first, first + 99))]);
        assert!(response.status != 206 || response.body == self.item.nar[first..first + 100]);
        response.status
    }

    fn asked_for_nars(&self) -> usize {
        self.daemon.seen().queries.iter().filter(|query| matches!(query, Query::Nar(_))).count()
    }
}

#[test]
fn what_is_no_file_directory_or_symlink_is_an_error_and_not_waited_for() {
    let fifo = |place: &Path| mknodat(CWD, place, FileType::Fifo, Mode::RUSR, 0).unwrap();
    let alone = Scene::with(StoreItem::file(b"not this"), "");
    fifo(&alone.place);
    let inside = Scene::new("");
    fifo(&inside.place.join("b/fifo"));
    for scene in [alone, inside] {
        assert_eq!(scene.harmonia.http().get(&scene.item.nar_url()).status, 502);
        assert_eq!(scene.part(1), 502);
        scene.harmonia.wait_for_log("a NAR cannot contain it");
        assert_eq!(scene.asked_for_nars(), 0);
    }
}

#[test]
fn files_that_do_not_match_the_path_info_are_never_served() {
    let scene = Scene::new("");
    let file = scene.place.join("a/file");
    fs::write(&file, vec![b'x'; 300_000]).unwrap();
    scene.fails(&[]);
    scene.harmonia.wait_for_log("but its path info says");
    assert_eq!(scene.part(1), 404);
    fs::write(&file, vec![b'a'; 300_000]).unwrap();
    scene.is_repaired();
    scene.is_served();
    assert_eq!(scene.asked_for_nars(), 0);

    for length in [5, 400_000] {
        let scene = Scene::new("");
        fs::write(scene.place.join("a/file"), vec![b'a'; length]).unwrap();
        assert_eq!(scene.harmonia.http().get(&scene.item.nar_url()).status, 502, "{length}");
        assert_eq!((scene.part(1), scene.asked_for_nars()), (404, 0), "{length}");
    }
}

#[test]
fn a_range_of_a_verified_nar_reads_only_its_file() {
    let scene = Scene::new("");
    let (a, b) = (scene.offset(b'a'), scene.offset(b'b'));
    scene.is_served();
    // Deep enough that it does not show at the store path.
    fs::remove_file(scene.place.join("a/file")).unwrap();
    assert_eq!(scene.part(b + 150_000), 206);
    let listing = scene.harmonia.http().get(&format!("/{}.ls", scene.item.hash_part()));
    assert_eq!(listing.status, 200);
    // The other file is needed for this, and to verify the whole again.
    scene.fails(&[("Range", &range(a, a + 9))]);
    scene.harmonia.wait_for_log("changed while its NAR was read");
    assert_eq!(scene.asked_for_nars(), 0);
}

/// The end of a dump is sent before it is verified, too.
#[test]
fn a_part_that_does_not_reach_the_end_is_read_alone_and_one_that_does_proves_the_whole() {
    let scene = Scene::new("");
    fs::write(scene.place.join("a/file"), vec![b'x'; 300_000]).unwrap();
    assert_eq!(scene.part(scene.offset(b'b')), 206);
    let whole = scene.item.nar.len();
    scene.fails(&[("Range", &range(whole - 10, whole - 1))]);
    scene.harmonia.wait_for_log("but its path info says");
    assert_eq!((scene.part(1), scene.asked_for_nars()), (404, 0));
}

#[test]
fn a_range_of_a_changed_path_is_verified_again() {
    let scene = Scene::new("");
    scene.is_served();
    let tail = |scene: &Scene| {
        let (first, last) = (scene.item.nar.len() - 100, scene.item.nar.len() - 1);
        scene.harmonia.http().get_with(&scene.item.nar_url(), &[("Range", &range(first, last))]).status
    };
    assert_eq!(tail(&scene), 206);
    let file = scene.place.join("a/file");
    fs::write(&file, vec![b'x'; 300_000]).unwrap();
    // After being moved back it is another inode.
    let other = scratch::fresh_dir().join("other");
    fs::create_dir(&other).unwrap();
    for name in ["a", "b"] {
        fs::rename(scene.place.join(name), other.join(name)).unwrap();
    }
    fs::remove_dir(&scene.place).unwrap();
    fs::rename(&other, &scene.place).unwrap();
    let whole = scene.item.nar.len();
    scene.fails(&[("Range", &range(whole - 100, whole - 1))]);
    fs::write(&file, vec![b'a'; 300_000]).unwrap();
    scene.is_repaired();
    assert_eq!(tail(&scene), 206);
}

/// Overwrites a file in place with as many other bytes, which changes only its times.
fn overwrite(file: &Path) {
    let mut file = File::options().write(true).open(file).unwrap();
    file.write_all(&vec![b'x'; 300_000]).unwrap();
}

#[test]
fn a_verified_nar_is_hashed_again_after_a_file_in_it_was_written() {
    let scene = Scene::new("");
    scene.is_served();
    scene.is_served();
    overwrite(&scene.place.join("b/file"));
    scene.fails(&[]);
    scene.harmonia.wait_for_log("changed while its NAR was read");
    // A new verification finds it corrupt.
    scene.fails(&[]);
    scene.harmonia.wait_for_log("(answering 404)");
    assert_eq!(scene.part(1), 404);
    fs::write(scene.place.join("b/file"), vec![b'b'; 300_000]).unwrap();
    scene.is_repaired();
    scene.is_served();
}

#[test]
fn a_file_that_was_written_to_and_its_time_set_back_is_noticed_by_always_and_not_by_first() {
    for (verify, is_noticed) in [("always", true), ("once", false)] {
        let scene = Scene::new(&format!("verify = \"{verify}\"\n"));
        scene.is_served();
        let file = scene.place.join("b/file");
        let before = fs::metadata(&file).unwrap().modified().unwrap();
        overwrite(&file);
        File::options().write(true).open(&file).unwrap().set_modified(before).unwrap();
        if is_noticed {
            scene.fails(&[]);
            scene.harmonia.wait_for_log("but its path info says");
        } else {
            assert_ne!(scene.harmonia.http().get(&scene.item.nar_url()).body, scene.item.nar);
        }
    }
}

/// Size that exceeds all buffers between the server and a client that does not read.
const HUGE: usize = 24 << 20;

#[test]
fn what_changes_while_it_is_read_breaks_the_body() {
    let changes: [fn(&Path); 3] = [
        |file| File::options().write(true).open(file).unwrap().set_len(1 << 20).unwrap(),
        |file| fs::remove_file(file).unwrap(),
        |file| {
            fs::rename(file, file.with_extension("moved")).unwrap();
            symlink(file.with_extension("moved"), file).unwrap();
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        for verify in ["always", "once"] {
            let item = StoreItem::file_of(HUGE);
            let start = item.nar.len() - HUGE - 16;
            let scene = Scene::with(item, &format!("verify = \"{verify}\"\n"));
            fs::write(&scene.place, &scene.item.nar[start..start + HUGE]).unwrap();
            scene.is_served();
            let mut stream = TcpStream::connect(scene.harmonia.address()).unwrap();
            write!(stream, "GET {} HTTP/1.1\r\nHost: cache\r\n\r\n", scene.item.nar_url()).unwrap();
            stream.read_exact(&mut [0]).unwrap();
            change(&scene.place);
            let mut rest = Vec::new();
            // The connection may be reset.
            let _ = stream.read_to_end(&mut rest);
            assert!(rest.len() < HUGE, "{number} with {verify}");
            scene.harmonia.wait_for_log("changed while its NAR was read");
        }
    }
}

#[test]
fn the_daemon_helps_out_where_files_are_not_visible_and_that_is_said_once() {
    let scene = Scene::with(StoreItem::file(b"only the daemon has it"), "");
    for _ in 0..2 {
        scene.is_served();
        assert_eq!(scene.part(0), 206);
    }
    assert_eq!(scene.asked_for_nars(), 4);
    let log = scene.harmonia.log();
    assert_eq!(log.matches("falling back to nix-daemon").count(), 1, "{log}");
}

#[test]
fn files_are_served_while_the_daemon_is_gone() {
    let scene = Scene::new("");
    assert_eq!(scene.harmonia.http().get(&scene.item.narinfo_url()).status, 200);
    scene.daemon.play(scene.item.script_with_nar(|| Reply::then_disconnect(Vec::new())));
    scene.is_served();
    assert_eq!(scene.part(1000), 206);
}
