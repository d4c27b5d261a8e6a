//! Realisations: store paths of the outputs of content-addressed derivations.
//!
//! Parses and renders their JSON, which protocol 1.31 and later and binary caches use, and renders the fingerprints that
//! are signed. [`QueryRealisation`](crate::operation::QueryRealisation) asks nix-daemon for one.
//!
//! Source: Nix `src/libstore/realisation.cc`, up to 2.34 and from 2.35 on.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::derivation_output::{DerivationOutput, HashedOutput};
use crate::signature::Signature;
use crate::signature_set::{KnownKeys, merge_signatures};
use crate::store_path::StorePath;
use crate::wire::{DecodeError, DecodeErrorKind};

/// Store path of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realisation {
    /// Store path of the output.
    pub path: StorePath,
    /// Realisations that this one was built with, which clients up to Nix 2.33 query as well. Only nix-daemon up to Nix
    /// 2.33 sends them, by hash.
    pub dependencies: BTreeMap<HashedOutput, StorePath>,
    /// Well-formed signatures; none before protocol 1.31, which does not transmit them.
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
    /// Parses the JSON of nix-daemon about `output`. A malformed dependency is an error, since signatures cover it.
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

    /// Returns the texts to sign for this realisation of `output`: JSON without white space, with sorted keys.
    ///
    /// For a [`HashedOutput`] with dependencies these are two texts, the second one without dependencies, which Nix 2.34
    /// drops before it verifies signatures.
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

    /// Renders the JSON of this realisation of `output` in a binary cache, with a cache's own signatures first. Omits
    /// signatures of nix-daemon under the names of own keys.
    #[must_use]
    pub fn to_json(&self, output: &DerivationOutput, own_signatures: Vec<Signature>) -> String {
        let signatures = merge_signatures(own_signatures, &self.signatures);
        let (mut json, signatures): (Value, Vec<Value>) = match output {
            DerivationOutput::Hashed(id) => {
                (self.flat(id), signatures.iter().map(|signature| signature.to_string().into()).collect())
            }
            // Only the URL names the output.
            DerivationOutput::Path(..) => (
                json!({ "outPath": self.path.base_name() }),
                signatures.iter().map(|it| json!({ "keyName": it.key().as_str(), "sig": it.to_base64() })).collect(),
            ),
        };
        json["signatures"] = signatures.into();
        json.to_string()
    }

    /// Returns all except the signatures, in the form up to Nix 2.34.
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

    /// Dependencies out of order.
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
