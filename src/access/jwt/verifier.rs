//! Verification of tokens: from a text of a client to the name of a principal.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::kept_file::read_key_set;
use super::key_set::KeySet;
use super::load_error::JwtError;
use super::principal_name::PrincipalName;
use super::remembered::{Remembered, TokenHash, Verified};
use super::remote::RemoteKeys;
use super::token::{MAX_TOKEN, Token};
use super::token_error::TokenError;
use super::url::JwksUrl;
use crate::config::{JwksSource, JwtConfig};
use crate::metrics::TokenKeyMetrics;

/// The configured issuers, their keys, and the tokens that were verified lately.
#[derive(Debug)]
pub(crate) struct JwtVerifier {
    issuers: Vec<Issuer>,
    remembered: Remembered,
}

#[derive(Debug)]
struct Issuer {
    /// The `iss` of its tokens.
    iss: String,
    audience: String,
    name: PrincipalName,
    keys: Keys,
}

#[derive(Debug)]
enum Keys {
    File(Arc<KeySet>),
    Remote(Arc<RemoteKeys>),
}

impl JwtVerifier {
    /// Reads the key sets of files, and takes over those of URLs from the verifier in use, so that a reload waits for nothing.
    pub(crate) fn load(
        configs: &[JwtConfig],
        state_dir: Option<&Path>,
        previous: Option<&Self>,
    ) -> Result<Self, JwtError> {
        let mut issuers: Vec<Issuer> = Vec::with_capacity(configs.len());
        for config in configs {
            let issuer = config.issuer.clone();
            let name =
                PrincipalName::parse(&config.name).map_err(|cause| JwtError::Name { issuer: issuer.clone(), cause })?;
            let keys = match &config.keys {
                JwksSource::Path(path) => Keys::File(Arc::new(read(&issuer, path)?)),
                JwksSource::Url(url) => {
                    let url = JwksUrl::parse(url).map_err(|cause| JwtError::Url { issuer: issuer.clone(), cause })?;
                    let known = previous.map_or(&[][..], |previous| &previous.issuers).iter().chain(&issuers);
                    let known = known.filter_map(Issuer::remote).find(|keys| *keys.url() == url).map(Arc::clone);
                    Keys::Remote(known.unwrap_or_else(|| Arc::new(RemoteKeys::new(url, state_dir))))
                }
            };
            issuers.push(Issuer { iss: issuer, audience: config.audience.clone(), name, keys });
        }
        Ok(Self { issuers, remembered: Remembered::default() })
    }

    /// Starts the tasks that fetch keys, one for each URL. Must be called in a runtime.
    pub(crate) fn start(&self, metrics: &TokenKeyMetrics) {
        self.issuers.iter().filter_map(Issuer::remote).for_each(|keys| keys.start(metrics));
    }

    /// Verifies a token, and returns the name of its principal.
    pub(crate) fn verify(&self, token: &str) -> Result<Arc<str>, TokenError> {
        // With a clock before 1970 no token is valid.
        self.verify_at(token, SystemTime::now().duration_since(UNIX_EPOCH).map_or(u64::MAX, |now| now.as_secs()))
    }

    /// Verifies a token in this second of Unix time.
    pub(super) fn verify_at(&self, token: &str, now: u64) -> Result<Arc<str>, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::TooLong);
        }
        let hash = TokenHash::of(token);
        if let Some(verified) = self.remembered.find(&hash) {
            let key_set = self.issuers.get(verified.issuer).and_then(Issuer::current).map(|keys| keys.id);
            if key_set == Some(verified.key_set) && now < verified.expiry {
                return Ok(verified.name);
            }
            self.remembered.remove(&hash);
        }
        let token = Token::parse(token)?;
        let mut error = TokenError::Issuer;
        for (position, issuer) in self.issuers.iter().enumerate().filter(|(_, it)| token.claims.is_of(&it.iss)) {
            match issuer.verify(&token, now) {
                Ok((name, key_set)) => {
                    let expiry = token.claims.expiry;
                    let verified = Verified { name: Arc::clone(&name), expiry, issuer: position, key_set };
                    self.remembered.insert(hash, verified);
                    return Ok(name);
                }
                Err(other) => error = error.max(other),
            }
        }
        Err(error)
    }
}

impl Issuer {
    fn remote(&self) -> Option<&Arc<RemoteKeys>> {
        match &self.keys {
            Keys::File(_) => None,
            Keys::Remote(keys) => Some(keys),
        }
    }

    fn current(&self) -> Option<Arc<KeySet>> {
        match &self.keys {
            Keys::File(keys) => Some(Arc::clone(keys)),
            Keys::Remote(keys) => keys.current(),
        }
    }

    /// Verifies a token of this issuer. Returns the name of its principal, and the key set that verified it.
    fn verify(&self, token: &Token<'_>, now: u64) -> Result<(Arc<str>, u64), TokenError> {
        // Before the signature, so that an old token never has keys fetched.
        token.claims.check_time(now)?;
        let unknown = || self.remote().map_or(TokenError::UnknownKey, |keys| keys.unknown_key());
        let keys = self.current().ok_or_else(unknown)?;
        token
            .verify_signature(&keys)
            .map_err(|error| if error == TokenError::UnknownKey { unknown() } else { error })?;
        token.claims.check_audience(&self.audience)?;
        Ok((self.name.of(&token.claims.all)?, keys.id))
    }
}

fn read(issuer: &str, path: &Path) -> Result<KeySet, JwtError> {
    let document = read_key_set(path).map_err(|cause| JwtError::Read {
        issuer: issuer.to_owned(),
        path: path.to_owned(),
        cause,
    })?;
    KeySet::parse(&document).map_err(|cause| JwtError::KeySet {
        issuer: issuer.to_owned(),
        path: path.to_owned(),
        cause,
    })
}
