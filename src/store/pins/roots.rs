//! GC roots of pins, set by nix-daemon.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use harmonia_protocol::StorePath;
use harmonia_protocol::client::Client;
use harmonia_protocol::operation::{AddIndirectRoot, AddTempRoot, FindRoots, QueryValidPaths};

use crate::store::daemon::pool::Pool;
use crate::store::daemon::transport::Transport;
use crate::store::pins::error::PinError;

/// Connection whose temporary roots hold until it is dropped.
pub(crate) struct Rooting<'p> {
    pool: &'p Pool,
    client: Client<Transport>,
}

impl<'p> Rooting<'p> {
    /// Connects, and protects these paths for as long as the connection lasts. The error names the first that is not valid.
    pub(crate) async fn begin(pool: &'p Pool, paths: &[StorePath]) -> Result<Self, PinError> {
        let mut rooting = Self { pool, client: pool.dial().await? };
        for path in paths {
            pool.call_on(&mut rooting.client, &AddTempRoot(path)).await?;
        }
        // After the roots: the garbage collector could have come between.
        rooting.check_valid(paths).await?;
        Ok(rooting)
    }

    async fn check_valid(&mut self, paths: &[StorePath]) -> Result<(), PinError> {
        let valid = self.pool.call_on(&mut self.client, &QueryValidPaths(paths)).await?;
        match paths.iter().find(|path| !valid.contains(path)) {
            None => Ok(()),
            Some(path) => Err(PinError::NotValid(path.base_name().to_owned())),
        }
    }

    /// Has nix-daemon make these links roots, and asks for its roots to see whether they are.
    pub(crate) async fn make_permanent(&mut self, links: &[PathBuf]) -> Result<(), PinError> {
        for link in links {
            self.pool.call_on(&mut self.client, &AddIndirectRoot(link.as_os_str().as_bytes())).await?;
        }
        let roots = self.pool.call_on(&mut self.client, &FindRoots).await?;
        let roots: std::collections::HashSet<&Path> = roots.iter().map(|root| Path::new(&root.link)).collect();
        match links.iter().find(|link| !roots.contains(link.as_path())) {
            None => Ok(()),
            Some(link) => Err(PinError::Invisible(link.clone())),
        }
    }
}
