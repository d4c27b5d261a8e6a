//! Whoever reads a response.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::{Holder, Usage};
use crate::fairness::ClientId;

/// The client that a request is for, and how fast it reads the response.
#[derive(Clone)]
pub struct Reader {
    client: ClientId,
    address: Option<IpAddr>,
    is_proxied: bool,
    response: Arc<dyn Holder>,
}

impl Reader {
    /// The reader of a response whose progress `response` tells.
    #[must_use]
    pub const fn new(client: ClientId, response: Arc<dyn Holder>) -> Self {
        Self { client, address: None, is_proxied: false, response }
    }

    /// Enters the address of the client, as far as it is known, and whether a trusted proxy passed the request on.
    #[must_use]
    pub fn at(self, address: Option<IpAddr>, is_proxied: bool) -> Self {
        Self { address, is_proxied, ..self }
    }

    /// The address of the client; nothing for one of a Unix socket.
    #[must_use]
    pub const fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Whether the request came from a reverse proxy that is trusted, so that headers of proxies are true.
    #[must_use]
    pub const fn is_proxied(&self) -> bool {
        self.is_proxied
    }

    /// This server itself, which reads at once.
    #[must_use]
    pub fn server() -> Self {
        Self::new(ClientId::Server, Arc::new(AtOnce))
    }

    /// Who it is.
    #[must_use]
    pub const fn client(&self) -> ClientId {
        self.client
    }

    /// The use that it makes of the response.
    #[must_use]
    pub fn usage(&self, now: Instant) -> Usage {
        self.response.usage(now)
    }
}

struct AtOnce;

impl Holder for AtOnce {
    fn usage(&self, _: Instant) -> Usage {
        Usage::Working
    }

    fn give_up(&self) -> bool {
        false
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader({})", self.client)
    }
}
