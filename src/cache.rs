//! `harmonia cache`: looking after the directory of compressed NARs.

#![allow(clippy::print_stdout, reason = "the findings are this command's output, not its log")]

use crate::cli::CacheAction;
use crate::config::Config;
use crate::error::Error;
use crate::nar_cache::{clear, stats, verify};
use crate::warm::{self, Warmed};

/// How often a long look says how far it is, in files.
const PROGRESS: usize = 1000;

/// Does it, and prints what came of it.
pub async fn run(config: &Config, action: CacheAction) -> Result<(), Error> {
    let settings = config.nar_cache.as_ref().ok_or(Error::NoNarCache)?;
    let (dir, max_size) = (&settings.dir, settings.max_size.bytes());
    let failed = |cause| Error::NarCache { dir: dir.clone(), cause };
    match action {
        CacheAction::Stats => {
            let (nars, bytes) = stats(dir).map_err(failed)?;
            println!("{}: {nars} nars, {} MiB of at most {} MiB", dir.display(), bytes >> 20, max_size >> 20);
        }
        CacheAction::Warm { paths } => {
            let Warmed { made, found, plain } = warm::run(config, &paths).await?;
            println!("{}: {made} nars made, {found} were there, {plain} are served as they are", dir.display());
        }
        CacheAction::Clear => println!("{}: {} nars removed", dir.display(), clear(dir).map_err(failed)?),
        CacheAction::Verify => {
            let (mut nars, mut corrupt) = (0, 0);
            for verdict in verify(dir).map_err(failed)? {
                nars += 1;
                if let Some(fault) = verdict.fault {
                    corrupt += 1;
                    println!("removed {}: {fault}", verdict.path.display());
                }
                if nars % PROGRESS == 0 {
                    tracing::info!("{nars} nars read");
                }
            }
            println!("{}: {nars} nars, {corrupt} of them were not what they should be", dir.display());
            if corrupt > 0 {
                return Err(Error::CorruptNars(corrupt));
            }
        }
    }
    Ok(())
}
