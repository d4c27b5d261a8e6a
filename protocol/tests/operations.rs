//! Recorded operations, by their names in the transcripts, as calls of the client.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;

use harmonia_protocol::client::NarStream;
use harmonia_protocol::derivation_output::{DerivationOutput, OutputName};
use harmonia_protocol::operation::{
    AddIndirectRoot, DerivedPath, Missing, Operation, OutputsSpec, QueryDerivationOutputMap, QueryMissing,
    QueryRealisation, QueryValidPaths, Root,
};
use harmonia_protocol::path_info::PathInfo;
use harmonia_protocol::realisation::Realisation;
use harmonia_protocol::version::Version;
use harmonia_protocol::{Client, ClientError, StorePath};
use tokio::io::{AsyncRead, AsyncWrite};

use super::script::{LAST, Script, error_frame, numbers, path, poll_once, run, string};

pub(crate) const HELLO: &str = "/nix/store/lq7lf2dg0c05ibn8r201m1cgdcj5i60a-hello";
pub(crate) const TREE: &str = "/nix/store/jqrwyiv5qjwayyrgk6zwczm7m8asmi38-tree";
pub(crate) const PA_A: &str = "/nix/store/svxgai49n43iavmpqgsw5jf3cbc4n9h3-pa-a";
pub(crate) const PB_B: &str = "/nix/store/3dcxyc6w8pkhc4nhbdpkq7shq6jkp94j-pb-b";
pub(crate) const PB_B_DEV: &str = "/nix/store/fxasliszw66w1fd845jcmp6hpkxhxmb7-pb-b-dev";
pub(crate) const PB_B_DRV: &str = "/nix/store/ccblbgkvvrp8kk457x2sjlsxvf22bjlz-pb-b.drv";
pub(crate) const FIXED_F: &str = "/nix/store/nsycnig0s3x6blqicd56bda6qhs5igik-fixed-f";
pub(crate) const MISSING: &str = "/nix/store/00000000000000000000000000000000-missing";

/// Sections of the handshake, and those without bytes.
pub(crate) const AROUND: [&str; 6] = ["connect", "handshake", "feature", "post-handshake", "SetOptions", "closed"];

/// Operations of the recording client that this one lacks.
pub(crate) const NOT_SPOKEN: [&str; 4] =
    ["QueryDerivationOutputNames", "QueryDerivationOutputs", "QuerySubstitutablePathInfos", "QuerySubstitutablePaths"];

/// Reply of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Done,
    Valid(bool),
    Info(Option<PathInfo>),
    Path(Option<StorePath>),
    Paths(Vec<StorePath>),
    Outputs(BTreeMap<OutputName, Option<StorePath>>),
    Realisation(Option<Realisation>),
    Missing(Missing),
    Roots(Vec<Root>),
    Nar(Vec<u8>),
}

impl Value {
    /// Removes differences between two nix-daemons with the same paths: times, process ids, the order of sets, and the
    /// text for a temporary root.
    pub(crate) fn comparable(mut self) -> Self {
        match &mut self {
            Self::Info(Some(info)) => info.registration_time = 0,
            Self::Paths(paths) => paths.sort(),
            Self::Roots(roots) => {
                for root in roots.iter_mut() {
                    root.link.retain(|c| !c.is_ascii_digit());
                    // Determinate Nix.
                    root.link = root.link.replace("{nix-process:", "{temp:");
                }
                roots.sort_by(|a, b| a.target.cmp(&b.target));
            }
            _ => {}
        }
        self
    }

    pub(crate) fn info(self) -> PathInfo {
        let Self::Info(Some(info)) = self else { panic!("{self:?} is no path info") };
        info
    }

    pub(crate) fn nar(self) -> Vec<u8> {
        let Self::Nar(nar) = self else { panic!("{self:?} is no nar") };
        nar
    }
}

/// Performs the operation of the section of that name.
pub(crate) async fn perform<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut Client<S>,
    name: &str,
) -> Result<Value, ClientError> {
    let (operation, argument) = name.split_once(' ').unwrap_or((name, ""));
    Ok(match operation {
        "IsValidPath" => Value::Valid(client.is_valid_path(&path(argument)).await?),
        "QueryPathInfo" => Value::Info(client.query_path_info(&path(argument)).await?),
        "QueryPathFromHashPart" => Value::Path(client.query_path_from_hash_part(argument.parse().unwrap()).await?),
        "QueryReferrers" => Value::Paths(client.query_referrers(&path(argument)).await?),
        "QueryValidDerivers" => Value::Paths(client.query_valid_derivers(&path(argument)).await?),
        "QueryAllValidPaths" => Value::Paths(client.query_all_valid_paths().await?),
        "QueryValidPaths" => Value::Paths(client.query_valid_paths(&[path(HELLO), path(MISSING), path(TREE)]).await?),
        "QueryMissing" => {
            let out = OutputsSpec::Named(vec![OutputName::new("out").unwrap()]);
            let built = DerivedPath::Built(path(PB_B_DRV), out);
            let wanted = [DerivedPath::Opaque(path(HELLO)), DerivedPath::Opaque(path(MISSING)), built];
            Value::Missing(client.query_missing(&wanted).await?)
        }
        "QueryDerivationOutputMap" => Value::Outputs(client.query_derivation_output_map(&path(argument)).await?),
        "QueryRealisation" => {
            let output = match argument.split_once('^') {
                Some((derivation, name)) => DerivationOutput::Path(path(derivation), OutputName::new(name).unwrap()),
                None => DerivationOutput::Hashed(argument.parse().unwrap()),
            };
            Value::Realisation(client.query_realisation(&output).await?)
        }
        "AddTempRoot" => {
            client.add_temp_root(&path(argument)).await?;
            Value::Done
        }
        "EnsurePath" => {
            client.ensure_path(&path(argument)).await?;
            Value::Done
        }
        "FindRoots" => Value::Roots(client.find_roots().await?),
        "NarFromPath" => Value::Nar(nar(client, argument).await?),
        _ => panic!("{name} is not known here"),
    })
}

async fn nar<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<S>, full: &str) -> Result<Vec<u8>, ClientError> {
    let mut stream = NarStream::open(client, &path(full), u64::MAX).await?;
    let mut nar = Vec::new();
    while let Some(bytes) = stream.chunk().await? {
        assert!(!bytes.is_empty(), "an empty chunk is not the end");
        nar.extend_from_slice(&bytes);
    }
    Ok(nar)
}

#[test]
fn no_operation_is_skipped_but_those_that_this_client_does_not_have() {
    let recorded: BTreeSet<String> = super::transcript::sessions()
        .iter()
        .flat_map(|transcript| &transcript.sections)
        .map(|section| section.operation().to_owned())
        .collect();
    let performed = [
        "AddTempRoot",
        "EnsurePath",
        "FindRoots",
        "IsValidPath",
        "NarFromPath",
        "QueryAllValidPaths",
        "QueryDerivationOutputMap",
        "QueryMissing",
        "QueryPathFromHashPart",
        "QueryPathInfo",
        "QueryRealisation",
        "QueryReferrers",
        "QueryValidDerivers",
        "QueryValidPaths",
    ];
    let known: BTreeSet<String> =
        performed.iter().chain(&AROUND).chain(&NOT_SPOKEN).map(|name| (*name).to_owned()).collect();
    assert_eq!(recorded, known);
}

/// Returns the bytes that a client of 1.`minor` sends for an operation; empty if it is unsupported.
fn request<O: Operation>(minor: u8, operation: &O) -> Vec<u8> {
    let version = Version::from_minor(minor);
    let (mut client, record) = Script::greeting(version, &[]).replies(error_frame("enough")).client(version);
    let outcome = poll_once(&mut pin!(client.call(operation)));
    assert!(!matches!(outcome, Some(Ok(_))));
    std::mem::take(&mut record.lock().unwrap().written)
}

#[test]
fn requests_change_with_the_very_version_that_changed_them() {
    let paths = [path(HELLO)];
    let asked = [numbers(&[31, 1]), string(HELLO)].concat();
    assert_eq!(request(26, &QueryValidPaths(&paths)), asked);
    assert_eq!(request(27, &QueryValidPaths(&paths)), [asked, numbers(&[0])].concat());

    let all = [DerivedPath::Built(path(PB_B_DRV), OutputsSpec::All)];
    let asked = |text: String| [numbers(&[40, 1]), string(text)].concat();
    assert_eq!(request(29, &QueryMissing(&all)), asked(PB_B_DRV.into()));
    assert_eq!(request(30, &QueryMissing(&all)), asked(format!("{PB_B_DRV}!*")));

    let derivation = path(PB_B_DRV);
    let asked = [numbers(&[41]), string(PB_B_DRV)].concat();
    assert!(request(21, &QueryDerivationOutputMap(&derivation)).is_empty());
    assert_eq!(request(22, &QueryDerivationOutputMap(&derivation)), asked);

    let id = format!("sha256:{}!out", "0".repeat(64));
    let output = DerivationOutput::Hashed(id.parse().unwrap());
    assert!(request(26, &QueryRealisation(&output)).is_empty());
    assert_eq!(request(27, &QueryRealisation(&output)), [numbers(&[43]), string(id)].concat());
}

#[test]
fn realisations_are_paths_up_to_the_version_before_json() {
    let output = DerivationOutput::Hashed(format!("sha256:{}!out", "0".repeat(64)).parse().unwrap());
    let json = format!(r#"{{"outPath":"{}"}}"#, &PB_B[11..]);
    for (minor, answer) in [(27, PB_B), (30, PB_B), (31, json.as_str()), (38, json.as_str())] {
        let version = Version::from_minor(minor);
        let reply = [numbers(&[LAST, 1]), string(answer)].concat();
        let (mut client, _) = Script::greeting(version, &[]).replies(reply).client(version);
        let realisation = run(client.query_realisation(&output)).unwrap();
        assert_eq!(realisation.map(|found| found.path), Some(path(PB_B)), "1.{minor}");
    }
}

#[test]
fn an_indirect_root_is_the_path_of_its_symlink_in_every_version() {
    for minor in [21, 38] {
        let version = Version::from_minor(minor);
        let link = "/var/lib/harmonia/pins/x";
        assert_eq!(request(minor, &AddIndirectRoot(link.as_bytes())), [numbers(&[12]), string(link)].concat());
        let (mut client, _) = Script::greeting(version, &[]).replies(numbers(&[LAST, 1])).client(version);
        run(client.add_indirect_root(link.as_bytes())).unwrap();
        assert!(client.is_idle());
    }
    // The connection stays usable if nix-daemon refuses it.
    let newest = Version::from_minor(38);
    let (mut client, _) = Script::greeting(newest, &[]).replies(error_frame("no")).client(newest);
    assert!(matches!(run(client.add_indirect_root(b"/nix/store/x")), Err(ClientError::Daemon { .. })));
    assert!(client.is_idle());
}
