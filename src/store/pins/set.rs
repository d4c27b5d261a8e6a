//! Pins of one store: adds, lists and removes them.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harmonia_protocol::StorePath;

use crate::store::pins::access::Pins;
use crate::store::pins::directory;
use crate::store::pins::error::PinError;
use crate::store::pins::name::PinName;
use crate::store::pins::pin::{Generation, KEEP, MAX_PATHS, MAX_PINS, Pin};
use crate::store::pins::roots::Rooting;
use crate::store::state::Store;
use crate::store::state_files::now;

/// Name of the directory of a check.
const PROBE: &str = ".pin-probe";

impl Store {
    fn pins_or_error(&self) -> Result<&Pins, PinError> {
        self.pins.as_ref().ok_or(PinError::NoStateDirectory)
    }

    /// Pins paths as the newest generation of a name, for `length` or for good, and removes the oldest beyond the limit.
    ///
    /// When it returns, nix-daemon has said that the paths are valid and that the links are roots. Dropping the future may
    /// leave links, which are removed by the next change of the pin or at the next start.
    pub(crate) async fn pin(
        &self,
        name: &PinName,
        paths: &[StorePath],
        length: Option<Duration>,
        by: String,
    ) -> Result<Pin, PinError> {
        let pins = self.pins_or_error()?;
        if paths.is_empty() || paths.len() > MAX_PATHS {
            return Err(PinError::TooMany);
        }
        let _access = pins.exclusive().await;
        let names = pins.on_disk(directory::names).await?;
        if names.len() >= MAX_PINS && !names.contains(name) {
            return Err(PinError::TooMany);
        }
        let mut rooting = Rooting::begin(&self.pool, paths).await?;
        let (of, store, linked) = (name.clone(), self.directory.clone(), paths.to_vec());
        let (links, number) = pins
            .on_disk(move |pins| {
                let directory = directory::create(pins, &of)?;
                directory::sweep(&directory)?;
                // Sweeping removes an empty one.
                let directory = directory::create(pins, &of)?;
                let number = directory::next_number(&directory)?;
                let links = directory::link(&directory, number, &linked, &store)?;
                Ok((links, number))
            })
            .await?;
        if let Err(error) = rooting.make_permanent(&links).await {
            let of = name.clone();
            pins.on_disk(move |pins| directory::sweep(&pins.join(of.as_str()))).await?;
            return Err(error);
        }
        let since = now();
        let generation = Generation {
            number,
            paths: paths.iter().map(|path| path.base_name().to_owned()).collect(),
            by,
            since,
            until: length.map(|length| since.saturating_add(length.as_secs())),
        };
        let of = name.clone();
        let pin = pins.on_disk(move |pins| {
            let directory = pins.join(of.as_str());
            directory::finish(&directory, &generation)?;
            let pin = directory::pin(pins, &of)?;
            for old in pin.generations.iter().skip(KEEP) {
                directory::remove(&directory, old.number)?;
            }
            directory::pin(pins, &of)
        });
        let pin = pin.await?;
        pins.changed.notify_one();
        Ok(pin)
    }

    /// Removes all generations of a pin. Returns what it was.
    pub(crate) async fn unpin(&self, name: &PinName) -> Result<Pin, PinError> {
        let of = name.clone();
        let pin = self.pins_or_error()?.access(move |pins| {
            let pin = directory::pin(pins, &of)?;
            Ok(directory::remove_all(&pins.join(of.as_str()))?.then_some(pin))
        });
        pin.await?.ok_or_else(|| PinError::NoSuchPin(name.clone()))
    }

    /// Returns all pins.
    pub(crate) async fn pins(&self) -> Result<Vec<Pin>, PinError> {
        let read = |pins: &Path| {
            let all = directory::names(pins)?
                .iter()
                .map(|name| directory::pin(pins, name))
                .collect::<io::Result<Vec<_>>>()?;
            Ok(all.into_iter().filter(|pin| !pin.generations.is_empty()).collect())
        };
        self.pins_or_error()?.access(read).await
    }

    /// Pins a valid path for a moment, to see whether nix-daemon sees the state directory, and returns that directory; `None`
    /// if none is configured. Does not create it.
    pub(crate) async fn probe_pins(&self, path: &StorePath) -> Result<Option<PathBuf>, PinError> {
        let Some(pins) = &self.pins else { return Ok(None) };
        let (paths, store) = ([path.clone()], self.directory.clone());
        let mut rooting = Rooting::begin(&self.pool, &paths).await?;
        // Beside the pins, whose directory belongs to the server's user.
        let probe = pins.directory.with_file_name(PROBE);
        let of = probe.clone();
        let links = pins.on_disk(move |_| {
            // An interrupted check may have left it.
            directory::sweep(&of)?;
            create_one(&of)?;
            directory::link(&of.canonicalize()?, 1, &paths, &store)
        });
        let seen = match links.await {
            Ok(links) => rooting.make_permanent(&links).await,
            Err(error) => Err(error),
        };
        let state_dir = probe.parent().map(Path::to_owned);
        pins.on_disk(move |_| directory::sweep(&probe)).await?;
        seen.map(|()| state_dir)
    }
}

/// Creates a directory in one that exists.
fn create_one(directory: &Path) -> io::Result<()> {
    match std::fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created,
    }
}
