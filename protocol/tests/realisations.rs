//! Realisations by derivation path, as from Nix 2.35 on (`src/libstore/worker-protocol.cc`: `DrvOutput`, and an optional
//! `UnkeyedRealisation`). One without signatures is recorded, see `replay`; the others are constructed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use harmonia_protocol::derivation_output::{DerivationOutput, OutputName};
use harmonia_protocol::realisation::Realisation;
use harmonia_protocol::signature::Signature;
use harmonia_protocol::version::{Feature, Version};
use harmonia_protocol::wire::DecodeErrorKind;
use harmonia_protocol::{Client, ClientError};

use super::operations::{PB_B, PB_B_DRV};
use super::script::{DAEMON_MAGIC, LAST, Record, Script, error_frame, numbers, path, run, string};

const SIGNATURE: &str =
    "test-1:iOMKVFy1KYTNTe5Swo8f1vDaefwim7oZsWx2mJsoGLv4qw5KTC/QrVQARBirrhxBKG33jGzKVY5pEQ7jM3DUAg==";

fn by_path() -> DerivationOutput {
    DerivationOutput::Path(path(PB_B_DRV), OutputName::new("out").unwrap())
}

fn by_hash() -> DerivationOutput {
    DerivationOutput::Hashed(format!("sha256:{}!out", "0".repeat(64)).parse().unwrap())
}

fn daemon(features: &[&str], reply: &[u8]) -> (Client<Script>, Arc<Mutex<Record>>) {
    let script = Script::greeting(Version::NEWEST, features).replies(reply).replies(numbers(&[LAST, 1]));
    script.client(Version::NEWEST)
}

const BY_PATH: &[&str] = &["realisation-with-path-not-hash"];

fn known(signatures: &[&str]) -> Vec<u8> {
    let signatures: Vec<Vec<u8>> =
        std::iter::once(numbers(&[signatures.len() as u64])).chain(signatures.iter().map(string)).collect();
    [numbers(&[LAST, 1]), string(PB_B), signatures.concat()].concat()
}

#[test]
fn a_known_output_is_asked_by_path_and_answered_with_path_and_signatures() {
    let (mut client, record) = daemon(BY_PATH, &known(&[SIGNATURE, "not a signature"]));
    assert!(client.session().has_feature(Feature::RealisationWithPathNotHash));
    let realisation = run(client.query_realisation(&by_path())).unwrap();
    let signatures = vec![Signature::parse(SIGNATURE).unwrap()];
    let expected = Realisation { path: path(PB_B), dependencies: BTreeMap::new(), signatures };
    assert_eq!(realisation, Some(expected));
    assert_eq!(record.lock().unwrap().written, [numbers(&[43]), string(PB_B_DRV), string("out")].concat());
    assert!(client.is_idle());
}

#[test]
fn an_unknown_output_is_a_tag_alone() {
    let (mut client, _) = daemon(BY_PATH, &numbers(&[LAST, 0]));
    assert_eq!(run(client.query_realisation(&by_path())).unwrap(), None);
    assert!(client.is_idle());
}

#[test]
fn every_strict_prefix_waits_or_ends_the_client() {
    let whole = known(&[SIGNATURE]);
    for cut in 0..whole.len() {
        let script = Script::greeting(Version::NEWEST, BY_PATH).replies(&whole[..cut]).hangs_up();
        let (mut client, _) = script.client(Version::NEWEST);
        let outcome = run(client.query_realisation(&by_path()));
        assert!(matches!(outcome, Err(ClientError::Closed { .. })), "{cut}: {outcome:?}");
        assert!(!client.is_idle());
    }
}

#[test]
fn other_tags_are_refused() {
    let (mut client, _) = daemon(BY_PATH, &numbers(&[LAST, 2]));
    let outcome = run(client.query_realisation(&by_path()));
    assert!(
        matches!(outcome, Err(ClientError::Malformed { error, .. }) if error.kind == DecodeErrorKind::UnknownTag(2))
    );
    assert!(!client.is_idle());
}

#[test]
fn an_output_in_the_form_of_the_other_sort_of_daemon_is_refused_without_a_byte() {
    for (features, output) in [(BY_PATH, by_hash()), (&[], by_path())] {
        let (mut client, record) = daemon(features, &numbers(&[LAST, 1]));
        assert!(matches!(run(client.query_realisation(&output)), Err(ClientError::Unsupported(_))));
        assert!(record.lock().unwrap().written.is_empty());
        assert!(client.is_idle());
        assert!(run(client.is_valid_path(&path(PB_B))).unwrap());
    }
}

#[test]
fn lix_is_not_asked_since_it_dropped_realisations() {
    for (release, asks) in [("2.93.3", true), ("2.94.0", false), ("2.96.0-dev", false), ("2.18.1", true)] {
        let greeting = [string(release), numbers(&[1, LAST, LAST])].concat();
        let script = Script::new().replies(numbers(&[DAEMON_MAGIC, 0x123])).replies(greeting);
        let (mut client, record) = script.replies(numbers(&[LAST, 0])).client(Version::NEWEST);
        match run(client.query_realisation(&by_hash())) {
            Ok(None) => assert!(asks, "{release}"),
            Err(ClientError::Unsupported(_)) => assert!(!asks, "{release}"),
            other => panic!("{release}: {other:?}"),
        }
        assert_eq!(record.lock().unwrap().written.is_empty(), !asks, "{release}");
        assert!(client.is_idle());
    }
}

#[test]
fn an_error_over_a_realisation_is_fatal() {
    // Some releases leave the arguments unread.
    let (mut client, record) = daemon(BY_PATH, &error_frame("no"));
    assert!(matches!(run(client.query_realisation(&by_path())), Err(ClientError::Daemon { .. })));
    assert!(record.lock().unwrap().closed);
    assert!(!client.is_idle());
}
