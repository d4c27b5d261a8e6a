//! The policy in use, which a reload replaces.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::credentials::Credentials;
use super::denied::Denied;
use super::error::AccessError;
use super::granted::Granted;
use super::policy::Policy;
use crate::config::Config;
use crate::metrics::Metrics;

/// Decides who a client is, and what it may do.
pub(crate) struct Access {
    policy: ArcSwap<Policy>,
    metrics: Arc<Metrics>,
}

impl Access {
    /// Reads what the configuration names; `None` if it does not limit access.
    pub(crate) fn load(config: &Config, metrics: &Arc<Metrics>) -> Result<Option<Self>, AccessError> {
        let Some(access) = &config.access else { return Ok(None) };
        let policy = ArcSwap::from_pointee(Policy::load(access, config, metrics, None)?);
        Ok(Some(Self { policy, metrics: Arc::clone(metrics) }))
    }

    /// Returns the number of users.
    #[must_use]
    pub(crate) fn users(&self) -> usize {
        self.policy.load().users()
    }

    /// Starts the tasks that fetch keys. Must be called in a runtime.
    pub(crate) fn start(&self) {
        self.policy.load().start(&self.metrics);
    }

    /// Reads it again, and uses it for all later requests. On an error the old policy stays in use, as a whole. Must be called in a
    /// runtime.
    pub(crate) fn reload(&self, config: &Config) -> Result<(), AccessError> {
        let Some(access) = &config.access else { return Ok(()) };
        let policy = Policy::load(access, config, &self.metrics, Some(&self.policy.load()))?;
        policy.start(&self.metrics);
        self.policy.store(Arc::new(policy));
        Ok(())
    }

    /// Returns who a client is, and its rights. `authorization` is the header's value, `certificate` the verified name of the
    /// connection, `address` that of the client, if it is known.
    ///
    /// A password may take a while to verify; dropping the future gives up.
    pub(crate) async fn authorize(
        &self,
        authorization: Option<&[u8]>,
        certificate: Option<&Arc<str>>,
        address: Option<IpAddr>,
    ) -> Result<Arc<Granted>, Denied> {
        let credentials = authorization.map(Credentials::parse).transpose()?;
        let policy = self.policy.load_full();
        policy.authorize(credentials, certificate, address).await
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Access")
    }
}
