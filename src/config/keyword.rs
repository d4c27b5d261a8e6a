//! Keys whose values are keywords.

/// Error of a text that is not a keyword of its key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected {expected}, found {found:?}")]
pub struct KeywordError {
    pub(super) expected: &'static str,
    pub(super) found: String,
}

/// Implements `FromStr` for an enum: the list of its keywords for messages, then each keyword with its variant.
macro_rules! keywords {
    ($name:ident, $expected:literal, $($keyword:literal => $variant:ident),+) => {
        impl std::str::FromStr for $name {
            type Err = super::keyword::KeywordError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($keyword => Ok(Self::$variant),)+
                    _ => Err(super::keyword::KeywordError { expected: $expected, found: text.to_owned() }),
                }
            }
        }
    };
}
pub(super) use keywords;
