//! Every release of nix-daemon behind harmonia: path infos and NARs arrive unchanged.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::nix::content::{LARGE, MANY};
use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::keys;
use crate::support::server::Harmonia;
use crate::support::store_item::hash_part;

#[test]
fn what_nix_2_3_holds_is_served_as_it_is() {
    is_served_as_it_is(Release::Nix2_3);
}

#[test]
fn what_nix_2_8_holds_is_served_as_it_is() {
    is_served_as_it_is(Release::Nix2_8);
}

#[test]
fn what_nix_2_26_holds_is_served_as_it_is() {
    is_served_as_it_is(Release::Nix2_26);
}

#[test]
fn what_nix_2_34_holds_is_served_as_it_is() {
    is_served_as_it_is(Release::Nix2_34);
}

#[test]
fn all_releases_are_served_alike() {
    let daemons = Release::ALL.map(Daemon::shared);
    let servers = daemons.map(Harmonia::for_daemon);
    let [oldest, newer @ ..] = &servers;
    for (name, path) in daemons[0].content().iter() {
        let narinfo_path = format!("/{}.narinfo", hash_part(path));
        let narinfo = oldest.http().get(&narinfo_path);
        let nar_path = format!("/{}", Narinfo::parse(narinfo.text()).one("URL"));
        let nar = oldest.http().get(&nar_path).body;
        for (daemon, server) in daemons[1..].iter().zip(newer) {
            let release = daemon.release();
            assert_eq!(daemon.content().path(name), path, "{release}");
            assert_eq!(server.http().get(&narinfo_path).text(), narinfo.text(), "{name} of {release}");
            assert!(server.http().get(&nar_path).body == nar, "the NAR of {name} of {release} differs");
        }
    }
}

#[test]
fn the_content_is_what_its_names_say() {
    for daemon in Release::ALL.map(Daemon::shared) {
        let info = |name| daemon.path_info(daemon.content().path(name));
        let release = daemon.release();
        let version = daemon.run(&["nix-store", "--version"]).text();
        assert!(version.contains(&format!(") {}.", release.series())), "{release} says {version}");

        let unsigned = info("regular");
        assert!(
            strings(&unsigned, "signatures").is_empty() && unsigned.get("ca").is_none_or(Value::is_null),
            "{release}"
        );
        assert!(strings(&info("foreign-signature"), "signatures")[0].starts_with(keys::FOREIGN.name), "{release}");
        assert!(info("with-deriver")["deriver"].as_str().unwrap().ends_with("-with-deriver.drv"), "{release}");
        assert_eq!(strings(&info("many-references"), "references").len(), MANY, "{release}");
        assert_eq!(
            strings(&info("self-reference"), "references"),
            [daemon.content().path("self-reference")],
            "{release}"
        );
        assert!(info("large")["narSize"].as_u64().unwrap() > LARGE as u64, "{release}");
        for (name, prefix) in [
            ("fixed-recursive", "fixed:r:sha256:"),
            ("fixed-flat", "fixed:sha256:"),
            ("fixed-flat-sha1", "fixed:sha1:"),
            ("text-with-reference", "text:sha256:"),
        ] {
            assert!(info(name)["ca"].as_str().unwrap().starts_with(prefix), "{name} of {release}");
        }
    }
}

/// Compares narinfo and NAR of all content with the output of the release's own programs, which bypass the daemon.
fn is_served_as_it_is(release: Release) {
    let daemon = Daemon::shared(release);
    let harmonia = Harmonia::for_daemon(daemon);
    for (name, path) in daemon.content().iter() {
        let response = harmonia.http().get(&format!("/{}.narinfo", hash_part(path)));
        assert_eq!(response.status, 200, "{name}");
        let mut narinfo = Narinfo::parse(response.text());

        let (own, ours): (Vec<_>, Vec<_>) =
            narinfo.fields.remove("Sig").unwrap().into_iter().partition(|sig| !sig.starts_with(keys::OURS.name));
        assert_eq!(ours.len(), 1, "{name}");
        let info = daemon.path_info(path);
        assert_eq!(own, strings(&info, "signatures"), "{name}");
        assert_eq!(narinfo.fields, expected(daemon, path, &info), "{name}");

        let nar = harmonia.http().get(&format!("/{}", narinfo.one("URL")));
        assert_eq!(nar.status, 200, "{name}");
        let dump = daemon.run(&["nix-store", "--dump", path]).stdout();
        assert!(nar.body == dump, "the NAR of {name} differs: {} of {} bytes", nar.body.len(), dump.len());
    }
}

/// Returns all expected fields but `Sig`.
fn expected(daemon: &Daemon, path: &str, info: &Value) -> BTreeMap<String, Vec<String>> {
    let base_name = |path: &str| path.strip_prefix("/nix/store/").unwrap().to_owned();
    // In the form of narinfo in every release; the JSON has SRI in later ones.
    let nar_hash = daemon.run(&["nix-store", "--query", "--hash", path]).text();
    let mut references: Vec<_> = strings(info, "references").iter().map(|path| base_name(path)).collect();
    references.sort_unstable();
    let mut fields = vec![
        ("StorePath", path.to_owned()),
        ("URL", format!("nar/{}-{}.nar", hash_part(path), nar_hash.strip_prefix("sha256:").unwrap())),
        ("Compression", "none".to_owned()),
        ("FileHash", nar_hash.clone()),
        ("FileSize", info["narSize"].to_string()),
        ("NarHash", nar_hash),
        ("NarSize", info["narSize"].to_string()),
        ("References", references.join(" ")),
    ];
    if let Some(deriver) = info["deriver"].as_str() {
        fields.push(("Deriver", base_name(deriver)));
    }
    if let Some(address) = info["ca"].as_str() {
        fields.push(("CA", address.to_owned()));
    }
    fields.into_iter().map(|(name, value)| (name.to_owned(), vec![value])).collect()
}

/// Returns an array of strings in an object; some releases omit an empty one.
fn strings<'v>(object: &'v Value, key: &str) -> Vec<&'v str> {
    object[key].as_array().map_or_else(Vec::new, |array| array.iter().map(|item| item.as_str().unwrap()).collect())
}

/// Fields of a narinfo, parsed literally: `Name: value` in lines, each ended by a line feed.
struct Narinfo {
    fields: BTreeMap<String, Vec<String>>,
}

impl Narinfo {
    fn parse(text: &str) -> Self {
        let mut fields = BTreeMap::<_, Vec<_>>::new();
        for line in text.strip_suffix('\n').unwrap().split('\n') {
            let (name, value) = line.split_once(": ").unwrap();
            fields.entry(name.to_owned()).or_default().push(value.to_owned());
        }
        Self { fields }
    }

    fn one(&self, name: &str) -> &str {
        let [value] = &*self.fields[name] else { panic!("{name} came more than once") };
        value
    }
}
