//! `/realisations/…` and `/build-trace-v2/…`: with daemons that built content-addressed derivations, and clients that
//! substitute them.

use std::fs;

use serde_json::{Value, json};

use crate::nix::content::Content;
use crate::nix::daemon::Daemon;
use crate::nix::prefix::{Outcome, Prefix};
use crate::nix::release::Release;
use crate::support::http::Response;
use crate::support::keys::{self, Key};
use crate::support::scripted_daemon::{Query, Reply, Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::wire::{LAST, Wire};

/// A content-addressed derivation that depends on an output of another one.
const EXPRESSION: &str = r#"
let
  addressed = attrs: derivation ({
    system = builtins.currentSystem;
    builder = "/usr/bin/perl";
    __contentAddressed = true;
    outputHashMode = "recursive";
    outputHashAlgo = "sha256";
  } // attrs);
  dependency = addressed {
    name = "dependency";
    outputs = [ "out" "dev" ];
    args = [ "-e" "for (qw(out dev)) { open F, '>', $ENV{$_}; print F $_ }" ];
  };
in addressed {
  name = "dependent";
  inherit dependency;
  args = [ "-e" "open F, '>', $ENV{out}; print F $ENV{dependency}" ];
}
"#;
const PLACE: &str = "/nix/tmp/addressed.nix";
const FEATURE: &str = "extra-experimental-features = ca-derivations";

/// Releases whose daemons have realisations.
const RELEASES: [Release; 3] = [Release::Nix2_8, Release::Nix2_26, Release::Nix2_34];

fn prefix(release: Release, config: &[String]) -> Prefix {
    let prefix = Prefix::new(release, config);
    fs::write(prefix.on_host(PLACE), EXPRESSION).unwrap();
    prefix
}

fn build(prefix: &Prefix) -> Outcome {
    prefix.run(&["nix-build", "--no-out-link", PLACE])
}

/// Store in which the derivation was built and signed by [`keys::FOREIGN`], and a server with its daemon.
struct Built {
    /// Path of the output.
    output: String,
    daemon: Daemon,
    harmonia: Harmonia,
}

impl Built {
    fn of(release: Release) -> Self {
        let config = [FEATURE, "substitute = false", "secret-key-files = /nix/etc/secret"].map(str::to_owned);
        let prefix = prefix(release, &config);
        fs::copy(&keys::FOREIGN.secret, prefix.on_host("/nix/etc/secret")).unwrap();
        let output = build(&prefix).text();
        let daemon = Daemon::on(prefix, Content::default());
        let harmonia = Harmonia::for_daemon(&daemon);
        Self { output, daemon, harmonia }
    }

    /// Returns names and texts of the files of realisations that the release writes to a binary cache.
    fn files(&self) -> Vec<(String, Value)> {
        let _ = self.daemon.run(&["nix", "copy", "--to", "file:///nix/tmp/cache", "--file", PLACE]).stdout();
        let directory = fs::read_dir(self.daemon.on_host("/nix/tmp/cache/realisations")).unwrap();
        let file = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().unwrap();
            (name, serde_json::from_slice(&fs::read(entry.path()).unwrap()).unwrap())
        };
        directory.map(|entry| file(entry.unwrap())).collect()
    }
}

/// Removes the signatures from a realisation and returns them.
fn take_signatures(realisation: &mut Value) -> Vec<String> {
    let signatures = realisation.as_object_mut().unwrap().remove("signatures").unwrap();
    serde_json::from_value(signatures).unwrap()
}

fn is_kept_like_a_narinfo(response: &Response) {
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("cache-control"), Some("public, max-age=3600"));
}

#[test]
fn a_realisation_is_what_nix_itself_writes_with_our_signature() {
    for release in RELEASES {
        let built = Built::of(release);
        let http = built.harmonia.http();
        let files = built.files();
        assert!(!files.is_empty());
        let mut dependencies = 0;
        for (name, mut expected) in files {
            let url = format!("/realisations/{name}");
            let response = http.get(&url);
            is_kept_like_a_narinfo(&response);
            assert_eq!(http.get(&url.replace('!', "%21")).body, response.body, "{release}");
            let head = http.head(&url);
            assert_eq!((head.status, head.header("etag")), (200, response.header("etag")), "{release}");

            let mut served: Value = serde_json::from_slice(&response.body).unwrap();
            let signatures = take_signatures(&mut served);
            let daemons = take_signatures(&mut expected);
            assert_eq!(served, expected, "{release}");
            let [ours, without @ .., daemon] = &signatures[..] else { panic!("{release}: {signatures:?}") };
            assert_eq!(daemons, [daemon.as_str()], "{release}");
            for (key, signature) in [(&*keys::OURS, ours), (&*keys::FOREIGN, daemon)] {
                assert!(key.verifies(signature, served.to_string().as_bytes()), "{release}: {served} {signature}");
            }
            let listed = std::mem::replace(&mut served["dependentRealisations"], json!({}));
            let listed = listed.as_object().unwrap().len();
            // Those are signed once more without, for clients of 2.34.
            assert_eq!(without.len(), listed.min(1), "{release}");
            assert!(without.iter().all(|it| keys::OURS.verifies(it, served.to_string().as_bytes())), "{release}");
            dependencies += listed;
            let unknown = http.get(&url.replace("!out", "!none"));
            assert_eq!((unknown.status, unknown.header("cache-control")), (404, Some("no-store")), "{release}");
        }
        // From 2.34 on they are not listed.
        assert_eq!(dependencies, usize::from(release != Release::Nix2_34), "{release}");
        let by_path = format!("/build-trace-v2/{}-dependent.drv/out.doi", "0".repeat(32));
        assert_eq!(http.get(&by_path).status, 404, "{release} knows no outputs by path");
    }
}

/// Returns a client that builds nothing itself.
fn client(release: Release, cache: &str, trusted: &Key) -> Prefix {
    let config = [
        FEATURE.to_owned(),
        "max-jobs = 0".to_owned(),
        "require-sigs = true".to_owned(),
        format!("trusted-public-keys = {}", trusted.public),
        format!("substituters = {cache}"),
    ];
    prefix(release, &config)
}

#[test]
fn every_client_substitutes_what_every_daemon_built_and_our_signature_is_good() {
    for daemon in RELEASES {
        let built = Built::of(daemon);
        for (release, trusted) in RELEASES.into_iter().flat_map(|it| [(it, &*keys::OURS), (it, &*keys::THIRD)]) {
            let client = client(release, built.harmonia.url(), trusted);
            assert_eq!(build(&client).text(), built.output, "{release} from {daemon}");
            // No release looks at the signatures of a realisation before it is copied on.
            let copied = client.run(&["nix", "copy", "--to", "local?root=/nix/tmp/other", "--file", PLACE]);
            if trusted.name == keys::OURS.name {
                let _ = copied.stdout();
            } else {
                let reason = copied.failure();
                assert!(reason.contains("cannot register realisation"), "{release} from {daemon}: {reason}");
            }
        }
    }
}

#[test]
fn a_daemon_without_the_feature_has_no_realisations() {
    for release in Release::ALL {
        let config = ["substitute = false".to_owned()];
        let prefix = prefix(release, &config);
        // Daemons that make one store at once get into each other's way.
        let _ = prefix.run(&["nix-store", "--init"]).stdout();
        let daemon = Daemon::on(prefix, Content::default());
        let harmonia = Harmonia::for_daemon(&daemon);
        let id = format!("sha256:{}!out", "0".repeat(64));
        for _ in 0..2 {
            let response = harmonia.http().get(&format!("/realisations/{id}.doi"));
            assert_eq!(response.status, 404, "{release}");
        }
        // These die of it, once on a connection and once to be sure.
        let deadly = matches!(release, Release::Nix2_8 | Release::Nix2_26);
        let queries = if deadly { 2 } else { 0 };
        let metrics = harmonia.http().get("/metrics");
        let count = r#"harmonia_daemon_operations_total{op="QueryRealisation",result="error"} "#;
        let counted = metrics.text().lines().find_map(|line| line.strip_prefix(count)?.parse().ok());
        assert_eq!(counted.unwrap_or(0), queries, "{release}");
    }
}

const DERIVATION: &str = "0123456789abcdfghijklmnpqrsvwxyz-scripted.drv";
const OUTPUT: &str = "zyxwvsrqpnmlkjihgfdcba9876543210-scripted";

/// Returns the reply of a daemon of Nix 2.35 that has the output `out` of one derivation.
fn by_path(query: &Query) -> Reply {
    let known = Query::BuildTrace(format!("/nix/store/{DERIVATION}"), "out".to_owned());
    let reply = Wire::new().number(LAST);
    if *query == known {
        let signature = format!("daemons-1:{}", data_encoding::BASE64.encode(&[7; 64]));
        return reply.number(1).string(format!("/nix/store/{OUTPUT}")).strings(&[signature, "bad".to_owned()]).into();
    }
    assert!(matches!(query, Query::BuildTrace(..)), "{query:?}");
    reply.number(0).into()
}

#[test]
fn a_build_trace_entry_is_its_value_with_our_signature_of_key_and_value() {
    let daemon = ScriptedDaemon::start(Script::replying_by_path(by_path));
    let harmonia = Harmonia::start(&format!("{}sign_key_paths = [{:?}]\n", daemon.config(), keys::OURS.secret));
    let http = harmonia.http();
    let url = format!("/build-trace-v2/{DERIVATION}/out.doi");
    let response = http.get(&url);
    is_kept_like_a_narinfo(&response);
    let served: Value = serde_json::from_slice(&response.body).unwrap();
    let [ours, daemons] = &served["signatures"].as_array().unwrap()[..] else { panic!("{served}") };
    assert_eq!(served, json!({ "outPath": OUTPUT, "signatures": [ours, daemons] }));
    let sig = data_encoding::BASE64.encode(&[7; 64]);
    assert_eq!(*daemons, json!({ "keyName": "daemons-1", "sig": sig }));
    let signed =
        format!(r#"{{"key":{{"drvPath":"{DERIVATION}","outputName":"out"}},"value":{{"outPath":"{OUTPUT}"}}}}"#);
    let signature = format!("{}:{}", ours["keyName"].as_str().unwrap(), ours["sig"].as_str().unwrap());
    assert!(keys::OURS.verifies(&signature, signed.as_bytes()), "{served}");
    assert_eq!(ours.as_object().unwrap().len(), 2);

    assert_eq!(http.get(&url.replace("/out", "/dev")).status, 404);
    let asked = daemon.seen().queries.len();
    let by_hash = format!("/realisations/sha256:{}!out.doi", "0".repeat(64));
    assert_eq!(http.get(&by_hash).status, 404);
    assert_eq!(daemon.seen().queries.len(), asked, "it knows no outputs by hash");
}

#[test]
fn malformed_ids_are_a_404_without_a_query() {
    let hash = "0".repeat(64);
    for script in [Script::replying(|_| Reply::then_disconnect("")), Script::replying_by_path(by_path)] {
        let daemon = ScriptedDaemon::start(script);
        let harmonia = Harmonia::start(&daemon.config());
        for target in [
            "realisations/".to_owned(),
            format!("realisations/sha256:{hash}!out"),
            format!("realisations/sha256:{hash}!out%2f..%2fx.doi"),
            format!("realisations/sha256:{hash}!out%00.doi"),
            format!("realisations/sha256:{hash}0!out.doi"),
            format!("realisations/sha256:{hash}!{}.doi", "x".repeat(300)),
            format!("build-trace-v2/{DERIVATION}/out"),
            format!("build-trace-v2/{DERIVATION}/out%00.doi"),
            format!("build-trace-v2/{DERIVATION}/../{DERIVATION}/out.doi"),
            format!("build-trace-v2/{OUTPUT}/out.doi"),
            "build-trace-v2/../out.doi".to_owned(),
        ] {
            assert_eq!(harmonia.http().get(&format!("/{target}")).status, 404, "{target}");
        }
        assert_eq!(daemon.seen().queries, []);
    }
}

#[test]
fn an_error_of_the_daemon_is_no_404() {
    let daemon = ScriptedDaemon::start(Script::replying(|_| Wire::new().error("database is busy").into()));
    let harmonia = Harmonia::start(&daemon.config());
    let url = format!("/realisations/sha256:{}!out.doi", "0".repeat(64));
    assert_eq!(harmonia.http().get(&url).status, 502);

    let of_another = r#"{"id":"sha256:00!out","outPath":"zyxwvsrqpnmlkjihgfdcba9876543210-x","signatures":[]}"#;
    let answer = move || Wire::new().number(LAST).strings(&[of_another]).into();
    daemon.play(Script::replying(move |_| answer()));
    assert_eq!(harmonia.http().get(&url).status, 502);
}
