//! `harmonia cache`: fills, lists, verifies and empties the NAR cache.

mod list;
mod place;
mod warm;

use std::io::{self, Write as _};

use crate::cli::{CacheAction, ListOrder, PathArguments};
use crate::commands::{progress, store_paths};
use crate::config::{CliOverrides, Config, Environment};
use crate::error::Error;
use crate::human_size::human_size;
use crate::nar_cache::{CacheDirectory, Removed, clear, list, remove, select, stats, verify};
use crate::output::{self, counted};
use crate::store::Store;
use place::Place;
use warm::Warmed;

/// Runs an action and prints its result. Uses the directory of the service on this machine if `loaded` names none.
pub(super) async fn run(
    loaded: Config,
    overrides: &CliOverrides,
    environment: &Environment,
    action: CacheAction,
) -> Result<(), Error> {
    let place = place::find(loaded, overrides, environment).await?;
    match action {
        CacheAction::Warm { paths, background } => warm(place, &paths, background).await,
        CacheAction::Remove { paths } => remove_paths(place, &paths).await,
        CacheAction::Stats => in_directory(&place, print_stats),
        CacheAction::List { sort, json } => print_list(&place, sort, json),
        CacheAction::Clear => in_directory(&place, |dir, place| {
            let removed = clear(dir).map_err(|cause| failed(place, cause))?;
            output::line(format_args!("{}: removed {}", place.nars.dir.display(), counted(removed as u64, "NAR")));
            Ok(())
        }),
        CacheAction::Verify => in_directory(&place, print_verified),
    }
}

/// Calls `act` on the directory if it exists.
fn in_directory(place: &Place, act: impl Fn(&CacheDirectory, &Place) -> Result<(), Error>) -> Result<(), Error> {
    if let Some(dir) = CacheDirectory::find(&place.nars.dir, &place.config)? {
        return act(&dir, place);
    }
    output::line(format_args!("{}: 0 NARs, the cache is not in use yet", place.nars.dir.display()));
    Ok(())
}

fn failed(place: &Place, cause: io::Error) -> Error {
    Error::NarCache { dir: place.nars.dir.clone(), cause }
}

fn print_stats(dir: &CacheDirectory, place: &Place) -> Result<(), Error> {
    let (nars, bytes) = stats(dir).map_err(|cause| failed(place, cause))?;
    let (nars, max_size) = (counted(nars as u64, "NAR"), human_size(place.nars.max_size.bytes()));
    output::line(format_args!("{}: {nars}, {} of at most {max_size}", place.nars.dir.display(), human_size(bytes)));
    Ok(())
}

fn print_list(place: &Place, order: ListOrder, json: bool) -> Result<(), Error> {
    let mut nars = Vec::new();
    if let Some(dir) = CacheDirectory::find(&place.nars.dir, &place.config)? {
        nars.extend(list(&dir).map_err(|cause| failed(place, cause))?);
    }
    list::sort(&mut nars, order);
    let (mut stdout, directory) = (io::BufWriter::new(io::stdout().lock()), &place.config.virtual_nix_store);
    let print = if json { list::print_json } else { list::print };
    match print(&nars, directory, &mut stdout).and_then(|()| stdout.flush()) {
        // The reader has seen enough.
        Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.map_err(|cause| Error::System { doing: "print the list", cause }),
    }
}

fn print_verified(dir: &CacheDirectory, place: &Place) -> Result<(), Error> {
    let (all, bytes) = stats(dir).map_err(|cause| failed(place, cause))?;
    let (mut nars, mut corrupt, bar) = (0, 0, progress::bar(all, bytes));
    for check in verify(dir).map_err(|cause| failed(place, cause))? {
        nars += 1;
        bar.done(check.bytes);
        if let Some(fault) = check.fault {
            corrupt += 1;
            output::line(format_args!("removed {}: {fault}", check.path.display()));
        }
    }
    drop(bar);
    let dir = place.nars.dir.display();
    output::line(format_args!("{dir}: verified {}, {corrupt} corrupt", counted(nars, "NAR")));
    if corrupt > 0 { Err(Error::CorruptNars(corrupt)) } else { Ok(()) }
}

async fn warm(place: Place, arguments: &PathArguments, background: bool) -> Result<(), Error> {
    let name = place.nars.dir.display().to_string();
    let hashes = store_paths::hash_parts(arguments, &place.config.virtual_nix_store)?;
    if background {
        let waiting = warm::enqueue(place, &hashes, arguments.recursive).await?;
        output::line(format_args!("{name}: queued {}, {waiting} in the queue", counted(hashes.len() as u64, "path")));
    } else {
        let Warmed { compressed, cached, too_large } = warm::run(place, &hashes, arguments.recursive).await?;
        let compressed = counted(compressed, "NAR");
        output::line(format_args!("{name}: compressed {compressed}, {cached} already cached, {too_large} too large"));
    }
    Ok(())
}

async fn remove_paths(place: Place, arguments: &PathArguments) -> Result<(), Error> {
    let hashes = store_paths::hash_parts(arguments, &place.config.virtual_nix_store)?;
    let removed = if let Ok(server) = &place.server {
        warm::remove(server, &hashes, arguments.recursive).await?
    } else if let Some(dir) = CacheDirectory::find(&place.nars.dir, &place.config)? {
        let store = Store::new(&place.config, &std::sync::Arc::default());
        let selection = select(&store, &hashes, arguments.recursive).await?;
        remove(&dir, &selection).map_err(|cause| failed(&place, cause))?
    } else {
        Removed::default()
    };
    let (nars, bytes) = (counted(removed.nars as u64, "NAR"), human_size(removed.bytes));
    output::line(format_args!("{}: removed {nars}, {bytes}", place.nars.dir.display()));
    Ok(())
}
