//! Verification of names and passwords.
//!
//! - bcrypt runs on blocking threads, on few at a time: one check for each client, and clients in turn. So a flood of wrong
//!   passwords takes at most half of the processors, and nobody's turn.
//! - A right password is remembered ([`super::remembered`]); checks of the same name and password at the same time are one.
//! - A wrong password and an unknown name take the same work: an unknown name is verified against a hash of no password.
//! - Checks of an address with failures wait ([`super::failures`]), a limited number of them. A password that was right before
//!   neither waits nor counts, so whoever has logged in is not kept out by others at the same address.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::thread::available_parallelism;

use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;
use tokio::time::sleep_until;

use super::error::UsersError;
use super::failures::Failures;
use super::file::UsersFile;
use super::htpasswd::Htpasswd;
use super::password_hash::{COSTS, PasswordHash, is_possible};
use super::remembered::{Memory, Remembered, Tag, TagKey};
use crate::fairness::{ClientId, FairSemaphore, Permit};
use crate::metrics::{Metrics, PasswordResult};
use crate::sync::{LogThrottle, Mutex};

/// Maximum number of checks of one client that wait; further ones are refused.
const MAX_WAITING: usize = 32;

/// Maximum number of checks that wait; further ones are refused. It bounds memory where there are very many clients.
const MAX_WAITING_IN_ALL: usize = 1024;

/// Outcome of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PasswordCheck {
    /// The password is that of the user with this name.
    Right(Arc<str>),
    /// There is no such user, or the password is wrong.
    Wrong,
    /// Too many checks of this client wait already, because of wrong passwords. Trying again later helps.
    Refused,
}

/// Users of a users file, and what is known of their passwords.
pub(crate) struct Users {
    by_name: HashMap<Arc<str>, Arc<User>>,
    /// User of unknown names.
    nobody: Arc<User>,
    /// Cost whose work every wrong password takes: the highest in the file.
    max_cost: u32,
    checks: Arc<Checks>,
}

struct User {
    name: Arc<str>,
    hash: PasswordHash,
    remembered: Remembered,
}

/// Whether the password is right, once that is known; `None` if too many checks wait.
type Outcome = OnceCell<Option<bool>>;

/// State that outlives a reload.
struct Checks {
    key: TagKey,
    failures: Failures,
    permits: FairSemaphore,
    running: Mutex<HashMap<(ClientId, Tag), Weak<Outcome>>>,
    waiting: Mutex<HashMap<ClientId, usize>>,
    metrics: Arc<Metrics>,
    log: LogThrottle<()>,
}

impl Users {
    /// Reads a users file. Returns its users, and a warning for the log if others can read the file.
    pub(crate) fn load(file: &UsersFile, metrics: &Arc<Metrics>) -> Result<(Self, Option<String>), UsersError> {
        let (users, warning) = file.read()?;
        let key = TagKey::new().map_err(|_| UsersError::NoRandomNumbers)?;
        let threads = available_parallelism().map_or(1, |number| (number.get() / 2).max(1));
        let permits = FairSemaphore::new("password checks", threads, metrics);
        permits.resize(threads, 1);
        let (running, waiting) = (Mutex::default(), Mutex::default());
        let (failures, metrics, log) = (Failures::new(), Arc::clone(metrics), LogThrottle::default());
        let checks = Checks { key, failures, permits, running, waiting, metrics, log };
        Ok((Self::new(&users, Arc::new(checks), &HashMap::new())?, warning))
    }

    /// Reads a users file anew. What is known of passwords stays, for users whose hash is unchanged.
    pub(crate) fn reload(&self, file: &UsersFile) -> Result<(Self, Option<String>), UsersError> {
        let (users, warning) = file.read()?;
        Ok((Self::new(&users, Arc::clone(&self.checks), &self.by_name)?, warning))
    }

    fn new(users: &Htpasswd, checks: Arc<Checks>, old: &HashMap<Arc<str>, Arc<User>>) -> Result<Self, UsersError> {
        let max_cost = users.users().map(|(_, hash)| hash.cost()).max().unwrap_or(*COSTS.start());
        let by_name = users.users().map(|(name, hash)| {
            let name = name.shared();
            let same = |user: &&Arc<User>| user.hash.identity().eq(hash.identity()) && user.hash.cost() == hash.cost();
            let user = old.get(name).filter(same).cloned();
            (Arc::clone(name), user.unwrap_or_else(|| Arc::new(User::new(Arc::clone(name), hash.clone()))))
        });
        let unknown = PasswordHash::unknown(max_cost).map_err(|_| UsersError::NoRandomNumbers)?;
        let nobody = Arc::new(User::new("".into(), unknown));
        Ok(Self { by_name: by_name.collect(), nobody, max_cost, checks })
    }

    /// Returns the number of users.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Verifies a name and a password of a client at `address`, which is `None` if it is not known.
    ///
    /// A password that was right lately takes about a microsecond. Dropping the future leaves the queue; a check that has begun
    /// ends on its thread, and counts.
    pub(crate) async fn verify(&self, name: &str, password: &[u8], address: Option<IpAddr>) -> PasswordCheck {
        let client = address.map_or(ClientId::Proxy, ClientId::from_addr);
        let user = self.by_name.get(name).unwrap_or(&self.nobody);
        let checks = &self.checks;
        if !is_possible(password) {
            // At once for every name, so nothing is learnt of any.
            checks.count_wrong(client);
            return PasswordCheck::Wrong;
        }
        let tag = checks.key.tag(name, &user.hash, password);
        let memory = user.remembered.recall(&tag);
        if memory == Memory::Fresh {
            checks.metrics.passwords.record(PasswordResult::Remembered);
            return PasswordCheck::Right(Arc::clone(&user.name));
        }
        let check = Check { checks, user, tag, client, max_cost: self.max_cost, is_slowed: memory == Memory::None };
        match check.shared(password).await {
            Some(true) => PasswordCheck::Right(Arc::clone(&user.name)),
            Some(false) => PasswordCheck::Wrong,
            None => PasswordCheck::Refused,
        }
    }
}

impl User {
    fn new(name: Arc<str>, hash: PasswordHash) -> Self {
        Self { name, hash, remembered: Remembered::default() }
    }
}

/// A check that bcrypt decides.
struct Check<'a> {
    checks: &'a Arc<Checks>,
    user: &'a Arc<User>,
    tag: Tag,
    client: ClientId,
    max_cost: u32,
    is_slowed: bool,
}

impl Check<'_> {
    /// Waits for the result of this check, or of one of the same client with the same name and password that runs already.
    /// Returns whether the password is right, or `None` if too many wait.
    async fn shared(&self, password: &[u8]) -> Option<bool> {
        let key = (self.client, self.tag);
        let cell = {
            let mut running = self.checks.running.lock();
            let cell = running.get(&key).and_then(Weak::upgrade).unwrap_or_default();
            running.insert(key, Arc::downgrade(&cell));
            cell
        };
        let place = Running { checks: self.checks, key, cell: Some(cell) };
        *place.cell.as_ref()?.get_or_init(|| self.run(password)).await
    }

    async fn run(&self, password: &[u8]) -> Option<bool> {
        // Guesses do not take the place of a password that was right before. There is one such for each user and client.
        let place = self.is_slowed.then(|| Waiting::enter(self.checks, self.client));
        if matches!(place, Some(None)) {
            self.checks.metrics.passwords.record(PasswordResult::Refused);
            return None;
        }
        let permit = self.permit().await;
        if self.user.remembered.recall(&self.tag) == Memory::Fresh {
            return Some(true);
        }
        let (checks, user) = (Arc::clone(self.checks), Arc::clone(self.user));
        let (tag, client, max_cost, password) = (self.tag, self.client, self.max_cost, password.to_vec());
        let check = move || {
            let is_right = user.hash.is_of(&password, max_cost);
            if is_right {
                user.remembered.remember(tag);
                checks.metrics.passwords.record(PasswordResult::Right);
            } else {
                checks.count_wrong(client);
            }
            // Only now: whoever waits for the permit has to see the failure.
            drop(permit);
            is_right
        };
        // It fails only if bcrypt panics, or while the runtime ends.
        Some(spawn_blocking(check).await.unwrap_or(false))
    }

    /// Waits for the turn of this client, and until its failures let it go on.
    async fn permit(&self) -> Permit {
        loop {
            let permit = self.checks.permits.acquire(self.client, 1).await;
            match self.checks.failures.pause_ends(self.client).filter(|_| self.is_slowed) {
                None => return permit,
                Some(end) => {
                    drop(permit);
                    sleep_until(end).await;
                }
            }
        }
    }
}

/// A place in the table of running checks, which the last one to leave clears.
struct Running<'a> {
    checks: &'a Checks,
    key: (ClientId, Tag),
    cell: Option<Arc<Outcome>>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut running = self.checks.running.lock();
        // Under the lock, so that of two who leave at once one sees that it is the last.
        drop(self.cell.take());
        if running.get(&self.key).is_some_and(|cell| cell.strong_count() == 0) {
            running.remove(&self.key);
        }
    }
}

/// A check that waits for bcrypt.
struct Waiting<'a> {
    checks: &'a Checks,
    client: ClientId,
}

impl<'a> Waiting<'a> {
    /// Counts a check, or returns `None` if too many wait.
    fn enter(checks: &'a Checks, client: ClientId) -> Option<Self> {
        let mut waiting = checks.waiting.lock();
        let all: usize = waiting.values().sum();
        let own = waiting.get(&client).copied().unwrap_or_default();
        let limit = if client.has_quota() { MAX_WAITING } else { MAX_WAITING_IN_ALL };
        if own >= limit || all >= MAX_WAITING_IN_ALL && own > 0 {
            return None;
        }
        waiting.insert(client, own + 1);
        drop(waiting);
        Some(Self { checks, client })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.checks.waiting.lock();
        if let Some(own) = waiting.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                waiting.remove(&self.client);
            }
        }
    }
}

impl Checks {
    fn count_wrong(&self, client: ClientId) {
        self.failures.record(client);
        self.metrics.passwords.record(PasswordResult::Wrong);
        // Not the name: people type passwords there.
        if let Some(suppressed) = self.log.admit(()) {
            tracing::warn!("refused a wrong name or password from {client}{suppressed}");
        }
    }
}
