//! Views whose roots are profiles, generations and links as Nix makes them, with the daemons and clients of all releases.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::nix::client::Client;
use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::http::Response;
use crate::support::keys;
use crate::support::scratch;
use crate::support::server::Harmonia;
use crate::support::store_item::hash_part;

/// Upper bound of the time until a removed root disappears, generous because the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
const PROFILES: &str = "/nix/var/nix/profiles";

/// A daemon with profiles and roots, and a server whose anonymous clients see one view of its store.
struct Machine {
    harmonia: Harmonia,
    /// Directory for links of users, which the daemon sees by the same path.
    links: PathBuf,
    daemon: Daemon,
}

impl Machine {
    /// Starts a daemon, and a server whose view has these roots below the daemon's `/nix`.
    fn new(release: Release, roots: &[&str]) -> Self {
        let daemon = Daemon::start(release);
        let roots: Vec<_> = roots.iter().map(|root| daemon.on_host(root)).collect();
        fs::create_dir_all(daemon.on_host("/nix/var/nix/gcroots/team")).unwrap();
        fs::create_dir_all(daemon.on_host(PROFILES)).unwrap();
        let place = |key: &str, path: &Path| format!("{key} = \"{}\"\n", path.display());
        let places = [place("daemon_socket", &daemon.socket()), place("real_nix_store", &daemon.on_host("/nix/store"))];
        let harmonia = Harmonia::start(&format!(
            "{}sign_key_paths = [\"{}\"]\ngc_protection = 0\n[access]\nanonymous = []\n\
             [[access.grant]]\nwho = [\"anonymous\"]\nmay = [\"read\"]\nview = \"public\"\n[views.public]\nroots = {roots:?}\n",
            places.concat(),
            keys::OURS.secret.display(),
        ));
        Self { harmonia, links: scratch::fresh_dir(), daemon }
    }

    fn path(&self, name: &str) -> &str {
        self.daemon.content().path(name)
    }

    fn narinfo(&self, path: &str) -> Response {
        self.harmonia.http().get(&format!("/{}.narinfo", hash_part(path)))
    }

    fn shows(&self, name: &str) -> bool {
        let response = self.narinfo(self.path(name));
        assert!([200, 404].contains(&response.status), "{name}: {}", response.status);
        response.status == 200
    }

    /// Runs a command of the daemon's release on its store.
    fn run(&self, command: &[&str]) {
        let _ = self.daemon.run(command).stdout();
    }

    /// Sets a profile to a path as a new generation.
    fn set(&self, profile: &str, name: &str) {
        self.run(&["nix-env", "--profile", &format!("{PROFILES}/{profile}"), "--set", self.path(name)]);
    }

    fn wait_until_gone(&self, name: &str) {
        let began = Instant::now();
        while self.shows(name) {
            assert!(began.elapsed() < PATIENCE, "{name} is still shown");
            // No event tells when a scan is too old to be believed.
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Asserts that a path of the store looks like one that is not there, however it is requested.
    fn assert_looks_absent(&self, path: &str) {
        let (hash, absent) = (hash_part(path), "7".repeat(32));
        let seen = |target: &str| {
            let mut response = self.harmonia.http().get(target);
            response.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("date"));
            let body = response.text().replace(hash, "HASH").replace(&absent, "HASH");
            (response.status, response.headers, body)
        };
        for (before, after) in
            [("/", ".narinfo"), ("/", ".ls"), ("/nar/", ".nar"), ("/log/", "-x"), ("/serve/", "/"), ("/lookup?q=", "")]
        {
            let (hidden, missing) =
                (seen(&format!("{before}{hash}{after}")), seen(&format!("{before}{absent}{after}")));
            assert_eq!(hidden, missing, "{before}{path}{after}");
            assert_eq!(hidden.0, 404, "{before}{path}{after}");
        }
    }
}

#[test]
fn a_view_follows_a_profile_from_generation_to_generation() {
    for release in Release::ALL {
        let machine = Machine::new(release, &[&format!("{PROFILES}/website")]);
        assert!(!machine.shows("many-references"), "{release}");
        machine.set("website", "many-references");
        let leaf = machine.narinfo(machine.path("many-references")).text().to_owned();
        let leaf = leaf.lines().find_map(|line| line.strip_prefix("References: ")).unwrap();
        let leaf = format!("/nix/store/{}", leaf.split(' ').next().unwrap());
        assert_eq!(machine.narinfo(&leaf).status, 200, "{release}: {leaf}");
        machine.assert_looks_absent(machine.path("large"));
        // Real clients copy what is in the view, and find nothing else.
        let client = Client::new(release, machine.harmonia.url(), &[&keys::OURS]);
        let _ = client.copy(&[machine.path("many-references")]).stdout();
        assert!(client.has(&leaf), "{release}");
        assert!(!client.copy(&[machine.path("large")]).succeeded(), "{release}");

        machine.set("website", "deep-tree");
        assert!(machine.shows("deep-tree"), "{release}: the new generation");
        machine.wait_until_gone("many-references");
        machine.assert_looks_absent(&leaf);
        machine.run(&["nix-env", "--profile", &format!("{PROFILES}/website"), "--rollback"]);
        assert!(machine.shows("many-references"), "{release}: after the rollback");
        machine.wait_until_gone("deep-tree");
    }
}

#[test]
fn a_view_has_all_generations_of_a_profile_until_they_are_deleted() {
    for release in Release::ALL {
        let machine = Machine::new(release, &[&format!("{PROFILES}/tools-*-link")]);
        for (nth, name) in ["regular", "executable", "symlink"].into_iter().enumerate() {
            machine.set("tools", name);
            assert!(machine.shows(name), "{release}: generation {}", nth + 1);
        }
        machine.set("other", "large");
        machine.assert_looks_absent(machine.path("large"));
        machine.run(&["nix-env", "--profile", &format!("{PROFILES}/tools"), "--delete-generations", "1"]);
        machine.wait_until_gone("regular");
        assert!(machine.shows("executable") && machine.shows("symlink"), "{release}");
    }
}

#[test]
fn a_view_follows_links_of_users_through_indirect_roots_and_loses_them_with_the_path() {
    for release in Release::ALL {
        let machine = Machine::new(release, &["/nix/var/nix/gcroots/auto", "/nix/var/nix/gcroots/team/*"]);
        let result = machine.links.join("result");
        let root = |name: &str| {
            let link = result.to_str().unwrap();
            machine.run(&["nix-store", "--realise", machine.path(name), "--add-root", link, "--indirect"]);
        };
        root("with-deriver");
        assert!(machine.shows("with-deriver"), "{release}");
        root("executable");
        assert!(machine.shows("executable"), "{release}: the same link, to another path");
        machine.wait_until_gone("with-deriver");
        let direct = machine.daemon.on_host("/nix/var/nix/gcroots/team/direct");
        std::os::unix::fs::symlink(machine.path("regular"), &direct).unwrap();
        assert!(machine.shows("regular"), "{release}");
        fs::remove_file(&result).unwrap();
        machine.wait_until_gone("executable");
        // What is not rooted any more is collected, and what is stays.
        machine.run(&["nix-store", "--gc"]);
        assert!(!machine.daemon.on_host(machine.path("executable")).exists(), "{release}");
        machine.assert_looks_absent(machine.path("executable"));
        assert!(machine.shows("regular"), "{release}");
    }
}

#[test]
fn a_view_follows_a_profile_of_nix_profile() {
    // Older releases keep a profile in other ways, or cannot add a path to it.
    for release in [Release::Nix2_26, Release::Nix2_34] {
        let machine = Machine::new(release, &[&format!("{PROFILES}/per-user")]);
        let profile = format!("{PROFILES}/per-user/alice");
        fs::create_dir_all(machine.daemon.on_host(&format!("{PROFILES}/per-user"))).unwrap();
        let nix = |arguments: &[&str]| {
            let features = ["nix", "--extra-experimental-features", "nix-command flakes", "profile"];
            machine.run(&[&features, arguments].concat());
        };
        nix(&["install", "--profile", &profile, machine.path("odd-entries")]);
        assert!(machine.shows("odd-entries"), "{release}");
        machine.assert_looks_absent(machine.path("large"));
        let generation = machine.daemon.on_host(&format!("{profile}-1-link"));
        let environment = fs::read_link(generation).unwrap().to_str().unwrap().to_owned();
        assert_eq!(machine.narinfo(&environment).status, 200, "{release}: {environment}");
    }
}
