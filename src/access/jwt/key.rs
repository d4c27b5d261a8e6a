//! Public keys of issuers: JSON Web Keys (RFC 7517, RFC 7518 section 6, RFC 8037), and signatures by them.

use data_encoding::BASE64URL_NOPAD;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256};
use ring::signature::{RsaPublicKeyComponents, UnparsedPublicKey};
use serde_json::{Map, Value};

use super::algorithm::Algorithm;

/// Sizes of RSA keys, in bits: what ring verifies.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A public key with the algorithm that it is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Name by which tokens refer to it.
    pub(super) kid: Option<String>,
    material: Material,
}

#[derive(Debug, PartialEq, Eq)]
enum Material {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// An uncompressed point.
    P256([u8; 65]),
    Ed25519([u8; 32]),
}

impl Key {
    /// Returns the key of a JWK, or why it cannot verify tokens.
    pub(super) fn from_jwk(jwk: &Map<String, Value>) -> Result<Self, &'static str> {
        let text = |member: &str| jwk.get(member).and_then(Value::as_str);
        let bytes = |member: &str| text(member).and_then(|text| BASE64URL_NOPAD.decode(text.as_bytes()).ok());
        if jwk.contains_key("d") {
            return Err("it is a private key");
        }
        let signs = jwk.get("use").is_none_or(|it| it == "sig");
        let verifies =
            jwk.get("key_ops").is_none_or(|it| it.as_array().is_some_and(|it| it.contains(&"verify".into())));
        if !signs || !verifies {
            return Err("it is not for signatures");
        }
        let material = match text("kty") {
            Some("RSA") => rsa(bytes("n"), bytes("e"))?,
            Some("EC") if text("crv") == Some("P-256") => p256(bytes("x"), bytes("y"))?,
            Some("OKP") if text("crv") == Some("Ed25519") => {
                let point = bytes("x").and_then(|bytes| bytes.try_into().ok());
                Material::Ed25519(point.ok_or("its x is not the 32 bytes of an Ed25519 key")?)
            }
            Some("EC" | "OKP") => return Err("its curve is neither P-256 nor Ed25519"),
            _ => return Err("its type is none of RSA, EC and OKP"),
        };
        let kid = match jwk.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err("its kid is not a string"),
        };
        let key = Self { kid, material };
        let named = jwk.get("alg").map(|it| it.as_str().and_then(Algorithm::from_name));
        if named.is_some_and(|named| named != Some(key.algorithm())) {
            return Err("it is for another algorithm than RS256, ES256 and EdDSA");
        }
        Ok(key)
    }

    /// Returns the one algorithm that the key is for.
    pub(super) const fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Rsa { .. } => Algorithm::Rs256,
            Material::P256(_) => Algorithm::Es256,
            Material::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    /// Returns whether this is the signature of these bytes by the key.
    pub(super) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Rsa { modulus, exponent } => {
                let key = RsaPublicKeyComponents { n: modulus.as_slice(), e: exponent.as_slice() };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature)
            }
            Material::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature),
            Material::Ed25519(point) => UnparsedPublicKey::new(&ED25519, point).verify(signed, signature),
        }
        .is_ok()
    }
}

fn rsa(modulus: Option<Vec<u8>>, exponent: Option<Vec<u8>>) -> Result<Material, &'static str> {
    let (Some(modulus), Some(exponent)) = (modulus, exponent) else { return Err("its n or e is not base64url") };
    // Some issuers put a zero byte before the number, which RFC 7518 section 6.3.1.1 forbids and ring refuses.
    let [modulus, exponent] = [modulus, exponent].map(|number| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        number[zeros..].to_vec()
    });
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |first| first.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err("it is an RSA key of less than 2048 or more than 8192 bits");
    }
    if exponent.is_empty() {
        return Err("its e is 0");
    }
    Ok(Material::Rsa { modulus, exponent })
}

fn p256(x: Option<Vec<u8>>, y: Option<Vec<u8>>) -> Result<Material, &'static str> {
    let (Some(x), Some(y)) = (x, y) else { return Err("its x or y is not base64url") };
    if x.len() != 32 || y.len() != 32 {
        return Err("its x or y does not have 32 bytes");
    }
    // SEC 1: an uncompressed point.
    let mut point = [4; 65];
    point[1..33].copy_from_slice(&x);
    point[33..].copy_from_slice(&y);
    Ok(Material::P256(point))
}
