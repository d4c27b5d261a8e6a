//! Access keys of object stores, from variables or from a file. No output of this module has a secret.

use std::ffi::{OsStr, OsString};
use std::fmt;

/// Names of the three values, in variables and in files, where they may be in lower case.
const ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
const TOKEN: &str = "AWS_SESSION_TOKEN";
/// Section of a file that is read; keys before any section are too.
const SECTION: &str = "[default]";
/// Longest value, in bytes: session tokens have up to a few kilobytes.
const MAX_VALUE: usize = 16 << 10;

/// Variables with the usual names for object stores. `Debug` shows none of them.
#[derive(Clone, Default)]
pub struct AwsVariables {
    /// `AWS_ACCESS_KEY_ID`.
    pub id: Option<OsString>,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret: Option<OsString>,
    /// `AWS_SESSION_TOKEN`.
    pub token: Option<OsString>,
    /// `AWS_SHARED_CREDENTIALS_FILE`: a file with an access key.
    pub shared_file: Option<OsString>,
    /// `AWS_REGION`, or else `AWS_DEFAULT_REGION`.
    pub region: Option<OsString>,
    /// `AWS_ENDPOINT_URL_S3`, or else `AWS_ENDPOINT_URL`.
    pub endpoint_url: Option<OsString>,
}

impl AwsVariables {
    /// Captures the variables of this process. An empty one counts as unset.
    pub(super) fn capture() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            id: variable(ID),
            secret: variable(SECRET),
            token: variable(TOKEN),
            shared_file: variable("AWS_SHARED_CREDENTIALS_FILE"),
            region: variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")),
            endpoint_url: variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL")),
        }
    }
}

impl fmt::Debug for AwsVariables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AwsVariables")
    }
}

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Returns the text.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Credentials of a user of an object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// Access key ID, which names the user.
    pub id: Box<str>,
    /// Secret access key.
    pub secret: Secret,
    /// Session token of temporary credentials.
    pub token: Option<Secret>,
}

/// Error of a text without an access key. It never contains the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccessKeyError {
    /// A line is not `NAME=VALUE`. Holds its number, from one.
    #[error("line {0} is not NAME=VALUE")]
    Line(usize),
    /// A value is missing.
    #[error("there is no {0}")]
    Missing(&'static str),
    /// A value is empty, too long, or has characters that no access key has.
    #[error("the value of {0} is malformed")]
    Malformed(&'static str),
}

impl AccessKey {
    /// Parses `NAME=VALUE` lines, such as those of an environment file and of `~/.aws/credentials`, of which only `[default]`
    /// is read. Other names are ignored.
    pub fn parse(text: &str) -> Result<Self, AccessKeyError> {
        let (mut id, mut secret, mut token) = (None, None, None);
        let mut is_read = true;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.starts_with('[') {
                is_read = line == SECTION;
            }
            if !is_read || line.is_empty() || line.starts_with(['#', ';', '[']) {
                continue;
            }
            let (name, value) = line.split_once('=').ok_or(AccessKeyError::Line(number + 1))?;
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_uppercase().as_str() {
                ID => id = Some(value),
                SECRET => secret = Some(value),
                TOKEN => token = Some(value),
                _ => {}
            }
        }
        Self::from_values(id, secret, token)
    }

    /// Takes the values of the variables; `None` if none of the first two is set.
    pub(super) fn from_variables(variables: &AwsVariables) -> Option<Result<Self, AccessKeyError>> {
        let values = [(&variables.id, ID), (&variables.secret, SECRET), (&variables.token, TOKEN)];
        let [id, secret, token] = values
            .map(|(value, name)| Some(value.as_deref().map(OsStr::to_str)?.ok_or(AccessKeyError::Malformed(name))));
        if id.is_none() && secret.is_none() {
            return None;
        }
        let values = || Self::from_values(id.transpose()?, secret.transpose()?, token.transpose()?);
        Some(values())
    }

    fn from_values(id: Option<&str>, secret: Option<&str>, token: Option<&str>) -> Result<Self, AccessKeyError> {
        let checked = |value: &str, name| {
            let is_plain =
                !value.is_empty() && value.len() <= MAX_VALUE && value.bytes().all(|byte| byte.is_ascii_graphic());
            if is_plain { Ok(Box::from(value)) } else { Err(AccessKeyError::Malformed(name)) }
        };
        let required = |value: Option<&str>, name| checked(value.ok_or(AccessKeyError::Missing(name))?, name);
        Ok(Self {
            id: required(id, ID)?,
            secret: Secret(required(secret, SECRET)?),
            token: token
                .filter(|token| !token.is_empty())
                .map(|token| checked(token, TOKEN).map(Secret))
                .transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_files_and_those_of_aws_are_read() {
        let plain = AccessKey::parse("AWS_ACCESS_KEY_ID=id\nAWS_SECRET_ACCESS_KEY=se/cr+et=\n").unwrap();
        let aws = "# comment\n[other]\naws_access_key_id = no\nx\n[default]\naws_access_key_id = id\n\
                   aws_secret_access_key = \"se/cr+et=\"\nregion = x\n";
        assert_eq!(AccessKey::parse(aws), Ok(plain.clone()));
        assert_eq!((&*plain.id, plain.secret.reveal(), &plain.token), ("id", "se/cr+et=", &None));
        let session = AccessKey::parse("aws_access_key_id=i\naws_secret_access_key=s\naws_session_token=t").unwrap();
        assert_eq!(session.token.unwrap().reveal(), "t");
        assert!(!format!("{plain:?}").contains("cr+et"));
    }

    #[test]
    fn what_is_no_key_is_an_error_without_the_text() {
        for (text, error) in [
            ("", AccessKeyError::Missing(ID)),
            ("secret\n", AccessKeyError::Line(1)),
            ("AWS_ACCESS_KEY_ID=i", AccessKeyError::Missing(SECRET)),
            ("AWS_ACCESS_KEY_ID=\nAWS_SECRET_ACCESS_KEY=s", AccessKeyError::Malformed(ID)),
            ("AWS_ACCESS_KEY_ID=i\nAWS_SECRET_ACCESS_KEY=s s", AccessKeyError::Malformed(SECRET)),
        ] {
            assert_eq!(AccessKey::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn variables_count_if_one_of_them_is_set() {
        let mut variables = AwsVariables::default();
        assert_eq!(AccessKey::from_variables(&variables), None);
        variables.id = Some("i".into());
        assert_eq!(AccessKey::from_variables(&variables), Some(Err(AccessKeyError::Missing(SECRET))));
        variables.secret = Some("hidden".into());
        assert_eq!(AccessKey::from_variables(&variables).unwrap().unwrap().secret.reveal(), "hidden");
        assert!(!format!("{variables:?}").contains("hidden"));
    }
}
