//! Reasons for which a token is refused.

/// Reason for which a token is refused. Its text is for the person who sent the token, and shows nothing of it.
///
/// In the order of the checks, so that of two configured issuers the greater error is that of the one which fits better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum TokenError {
    /// It is longer than any token should be.
    #[error("the token is longer than 16 KiB")]
    TooLong,
    /// It is no signed token.
    #[error("the token is not a signed JWT: {0}")]
    Malformed(&'static str),
    /// It is signed by an algorithm that is not supported, or not at all.
    #[error("the token is not signed by RS256, ES256 or EdDSA")]
    Algorithm,
    /// No configured issuer has its `iss`.
    #[error("the token is of an issuer that is not configured here")]
    Issuer,
    /// It has expired.
    #[error("the token has expired: request a new one")]
    Expired,
    /// It is not valid yet.
    #[error("the token is not valid yet: compare the clocks of its issuer and of this cache")]
    NotYetValid,
    /// The issuer has no key with its `kid`, or none of its algorithm.
    #[error("the token is signed with a key that its issuer does not publish")]
    UnknownKey,
    /// It names no key, and its issuer has too many to try.
    #[error("the token does not say which of its issuer's keys signed it")]
    AmbiguousKey,
    /// The key that it names is for another algorithm.
    #[error("the token is signed by another algorithm than that of the key it names")]
    KeyAlgorithm,
    /// The signature is wrong.
    #[error("the token's signature is wrong")]
    Signature,
    /// It is for another audience.
    #[error("the token is for another audience: request one for the audience that this cache expects")]
    Audience,
    /// It has no usable name of its principal.
    #[error("the token lacks the claim that this cache takes the name from")]
    Name,
    /// The keys of its issuer are not known, or not as new as the token. Passes by waiting.
    #[error("the keys of the token's issuer are not known yet: try again in {retry_after} seconds")]
    KeysPending {
        /// Seconds until the keys are probably there.
        retry_after: u32,
    },
}
