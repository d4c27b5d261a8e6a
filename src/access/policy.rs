//! Policy: what the configuration and its files say about access, at one moment.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::credentials::Credentials;
use super::denied::Denied;
use super::error::AccessError;
use super::granted::{Granted, Visible};
use super::jwt::{JwtVerifier, is_token};
use super::principal::Principal;
use super::users::{PasswordCheck, Users, UsersFile};
use crate::config::{AccessConfig, Config, Grant, Rights};
use crate::metrics::Metrics;
use crate::sync::Mutex;

/// Limit of principals whose rights are remembered. Only verified names are, so that clients cannot fill it.
const MAX_REMEMBERED: usize = 4096;

/// Grants, and the verifiers of credentials.
pub(super) struct Policy {
    jwt: JwtVerifier,
    /// `None` without a users file.
    users: Option<Users>,
    grants: Vec<Grant>,
    of_anybody: Sum,
    anonymous: Arc<Granted>,
    remembered: Mutex<HashMap<Principal, Arc<Granted>>>,
}

impl Policy {
    /// Reads the files that the configuration names. Takes over what `previous` knows. Warns in the log of a users file that others
    /// can read.
    pub(super) fn load(
        access: &AccessConfig,
        config: &Config,
        metrics: &Arc<Metrics>,
        previous: Option<&Self>,
    ) -> Result<Self, AccessError> {
        let previous_jwt = previous.map(|previous| &previous.jwt);
        let jwt = JwtVerifier::load(&access.jwt, config.state_dir.as_deref(), previous_jwt)?;
        let previous_users = previous.and_then(|previous| previous.users.as_ref());
        let users = match &access.users_file {
            Some(path) => {
                Some(load_users(&UsersFile::new(path, &config.store_directories())?, metrics, previous_users)?)
            }
            None => None,
        };
        let mut of_anybody = Sum { rights: access.anonymous, ..Sum::default() };
        of_anybody.sees_all = access.anonymous.contains(Rights::READ);
        of_anybody.add_all(&access.grants, &Principal::Anonymous);
        let anonymous = Arc::new(of_anybody.clone().granted(Principal::Anonymous));
        let grants = access.grants.clone();
        Ok(Self { jwt, users, grants, of_anybody, anonymous, remembered: Mutex::default() })
    }

    /// Returns the number of users.
    pub(super) fn users(&self) -> usize {
        self.users.as_ref().map_or(0, Users::len)
    }

    /// Starts the tasks that fetch keys. Must be called in a runtime.
    pub(super) fn start(&self, metrics: &Metrics) {
        self.jwt.start(&metrics.token_keys);
    }

    /// Returns who a client is, and its rights. What it proves by a certificate and by credentials adds up; the credentials name
    /// it.
    pub(super) async fn authorize(
        &self,
        credentials: Option<Credentials>,
        certificate: Option<&Arc<str>>,
        address: Option<IpAddr>,
    ) -> Result<Arc<Granted>, Denied> {
        let certificate = certificate.map(|name| Principal::Certificate(Arc::clone(name)));
        let named = match credentials {
            None => None,
            Some(Credentials::Bearer(token)) => Some(self.verify_token(&token)?),
            Some(Credentials::Basic { password, .. }) if is_token(&password) => Some(self.verify_token(&password)?),
            Some(Credentials::Basic { name, password }) => Some(self.verify_password(&name, &password, address).await?),
        };
        Ok(match (named, certificate) {
            (None, None) => Arc::clone(&self.anonymous),
            (Some(one), None) | (None, Some(one)) => self.rights_of(one),
            (Some(named), Some(certificate)) => {
                let mut sum = self.of_anybody.clone();
                sum.add_all(&self.grants, &certificate);
                sum.add_all(&self.grants, &named);
                Arc::new(sum.granted(named))
            }
        })
    }

    fn verify_token(&self, token: &str) -> Result<Principal, Denied> {
        self.jwt.verify(token).map(Principal::Jwt).map_err(Denied::Token)
    }

    async fn verify_password(&self, name: &str, password: &str, address: Option<IpAddr>) -> Result<Principal, Denied> {
        let users = self.users.as_ref().ok_or(Denied::WrongPassword)?;
        match users.verify(name, password.as_bytes(), address).await {
            PasswordCheck::Right(name) => Ok(Principal::User(name)),
            PasswordCheck::Wrong => Err(Denied::WrongPassword),
            PasswordCheck::Refused => Err(Denied::Throttled),
        }
    }

    fn rights_of(&self, principal: Principal) -> Arc<Granted> {
        if let Some(known) = self.remembered.lock().get(&principal) {
            return Arc::clone(known);
        }
        let mut sum = self.of_anybody.clone();
        sum.add_all(&self.grants, &principal);
        let granted = Arc::new(sum.granted(principal.clone()));
        let mut remembered = self.remembered.lock();
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(principal, Arc::clone(&granted));
        granted
    }
}

fn load_users(file: &UsersFile, metrics: &Arc<Metrics>, previous: Option<&Users>) -> Result<Users, AccessError> {
    let (users, warning) = match previous {
        Some(previous) => previous.reload(file)?,
        None => Users::load(file, metrics)?,
    };
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
    Ok(users)
}

/// Sum of grants.
#[derive(Debug, Clone, Default)]
struct Sum {
    rights: Rights,
    sees_all: bool,
    views: Vec<Arc<str>>,
}

impl Sum {
    fn add_all(&mut self, grants: &[Grant], principal: &Principal) {
        let matches =
            |grant: &&Grant| grant.who.iter().any(|pattern| pattern.matches(principal.class(), principal.name()));
        grants.iter().filter(matches).for_each(|grant| self.add(grant));
    }

    fn add(&mut self, grant: &Grant) {
        self.rights = self.rights.union(grant.may);
        // The view of a grant without the right to read shows nothing.
        if grant.may.contains(Rights::READ) {
            match grant.view.as_deref() {
                None => self.sees_all = true,
                Some(view) if self.views.iter().any(|known| **known == *view) => {}
                Some(view) => self.views.push(view.into()),
            }
        }
    }

    fn granted(self, principal: Principal) -> Granted {
        let views = if self.sees_all { Visible::All } else { Visible::Views(self.views.into()) };
        Granted { principal, rights: self.rights, views }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(grants: &[(&str, &[Rights], Option<&str>)], anonymous: Rights, principal: &Principal) -> Granted {
        let grant = |(who, may, view): &(&str, &[Rights], Option<&str>)| Grant {
            who: vec![who.parse().unwrap()],
            may: may.iter().copied().fold(Rights::NONE, Rights::union),
            view: view.map(str::to_owned),
        };
        let grants: Vec<_> = grants.iter().map(grant).collect();
        let mut sum = Sum { rights: anonymous, sees_all: anonymous.contains(Rights::READ), views: Vec::new() };
        sum.add_all(&grants, &Principal::Anonymous);
        sum.add_all(&grants, principal);
        sum.granted(principal.clone())
    }

    fn views(names: &[&str]) -> Visible {
        Visible::Views(names.iter().map(|name| Arc::from(*name)).collect())
    }

    #[test]
    fn grants_add_up_and_never_take_away() {
        let alice = Principal::User("alice".into());
        let (read, push, metrics) = (&[Rights::READ][..], &[Rights::PUSH][..], &[Rights::METRICS][..]);
        let grants = [
            ("anonymous", read, Some("public")),
            ("user:alice", read, Some("team-a")),
            ("user:a*", push, None),
            ("user:bob", metrics, None),
            ("cert:alice", metrics, None),
        ];
        let found = granted(&grants, Rights::NONE, &alice);
        assert_eq!((found.rights, &found.views), (Rights::READ.union(Rights::PUSH), &views(&["public", "team-a"])));
        let found = granted(&grants, Rights::NONE, &Principal::Anonymous);
        assert_eq!((found.rights, found.views), (Rights::READ, views(&["public"])));
        assert_eq!(granted(&grants, Rights::READ, &alice).views, Visible::All);
        assert_eq!(granted(&[("user:*", read, None), grants[1]], Rights::NONE, &alice).views, Visible::All);
    }

    #[test]
    fn a_right_other_than_to_read_shows_nothing() {
        let push = &[Rights::PUSH][..];
        let found = granted(&[("user:*", push, Some("a"))], Rights::METRICS, &Principal::User("x".into()));
        assert_eq!((found.rights, found.views), (Rights::PUSH.union(Rights::METRICS), views(&[])));
    }
}
