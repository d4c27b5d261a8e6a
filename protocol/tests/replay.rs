//! Replays every recorded session: the client sends the same bytes, and decodes the same values from all releases.

use std::collections::BTreeMap;

use harmonia_protocol::nar::Node;
use harmonia_protocol::operation::Root;
use harmonia_protocol::version::Version;
use harmonia_protocol::{Client, ClientError, StoreDir};

use super::operations::*;
use super::script::{Script, greet, path, run};
use super::transcript::{Section, Transcript, all, sessions};

/// Position of the option in SetOptions that differs on purpose: maxBuildJobs, the fifth after the opcode. The recording
/// client allows one build; this one allows none.
const MAX_BUILD_JOBS: std::ops::Range<usize> = 40..48;

/// Returns a script of the handshake: the version, then the rest.
pub(crate) fn greeting(sections: &[Section]) -> Script {
    let (first, rest) = greeting_sections(sections).split_first().unwrap();
    let rest: Vec<u8> = rest.iter().flat_map(|section| section.received.clone()).collect();
    Script::new().replies(&first.received).replies(rest)
}

fn greeting_sections(sections: &[Section]) -> &[Section] {
    let last = sections.iter().position(|section| section.operation() == "SetOptions").unwrap();
    &sections[1..=last]
}

/// Returns the operations after the handshake that this client has.
pub(crate) fn questions(transcript: &Transcript) -> impl Iterator<Item = &Section> {
    let skipped = |operation: &str| AROUND.contains(&operation) || NOT_SPOKEN.contains(&operation);
    transcript.sections.iter().filter(move |section| !skipped(section.operation()))
}

/// Returns whether an operation is unsupported in that session, although the recording client sent it.
pub(crate) fn is_unsupported(version: Version, operation: &str) -> bool {
    match operation {
        "QueryDerivationOutputMap" => version < Version::DERIVATION_OUTPUT_MAP,
        "QueryRealisation" => version < Version::REALISATIONS,
        _ => false,
    }
}

type Answers = BTreeMap<String, Result<Value, String>>;

/// Replays one transcript on one connection, and checks every byte that the client writes.
fn replay(transcript: &Transcript) -> (Version, Answers) {
    let mut script = greeting(&transcript.sections);
    let claimed = Version::from_minor(transcript.claimed());
    let record = script.record();
    // Nothing is sent for an unsupported operation.
    let negotiated = negotiated(transcript);
    for section in questions(transcript).filter(|section| !is_unsupported(negotiated, section.operation())) {
        script = script.replies(&section.received);
    }
    let mut client = run(greet(script, claimed, transcript.offered())).unwrap();
    assert_eq!(client.session().version, negotiated);

    let written = std::mem::take(&mut record.lock().unwrap().written);
    let mut expected: Vec<u8> =
        greeting_sections(&transcript.sections).iter().flat_map(|section| section.sent.clone()).collect();
    let options = expected.len() - transcript.section("SetOptions").sent.len();
    expected[options..][MAX_BUILD_JOBS].fill(0);
    assert_eq!(written, expected, "{}: greeting", transcript.name);

    let mut answers = Answers::new();
    for section in questions(transcript) {
        let name = format!("{}: {}", transcript.name, section.name);
        let answer = run(perform(&mut client, &section.name));
        let written = std::mem::take(&mut record.lock().unwrap().written);
        assert!(client.is_idle(), "{name}: every recorded error leaves the connection usable");
        if is_unsupported(negotiated, section.operation()) {
            assert!(matches!(answer, Err(ClientError::Unsupported(_))), "{name}");
            assert!(written.is_empty(), "{name}");
            continue;
        }
        assert_eq!(written, section.sent, "{name}");
        let answer = match answer {
            Ok(value) => Ok(value),
            Err(ClientError::Daemon { error, .. }) => Err(error.message().to_owned()),
            Err(error) => panic!("{name}: {error}"),
        };
        answers.insert(section.name.clone(), answer);
    }
    (negotiated, answers)
}

/// Returns the version that the recording client computed.
pub(crate) fn negotiated(transcript: &Transcript) -> Version {
    let (_, rest) = transcript.decoded.split_once(" negotiated 1.").unwrap();
    Version::from_minor(rest.split(' ').next().unwrap().parse().unwrap())
}

fn connect(transcript: &Transcript) -> Client<Script> {
    run(greet(greeting(&transcript.sections), Version::from_minor(transcript.claimed()), transcript.offered())).unwrap()
}

#[test]
fn release_and_trust_are_what_the_recording_client_saw() {
    for transcript in sessions() {
        let client = connect(transcript);
        let session = client.session();
        let release = session.release.as_ref().map_or("None".into(), |release| format!("'{release}'"));
        let trust = session.trusted.map_or("None", |trusted| if trusted { "1" } else { "2" });
        let line = transcript.decoded.lines().next().unwrap();
        assert!(line.contains(&format!("nixver={release} trust={trust}")), "{}: {line}", transcript.name);
    }
}

#[test]
fn every_release_is_asked_with_the_recorded_bytes_and_answers_the_same_values() {
    let mut seen: BTreeMap<String, (String, Value)> = BTreeMap::new();
    for transcript in sessions() {
        for (name, answer) in replay(transcript).1 {
            // Other paths than the common ones differ by release.
            let Ok(value) = answer else { continue };
            if name == "QueryAllValidPaths" {
                continue;
            }
            let value = value.comparable();
            let (first, expected) =
                seen.entry(name.clone()).or_insert_with(|| (transcript.name.clone(), value.clone()));
            assert_eq!(&value, expected, "{name}: {} differs from {first}", transcript.name);
        }
    }
    assert_eq!(seen.len(), 26, "{:#?}", seen.keys());
}

#[test]
fn the_answers_are_the_known_facts_about_the_paths() {
    for transcript in sessions() {
        let (version, answers) = replay(transcript);
        let value = |name: String| {
            answers.get(&name).unwrap_or_else(|| panic!("{name}")).clone().unwrap_or_else(|e| panic!("{name}: {e}"))
        };
        let of = |operation: &str, full: &str| value(format!("{operation} {full}"));
        let paths = |full: &[&str]| Value::Paths(full.iter().map(|full| path(full)).collect());

        assert_eq!(of("IsValidPath", HELLO), Value::Valid(true));
        assert_eq!(of("IsValidPath", MISSING), Value::Valid(false));
        assert_eq!(of("QueryPathInfo", MISSING), Value::Info(None));
        assert_eq!(value("QueryValidPaths".into()).comparable(), paths(&[TREE, HELLO]));
        assert_eq!(of("QueryPathFromHashPart", &HELLO[11..43]), Value::Path(Some(path(HELLO))));
        assert_eq!(of("QueryPathFromHashPart", &MISSING[11..43]), Value::Path(None));
        assert_eq!(of("QueryReferrers", PA_A), paths(&[PB_B]));
        assert_eq!(of("QueryReferrers", MISSING), paths(&[]));
        assert_eq!(of("QueryValidDerivers", PB_B), paths(&[PB_B_DRV]));
        assert_eq!(of("QueryValidDerivers", MISSING), paths(&[]));
        assert_eq!(of("AddTempRoot", HELLO), Value::Done);
        assert_eq!(of("AddTempRoot", MISSING), Value::Done);
        assert_eq!(of("EnsurePath", HELLO), Value::Done);

        let Value::Missing(missing) = value("QueryMissing".into()) else { panic!("no QueryMissing") };
        assert!(missing.will_build.is_empty() && missing.will_substitute.is_empty());
        assert_eq!((missing.unknown, missing.download_size, missing.nar_size), (vec![path(MISSING)], 0, 0));

        let root = |full: &str| Root { link: "{temp:}".into(), target: path(full) };
        assert_eq!(value("FindRoots".into()).comparable(), Value::Roots(vec![root(MISSING), root(HELLO)]));

        let Value::Paths(all) = value("QueryAllValidPaths".into()) else { panic!("no QueryAllValidPaths") };
        assert!([HELLO, TREE, PA_A, PB_B, PB_B_DEV, PB_B_DRV, FIXED_F].iter().all(|full| all.contains(&path(full))));
        assert!(transcript.decoded.contains(&format!("QueryAllValidPaths -> {}\n", all.len())), "{}", all.len());

        if version >= Version::DERIVATION_OUTPUT_MAP {
            let Value::Outputs(outputs) = of("QueryDerivationOutputMap", PB_B_DRV) else { panic!("no outputs") };
            let outputs: Vec<_> = outputs.iter().map(|(name, path)| (name.as_str(), path.clone())).collect();
            assert_eq!(outputs, [("dev", Some(path(PB_B_DEV))), ("out", Some(path(PB_B)))]);
        }
        let realisations: Vec<_> =
            answers.iter().filter(|(name, _)| name.starts_with("QueryRealisation")).map(|(_, answer)| answer).collect();
        let is_asked = transcript.sections.iter().any(|section| section.operation() == "QueryRealisation");
        if version >= Version::REALISATIONS && is_asked {
            // The unknown output sorts first: its hash, or that of its derivation, is all zeros.
            let [Ok(Value::Realisation(None)), Ok(Value::Realisation(Some(known)))] = realisations[..] else {
                panic!("{}: {realisations:?}", transcript.name)
            };
            assert!(known.signatures.is_empty());
            let line = transcript.decoded.lines().find(|line| line.starts_with("QueryRealisation -> ")).unwrap();
            assert!(line.contains(known.path.base_name()), "{line}");
        } else {
            assert!(realisations.is_empty());
        }
        for (name, refused) in answers.iter().filter_map(|(name, answer)| Some((name, answer.as_ref().err()?))) {
            let argument = name.split(' ').nth(1).unwrap();
            assert!(argument.starts_with(MISSING), "{name}: {refused}");
            assert!(refused.starts_with(&format!("path '{argument}' ")), "{name}: {refused}");
        }
    }
}

#[test]
fn path_infos_and_nars_prove_each_other() {
    for transcript in sessions() {
        let (_, answers) = replay(transcript);
        let value = |operation: &str, full: &str| answers[&format!("{operation} {full}")].clone().unwrap();
        let store = StoreDir::default();

        let hello = value("QueryPathInfo", HELLO).info();
        let nar = value("NarFromPath", HELLO).nar();
        let digest = ring::digest::digest(&ring::digest::SHA256, &nar);
        assert_eq!((digest.as_ref(), nar.len() as u64), (&hello.nar_hash.as_bytes()[..], hello.nar_size));
        assert_eq!(Node::parse(&nar), Ok(Node::Regular { executable: false, contents: b"hello world\n"[..].into() }));
        assert!(hello.deriver.is_none() && hello.references.is_empty() && hello.signatures.is_empty());
        assert!(hello.content_address.is_some_and(|address| address.matches_path(&path(HELLO), &[], &store)));
        assert!(!hello.ultimate, "it was added, not built");

        let tree = value("NarFromPath", TREE).nar();
        assert_eq!(tree.len(), 888);
        assert!(matches!(Node::parse(&tree), Ok(Node::Directory(_))));

        let pb_b = value("QueryPathInfo", PB_B).info();
        assert_eq!(pb_b.deriver, Some(path(PB_B_DRV)));
        assert_eq!(pb_b.references, [path(PA_A)]);
        assert_eq!((pb_b.nar_size, pb_b.ultimate, pb_b.content_address), (168, true, None));
        assert_eq!(pb_b.nar_hash.to_hex(), "25fe4a72e0872e4b4b4e6b7b71496c5ec3262bd947d4ce84169574501b09f556");
        let keys: Vec<&str> = pb_b.signatures.iter().map(|signature| signature.key().as_str()).collect();
        assert_eq!(keys, ["test-1"]);
        assert!(transcript.decoded.contains(&format!("'{}'", pb_b.signatures[0])));
        assert!(transcript.decoded.contains(&format!("'regTime': {}", pb_b.registration_time)));

        let fixed = value("QueryPathInfo", FIXED_F).info();
        assert!(fixed.content_address.is_some_and(|address| address.matches_path(&path(FIXED_F), &[], &store)));
        assert_eq!(fixed.deriver, Some(path("/nix/store/9qziw0lhyahbzj1fxx884j4m80zyz2h1-fixed-f.drv")));
    }
}

/// Connections of a running harmonia, recorded by a proxy.
#[test]
fn what_the_server_asked_is_asked_with_the_same_bytes_again() {
    let connections = all("harmonia-nix-");
    assert_eq!(connections.len(), 11, "a recording was lost or is not read");
    for transcript in connections {
        let mut script = greeting(&transcript.sections);
        let record = script.record();
        for section in questions(&transcript) {
            script = script.replies(&section.received);
        }
        let mut client = run(greet(script, Version::from_minor(transcript.claimed()), transcript.offered())).unwrap();
        let written = std::mem::take(&mut record.lock().unwrap().written);
        let greeted = greeting_sections(&transcript.sections).iter().flat_map(|section| section.sent.clone());
        assert_eq!(written, greeted.collect::<Vec<_>>(), "{}: greeting", transcript.name);
        let mut rooted = Vec::new();
        for section in questions(&transcript) {
            let name = format!("{}: {}", transcript.name, section.name);
            match (section.operation(), section.name.split_once(' ')) {
                ("QueryValidPaths", _) => assert_eq!(run(client.query_valid_paths(&rooted)).unwrap(), rooted, "{name}"),
                (operation, argument) => {
                    run(perform(&mut client, &section.name)).unwrap();
                    if operation == "AddTempRoot" {
                        rooted = argument.iter().map(|(_, full)| path(full)).collect();
                    }
                }
            }
            assert_eq!(std::mem::take(&mut record.lock().unwrap().written), section.sent, "{name}");
            assert!(client.is_idle(), "{name}");
        }
    }
}
