//! Realisations: which path an output of a content-addressed derivation turned out to be.
//!
//! Owns the types, the JSON of protocol 1.31 and later and of binary caches, and the fingerprint that signatures are
//! made over; how a realisation is asked for differs by version and is in [`crate::operation`]. (Nix
//! `src/libstore/realisation.cc`, up to 2.34 and from 2.35 on.)

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::derivation_output::{DerivationOutput, HashedOutput};
use crate::signature::Signature;
use crate::signature_set::{KnownKeys, merge_signatures};
use crate::store_path::StorePath;
use crate::wire::{DecodeError, DecodeErrorKind};

/// The path that an output is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realisation {
    /// The output's path.
    pub path: StorePath,
    /// The realisations that this one was made with, which clients up to Nix 2.33 want to have as well. They are known
    /// by hash only, and of daemons up to Nix 2.33.
    pub dependencies: BTreeMap<HashedOutput, StorePath>,
    /// The well-formed signatures over it; none below protocol 1.31, where they are not transmitted.
    pub signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Json {
    id: Option<String>,
    #[serde(rename = "outPath")]
    out_path: String,
    #[serde(rename = "dependentRealisations", default)]
    dependencies: BTreeMap<String, String>,
    #[serde(default)]
    signatures: Vec<String>,
}

impl Realisation {
    /// From a daemon's JSON about `output`. A dependency that cannot be read is an error, since signatures cover it.
    pub(crate) fn from_json(
        text: &[u8],
        output: &DerivationOutput,
        known_keys: &KnownKeys,
    ) -> Result<Self, DecodeError> {
        let malformed = || DecodeErrorKind::Json.in_field("realisation");
        let path = |name: &str| {
            StorePath::from_base_name(name)
                .map_err(|error| DecodeErrorKind::StorePath(error).in_field("realisation path"))
        };
        let json: Json = serde_json::from_slice(text).map_err(|_| malformed())?;
        let is_another = |id| matches!(output, DerivationOutput::Hashed(asked) if asked.to_string() != id);
        if json.id.is_some_and(is_another) {
            return Err(malformed());
        }
        let dependency = |(id, name): (String, String)| Ok((id.parse().map_err(|_| malformed())?, path(&name)?));
        Ok(Self {
            path: path(&json.out_path)?,
            dependencies: json.dependencies.into_iter().map(dependency).collect::<Result<_, _>>()?,
            signatures: known_keys.select(json.signatures.iter().map(String::as_bytes)),
        })
    }

    /// What is signed of this realisation of `output`: JSON without white space whose keys are sorted.
    ///
    /// Of an output by hash that has dependencies these are two texts, the second one without them: Nix 2.34 drops
    /// dependencies before it looks at signatures.
    #[must_use]
    pub fn fingerprints(&self, output: &DerivationOutput) -> Vec<String> {
        let signed = match output {
            DerivationOutput::Hashed(id) if self.dependencies.is_empty() => vec![self.flat(id)],
            DerivationOutput::Hashed(id) => {
                let mut without = self.flat(id);
                without["dependentRealisations"] = json!({});
                vec![self.flat(id), without]
            }
            DerivationOutput::Path(derivation, output) => vec![json!({
                "key": { "drvPath": derivation.base_name(), "outputName": output.as_str() },
                "value": { "outPath": self.path.base_name() },
            })],
        };
        signed.iter().map(Value::to_string).collect()
    }

    /// The JSON that binary caches have of this realisation of `output`, with our own signatures before the daemon's
    /// under other names.
    #[must_use]
    pub fn to_json(&self, output: &DerivationOutput, own_signatures: Vec<Signature>) -> String {
        let signatures = merge_signatures(own_signatures, &self.signatures);
        let (mut json, signatures): (Value, Vec<Value>) = match output {
            DerivationOutput::Hashed(id) => {
                (self.flat(id), signatures.iter().map(|signature| signature.to_string().into()).collect())
            }
            // What it is of is in the URL alone.
            DerivationOutput::Path(..) => (
                json!({ "outPath": self.path.base_name() }),
                signatures.iter().map(|it| json!({ "keyName": it.key().as_str(), "sig": it.to_base64() })).collect(),
            ),
        };
        json["signatures"] = signatures.into();
        json.to_string()
    }

    /// All but the signatures, as up to Nix 2.34.
    fn flat(&self, id: &HashedOutput) -> Value {
        let dependencies = self.dependencies.iter().map(|(id, path)| (id.to_string(), path.base_name()));
        json!({
            "dependentRealisations": dependencies.collect::<BTreeMap<_, _>>(),
            "id": id.to_string(),
            "outPath": self.path.base_name(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derivation_output::OutputName;

    const BASE: &str = "3dcxyc6w8pkhc4nhbdpkq7shq6jkp94j-pb-b";
    const DRV: &str = "0mnmjb4pi7rkhmv2hcp5c5yzxhqjdqnf-pb-b.drv";

    fn hashed(byte: &str) -> DerivationOutput {
        DerivationOutput::Hashed(format!("sha256:{}!out", byte.repeat(32)).parse().unwrap())
    }

    fn signature(key: &str, byte: u8) -> Signature {
        Signature::parse(&format!("{key}:{}", data_encoding::BASE64.encode(&[byte; 64]))).unwrap()
    }

    fn read(json: &str, output: &DerivationOutput) -> Result<Realisation, DecodeError> {
        Realisation::from_json(json.as_bytes(), output, &KnownKeys::default())
    }

    /// With dependencies out of order.
    fn whole() -> String {
        let (a, b) = ("0a".repeat(32), "0b".repeat(32));
        format!(
            r#"{{"dependentRealisations":{{"sha256:{b}!out":"{BASE}","sha256:{a}!out":"{BASE}-2","sha256:{a}!dev":"{BASE}"}},
                "id":"sha256:{}!out","outPath":"{BASE}","signatures":["{}","bad"]}}"#,
            "7b".repeat(32),
            signature("k", 1)
        )
    }

    #[test]
    fn old_and_new_json_are_read_alike() {
        let id = hashed("7b");
        for json in [whole(), format!(r#"{{"outPath":"{BASE}"}}"#)] {
            assert_eq!(read(&json, &id).unwrap().path.base_name(), BASE);
        }
    }

    #[test]
    fn what_is_not_a_realisation_of_the_output_is_refused() {
        assert!(read(&whole(), &hashed("7b")).is_ok());
        assert!(read(&whole(), &hashed("7c")).is_err(), "of another output");
        for bad in [
            r#"{"outPath":"/nix/store/x"}"#.to_owned(),
            "[]".to_owned(),
            whole().replace("!dev", "dev"),
            whole().replace("-2\"", "/2\""),
            whole().replace("{\"sha", "[\"sha"),
        ] {
            assert!(read(&bad, &hashed("7b")).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_old_form_is_flat_and_signed_without_its_signatures() {
        let id = hashed("7b");
        let realisation = read(&whole(), &id).unwrap();
        let (a, b, id_hex) = ("0a".repeat(32), "0b".repeat(32), "7b".repeat(32));
        let signed = format!(
            r#"{{"dependentRealisations":{{"sha256:{a}!dev":"{BASE}","sha256:{a}!out":"{BASE}-2",{}}},{}}}"#,
            format_args!(r#""sha256:{b}!out":"{BASE}""#),
            format_args!(r#""id":"sha256:{id_hex}!out","outPath":"{BASE}""#)
        );
        let without = format!(r#"{{"dependentRealisations":{{}},"id":"sha256:{id_hex}!out","outPath":"{BASE}"}}"#);
        assert_eq!(realisation.fingerprints(&id), [signed.clone(), without.clone()]);
        let independent = Realisation { dependencies: BTreeMap::new(), ..realisation.clone() };
        assert_eq!(independent.fingerprints(&id), [without]);
        let (own, daemons) = (signature("own", 2), signature("k", 1));
        assert_eq!(
            realisation.to_json(&id, vec![own.clone()]),
            format!(r#"{},"signatures":["{own}","{daemons}"]}}"#, signed.strip_suffix('}').unwrap())
        );
        let ours = signature("k", 3);
        let json = realisation.to_json(&id, vec![ours.clone()]);
        assert!(
            json.ends_with(&format!(r#""signatures":["{ours}"]}}"#)),
            "the only one of its name is our own: {json}"
        );
    }

    #[test]
    fn the_new_form_is_the_value_alone_and_signed_with_its_key() {
        let output = DerivationOutput::Path(StorePath::from_base_name(DRV).unwrap(), OutputName::new("out").unwrap());
        let path = StorePath::from_base_name(BASE).unwrap();
        let realisation = Realisation {
            path,
            dependencies: BTreeMap::new(),
            signatures: vec![signature("k", 1), signature("\"", 2)],
        };
        assert_eq!(
            realisation.fingerprints(&output),
            [format!(r#"{{"key":{{"drvPath":"{DRV}","outputName":"out"}},"value":{{"outPath":"{BASE}"}}}}"#)]
        );
        let base64 = |byte| data_encoding::BASE64.encode(&[byte; 64]);
        assert_eq!(
            realisation.to_json(&output, Vec::new()),
            format!(
                r#"{{"outPath":"{BASE}","signatures":[{{"keyName":"k","sig":"{}"}},{{"keyName":"\"","sig":"{}"}}]}}"#,
                base64(1),
                base64(2)
            )
        );
    }
}
