//! Whoever reads a response.

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use super::{Holder, Usage};
use crate::client::Client;

/// The client that a request is for, and how fast it reads the response.
#[derive(Clone)]
pub struct Reader {
    client: Client,
    response: Arc<dyn Holder>,
}

impl Reader {
    /// The reader of a response whose progress `response` tells.
    #[must_use]
    pub const fn new(client: Client, response: Arc<dyn Holder>) -> Self {
        Self { client, response }
    }

    /// This server itself, which reads at once.
    #[must_use]
    pub fn server() -> Self {
        Self::new(Client::Server, Arc::new(AtOnce))
    }

    /// Who it is.
    #[must_use]
    pub const fn client(&self) -> Client {
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
