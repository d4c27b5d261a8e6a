//! Views: what is outside of them is, to the byte, as if it were not there, in every endpoint.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::operations::pins::seeing;
use crate::support::debug_info::{ID, OTHER, member, url};
use crate::support::http::Response;
use crate::support::scratch;
use crate::support::scripted_daemon::{Query, Reply, Script, ScriptedDaemon};
use crate::support::server::{Harmonia, nar_cache_on_demand};
use crate::support::store_item::StoreItem;
use crate::support::wire::{LAST, Wire};

/// Hash of an output whose realisation is in the view, and of one whose realisation is not.
const REALISED: [&str; 2] = ["aa", "bb"];

/// Upper bound of the time until a removed root disappears, generous because the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server whose anonymous clients see the view `public`, which has the roots in a directory, and `tools` with another.
pub(super) struct Machine {
    pub(super) real: PathBuf,
    pub(super) roots: PathBuf,
    pub(super) daemon: ScriptedDaemon,
    pub(super) harmonia: Harmonia,
    pub(super) admin: PathBuf,
    /// Configuration without access and views, and its file.
    base: String,
    file: PathBuf,
}

/// Returns the numbered path, a directory in the store with the log of its derivation.
pub(super) fn item(number: usize) -> StoreItem {
    let mut item = StoreItem::file(format!("contents of {number}").as_bytes());
    item.path = format!("/nix/store/{number:032}-numbered");
    item.deriver = format!("/nix/store/{}-numbered.drv", deriver(number));
    item
}

/// Returns the hash part of the derivation of the numbered path.
fn deriver(number: usize) -> String {
    format!("{:032}", number + 1000)
}

/// Paths 1 to 9, of which 1 refers to 2, and 3 to 4.
pub(super) fn items() -> Vec<StoreItem> {
    let mut items: Vec<_> = (1..10).map(item).collect();
    items[0].references = vec![items[1].path.clone()];
    items[2].references = vec![items[3].path.clone()];
    items
}

pub(super) fn reply(items: &[StoreItem], query: &Query) -> Reply {
    let realisation = |id: &str, number| {
        let path = &item(number).path["/nix/store/".len()..];
        let json = format!(r#"{{"dependentRealisations":{{}},"id":"{id}","outPath":"{path}","signatures":[]}}"#);
        Wire::new().number(LAST).strings(&[json]).into()
    };
    match query {
        Query::Realisation(id) if id.contains(&REALISED[0].repeat(32)) => realisation(id, 1),
        Query::Realisation(id) if id.contains(&REALISED[1].repeat(32)) => realisation(id, 3),
        Query::AllPaths => {
            Wire::new().number(LAST).strings(&items.iter().map(|it| &it.path).collect::<Vec<_>>()).into()
        }
        query => StoreItem::reply_among(items, query).unwrap_or_else(|| items[0].reply(query)),
    }
}

impl Machine {
    /// Starts a server; the root of `public` is path 1.
    pub(super) fn new() -> Self {
        let (real, roots, logs) = (scratch::fresh_dir(), scratch::fresh_dir(), scratch::fresh_dir());
        for (number, item) in (1..).zip(items()) {
            let place = real.join(&item.path["/nix/store/".len()..]);
            fs::create_dir(&place).unwrap();
            fs::write(place.join("file"), format!("file of {number}")).unwrap();
            let derivation = deriver(number);
            let log = logs.join("drvs").join(&derivation[..2]);
            fs::create_dir_all(&log).unwrap();
            fs::write(log.join(format!("{}-numbered.drv", &derivation[2..])), format!("log of {number}")).unwrap();
        }
        fs::create_dir_all(roots.join("public")).unwrap();
        fs::create_dir_all(roots.join("tools")).unwrap();
        let daemon =
            ScriptedDaemon::start(Script::replying(|query| reply(&items(), query)).protecting(seeing(&Arc::default())));
        let admin = scratch::fresh_dir().join("admin.sock");
        let place = |key: &str, path: &Path| format!("{key} = \"{}\"\n", path.display());
        let places = [
            place("real_nix_store", &real),
            place("build_log_dir", &logs),
            place("admin_socket", &admin),
            place("state_dir", &roots),
        ];
        let base = format!(
            "bind = \"127.0.0.1:0\"\n{}{}{}browse = true\n",
            daemon.config(),
            nar_cache_on_demand(),
            places.concat()
        );
        let access = format!(
            "[access]\nanonymous = []\n\
             [[access.grant]]\nwho = [\"anonymous\"]\nmay = [\"read\"]\nview = \"public\"\n\
             [[access.grant]]\nwho = [\"anonymous\"]\nmay = [\"read\"]\nview = \"tools\"\n\
             [views.public]\nroots = [\"{roots}/public/*\", \"{roots}/pins/web/*\"]\n[views.tools]\nroots = [\"{roots}/tools\"]\n",
            roots = roots.display(),
        );
        let file = scratch::fresh_dir().join("config.toml");
        fs::write(&file, format!("{base}{access}")).unwrap();
        let mut program = Harmonia::program();
        program.arg("--config").arg(&file);
        let harmonia = Harmonia::launch(program);
        let machine = Self { real, roots, daemon, harmonia, admin, base, file };
        machine.add("public", 1);
        machine
    }

    /// Reloads the configuration with other tables of access and views.
    pub(super) fn reload(&self, access: &str) {
        fs::write(&self.file, format!("{}{access}", self.base)).unwrap();
        self.harmonia.reload();
    }

    pub(super) fn place(&self, number: usize) -> PathBuf {
        self.real.join(&item(number).path["/nix/store/".len()..])
    }

    pub(super) fn add(&self, view: &str, number: usize) {
        symlink(item(number).path, self.roots.join(view).join(number.to_string())).unwrap();
    }

    pub(super) fn get(&self, path: &str) -> Response {
        self.harmonia.http().get(path)
    }

    pub(super) fn status(&self, number: usize) -> u16 {
        self.get(&item(number).narinfo_url()).status
    }

    /// Waits until a path whose root was removed is not shown any more.
    pub(super) fn wait_until_gone(&self, number: usize) {
        let began = Instant::now();
        while self.status(number) == 200 {
            assert!(began.elapsed() < PATIENCE, "it is still shown");
            // No event tells when a scan is too old to be believed.
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Returns the queries that name a numbered path.
    fn queries_about(&self, number: usize) -> Vec<Query> {
        let hash = item(number).hash_part().to_owned();
        let mut queries = self.daemon.seen().queries;
        queries.retain(|query| match query {
            Query::PathFromHashPart(text) | Query::PathInfo(text) | Query::Nar(text) => text.contains(&hash),
            _ => false,
        });
        queries
    }
}

/// Returns the targets that name a path, with the headers of the request.
pub(super) fn targets(number: usize) -> Vec<(String, Vec<(&'static str, &'static str)>)> {
    let item = item(number);
    let (hash, nar_hash, name) = (item.hash_part(), item.nar_hash_in_nix32(), &item.path["/nix/store/".len()..]);
    let derivation = deriver(number);
    let plain = [
        format!("/{hash}.narinfo"),
        format!("/{hash}.narinfo?json"),
        format!("/{hash}.ls"),
        item.nar_url(),
        format!("/nar/{nar_hash}.nar?hash={hash}"),
        format!("/nar/{hash}.nar"),
        format!("/nar/zstd-3/{hash}-{nar_hash}.nar.zst"),
        format!("/nar/{hash}-{nar_hash}.nar.zst"),
        format!("/log/{hash}"),
        format!("/log/{name}"),
        format!("/log/{derivation}-numbered.drv"),
        format!("/serve/{hash}"),
        format!("/serve/{hash}/"),
        format!("/serve/{hash}/file"),
        format!("/serve/{nar_hash}/"),
        format!("/serve/{nar_hash}/file"),
        format!("/serve/{name}"),
        format!("/lookup?q={hash}"),
        format!("/lookup?q=/nix/store/{name}"),
        format!("/lookup?q=sha256:{nar_hash}"),
        format!("/{hash}"),
    ];
    let with = |header: &'static [(&'static str, &'static str)]| {
        plain.clone().into_iter().map(move |target| (target, header.to_vec()))
    };
    let plain_and_partial = with(&[]).chain(with(&[("Range", "bytes=5-")]));
    plain_and_partial.chain(with(&[("Accept-Encoding", "zstd")])).chain(with(&[("If-None-Match", "*")])).collect()
}

/// Asserts that the responses for one path are, but for the path, those for another that is not there.
pub(super) fn assert_as_not_there(machine: &Machine, number: usize, absent: usize) {
    for ((one, headers), (other, _)) in targets(number).into_iter().zip(targets(absent)) {
        let [(hidden, status), (missing, expected)] = [(one, number), (other, absent)].map(|(target, number)| {
            let http = machine.harmonia.http();
            let (response, head) = (http.get_with(&target, &headers), http.head(&target));
            let status = response.status;
            ([response, head].map(|response| without(&response, number)), format!("{target} {status}"))
        });
        assert_eq!(hidden, missing, "{status}, {expected}");
        assert!(status.ends_with(" 404"), "{status}");
    }
}

/// Returns a response as text, without its date and what names the path.
fn without(response: &Response, number: usize) -> String {
    let item = item(number);
    let headers = response.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("date"));
    let text = format!(
        "{} {headers:?} {}",
        response.status,
        String::from_utf8_lossy(&response.body),
        headers = headers.collect::<Vec<_>>()
    );
    text.replace(item.hash_part(), "HASH").replace(&item.nar_hash_in_nix32(), "NARHASH")
}

#[test]
fn outside_of_a_view_every_endpoint_answers_as_for_a_path_that_is_not_there() {
    let machine = Machine::new();
    assert_as_not_there(&machine, 3, 77);
    assert_eq!((machine.queries_about(3), machine.queries_about(77)), (vec![], vec![]));
}

#[test]
fn inside_of_a_view_every_endpoint_works_for_roots_and_references() {
    let machine = Machine::new();
    for number in [1, 2] {
        for (target, headers) in targets(number) {
            let status = machine.harmonia.http().get_with(&target, &headers).status;
            // Ranges of an encoding that this release does not produce are refused.
            let is_refused = target.contains(".nar.zst") && headers.contains(&("Range", "bytes=5-"));
            assert!((200..400).contains(&status) || is_refused, "{target} {headers:?}: {status}");
        }
    }
    assert_eq!(machine.get(&format!("/log/{}-numbered.drv", deriver(2))).text(), "log of 2");
}

#[test]
fn the_views_of_all_grants_are_united() {
    let machine = Machine::new();
    assert_eq!([1, 3, 4].map(|number| machine.status(number)), [200, 404, 404]);
    machine.add("tools", 4);
    assert_eq!([1, 3, 4].map(|number| machine.status(number)), [200, 404, 200]);
}

#[test]
fn a_symlink_out_of_a_view_leads_nowhere() {
    let machine = Machine::new();
    for (name, target) in [("in", 2), ("out", 3), ("gone", 77)] {
        symlink(item(target).path, machine.place(1).join(name)).unwrap();
    }
    let get = |name: &str| machine.get(&format!("/serve/{}/{name}/file", item(1).hash_part()));
    assert_eq!((get("in").status, get("out").status, get("gone").status), (200, 404, 404));
    assert_eq!(get("out").body, get("gone").body);
    assert_eq!(machine.queries_about(3), vec![]);
}

#[test]
fn debug_info_of_paths_outside_is_not_found() {
    let machine = Machine::new();
    for (number, id) in [(1, ID), (3, OTHER)] {
        let file = machine.place(number).join(member(id));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "").unwrap();
    }
    assert_eq!(machine.get(&url(ID)).status, 200);
    let (outside, missing) = (machine.get(&url(OTHER)), machine.get(&url(&"7".repeat(40))));
    assert_eq!((outside.status, &outside.body), (404, &missing.body));
    assert_eq!(machine.queries_about(3), vec![]);
}

#[test]
fn realisations_are_those_of_outputs_in_the_view() {
    let machine = Machine::new();
    let get = |digest: &str| machine.get(&format!("/realisations/sha256:{}!out.doi", digest.repeat(32)));
    assert_eq!(get(REALISED[0]).status, 200);
    let (outside, missing) = (get(REALISED[1]), get("cc"));
    assert_eq!((outside.status, &outside.body), (404, &missing.body));
}

#[test]
fn pages_list_and_count_what_is_in_the_view() {
    let machine = Machine::new();
    let page = machine.get("/browse");
    assert!(page.text().contains("has 2 valid paths"), "{}", page.text());
    for number in 1..10 {
        assert_eq!(page.text().contains(item(number).hash_part()), number < 3, "{number}");
    }
    assert!(machine.get("/browse?from=2").text().contains("No path matches"));
    assert!(!machine.get("/").text().contains("counted"), "the number of all paths");
}
