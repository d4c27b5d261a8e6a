//! Signature algorithms of tokens (RFC 7518, RFC 8037).

/// Signature algorithm of a token, and of the key that verifies it.
///
/// Others have no value: unsecured tokens, shared secrets, which a public key must never be taken for, and algorithms that
/// issuers do not use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Returns the algorithm of an `alg` member.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            // RFC 9864 has the second name.
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            _ => None,
        }
    }
}
