//! The client that a request is for.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::client_id::ClientId;
use super::holder::{Holder, Usage};

/// The client that a request is for, and how fast it reads the response.
#[derive(Clone)]
pub(crate) struct Requester {
    client: ClientId,
    address: Option<IpAddr>,
    is_proxied: bool,
    certificate_name: Option<Arc<str>>,
    response: Arc<dyn Holder>,
}

impl Requester {
    /// Creates a requester that reads its response as `response` reports.
    #[must_use]
    pub(crate) const fn new(client: ClientId, response: Arc<dyn Holder>) -> Self {
        Self { client, address: None, is_proxied: false, certificate_name: None, response }
    }

    /// Creates the requester that is this server itself, which reads at once.
    #[must_use]
    pub(crate) fn server() -> Self {
        Self::new(ClientId::Server, Arc::new(ReadsAtOnce))
    }

    /// Sets the client's address, as far as it is known, and whether a trusted proxy forwarded the request.
    #[must_use]
    pub(crate) fn with_address(self, address: Option<IpAddr>, is_proxied: bool) -> Self {
        Self { address, is_proxied, ..self }
    }

    /// Sets the name in the client certificate of the connection, which was verified at its handshake.
    #[must_use]
    pub(crate) fn with_certificate_name(self, certificate_name: Option<Arc<str>>) -> Self {
        Self { certificate_name, ..self }
    }

    /// Returns the name in the verified client certificate of the connection, if it has one. It is never taken from a header, and
    /// never that of a trusted proxy.
    #[must_use]
    pub(crate) const fn certificate_name(&self) -> Option<&Arc<str>> {
        self.certificate_name.as_ref()
    }

    /// Returns the client's address, or `None` on a Unix socket.
    #[must_use]
    pub(crate) const fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Returns whether a trusted proxy forwarded the request, so that its headers can be believed.
    #[must_use]
    pub(crate) const fn is_proxied(&self) -> bool {
        self.is_proxied
    }

    /// Returns the client's identity for fair sharing.
    #[must_use]
    pub(crate) const fn client(&self) -> ClientId {
        self.client
    }

    /// Returns how the client reads the response at the time `now`.
    #[must_use]
    pub(crate) fn usage(&self, now: Instant) -> Usage {
        self.response.usage(now)
    }
}

impl fmt::Debug for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Requester({})", self.client)
    }
}

struct ReadsAtOnce;

impl Holder for ReadsAtOnce {
    fn usage(&self, _: Instant) -> Usage {
        Usage::Busy
    }

    fn reclaim(&self) -> bool {
        false
    }
}
