//! `harmonia cache`: looking after the directory of compressed NARs.

mod list;
mod paths;
mod place;
mod progress;
mod warm;

use std::io::{self, Write as _};

use crate::cli::{CacheAction, ListOrder, PathArguments};
use crate::config::{CliOverrides, Config, Environment};
use crate::error::Error;
use crate::nar_cache::{CacheDirectory, Removed, clear, list, remove, select, stats, verify};
use crate::output;
use crate::store::Store;
use place::Place;
use warm::Warmed;

/// Does it, and prints what came of it. Where `loaded` names no directory it is that of the service on this machine.
pub async fn run(
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
            output::line(format_args!("{}: {removed} nars removed", place.nars.dir.display()));
            Ok(())
        }),
        CacheAction::Verify => in_directory(&place, print_verified),
    }
}

/// Does something with the directory, if there is one.
fn in_directory(place: &Place, act: impl Fn(&CacheDirectory, &Place) -> Result<(), Error>) -> Result<(), Error> {
    if let Some(dir) = CacheDirectory::find(&place.nars.dir, &place.config)? {
        return act(&dir, place);
    }
    output::line(format_args!("{}: 0 nars, nothing has been kept there yet", place.nars.dir.display()));
    Ok(())
}

fn failed(place: &Place, cause: io::Error) -> Error {
    Error::NarCache { dir: place.nars.dir.clone(), cause }
}

fn print_stats(dir: &CacheDirectory, place: &Place) -> Result<(), Error> {
    let (nars, bytes) = stats(dir).map_err(|cause| failed(place, cause))?;
    let (name, most) = (place.nars.dir.display(), place.nars.max_size.bytes() >> 20);
    output::line(format_args!("{name}: {nars} nars, {} MiB of at most {most} MiB", bytes >> 20));
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
        // Whoever reads has seen enough.
        Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.map_err(|cause| Error::System { doing: "print the list", cause }),
    }
}

fn print_verified(dir: &CacheDirectory, place: &Place) -> Result<(), Error> {
    let (all, bytes) = stats(dir).map_err(|cause| failed(place, cause))?;
    let (mut nars, mut corrupt, bar) = (0, 0, progress::bar(all, bytes));
    for verdict in verify(dir).map_err(|cause| failed(place, cause))? {
        nars += 1;
        bar.done(verdict.bytes);
        if let Some(fault) = verdict.fault {
            corrupt += 1;
            output::line(format_args!("removed {}: {fault}", verdict.path.display()));
        }
    }
    drop(bar);
    output::line(format_args!(
        "{}: {nars} nars, {corrupt} of them were not what they should be",
        place.nars.dir.display()
    ));
    if corrupt > 0 { Err(Error::CorruptNars(corrupt)) } else { Ok(()) }
}

async fn warm(place: Place, arguments: &PathArguments, background: bool) -> Result<(), Error> {
    let name = place.nars.dir.display().to_string();
    let hashes = paths::hash_parts(arguments, &place.config.virtual_nix_store)?;
    if background {
        let waiting = warm::hand_over(place, &hashes, arguments.recursive).await?;
        output::line(format_args!("{name}: {} paths handed over, {waiting} are to be compressed", hashes.len()));
    } else {
        let Warmed { made, found, plain } = warm::run(place, &hashes, arguments.recursive).await?;
        output::line(format_args!("{name}: {made} nars made, {found} were there, {plain} are served as they are"));
    }
    Ok(())
}

async fn remove_paths(place: Place, arguments: &PathArguments) -> Result<(), Error> {
    let hashes = paths::hash_parts(arguments, &place.config.virtual_nix_store)?;
    let removed = if let Ok(server) = &place.server {
        warm::remove(server, &hashes, arguments.recursive).await?
    } else if let Some(dir) = CacheDirectory::find(&place.nars.dir, &place.config)? {
        let store = Store::new(&place.config, &std::sync::Arc::default());
        let selection = select(&store, &hashes, arguments.recursive).await?;
        remove(&dir, &selection).map_err(|cause| failed(&place, cause))?
    } else {
        Removed::default()
    };
    output::line(format_args!(
        "{}: {} nars removed, {} MiB",
        place.nars.dir.display(),
        removed.nars,
        removed.bytes >> 20
    ));
    Ok(())
}
