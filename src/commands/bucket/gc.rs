//! `harmonia bucket gc`: deletes from the bucket what nobody needs, and undoes that.

use indicatif::ProgressBar;

use super::failure::BucketFailure;
use super::place;
use crate::bucket::{Ages, Collector, GcProgress, GcReport, GcStep, RunId, undo_gc};
use crate::cli::BucketGc;
use crate::config::Config;
use crate::error::Error;
use crate::output::{self, counted};

/// Runs a garbage collection, plans one, or undoes one.
pub(super) async fn run(config: &Config, options: &BucketGc) -> Result<(), Error> {
    collect(config, options).await.map_err(Error::from)
}

async fn collect(config: &Config, options: &BucketGc) -> Result<(), BucketFailure> {
    let host = place::configured(config)?.host.clone();
    let store = place::open(config).await?;
    let directory = config.virtual_nix_store.clone();
    if let Some(run) = options.undo {
        let run = RunId(run.into());
        let undone = undo_gc(&store, &directory, &host, run).await?.ok_or(BucketFailure::NoSuchRun(run))?;
        let (restored, there) = (counted(undone.restored as u64, "path"), undone.there);
        output::line(format_args!("put back {restored}; {there} were there"));
        return if undone.lost == 0 { Ok(()) } else { Err(BucketFailure::NotPutBack(undone.lost)) };
    }
    let bar = ProgressBar::new_spinner();
    let tell = |step: GcStep| bar.set_message(text(step));
    let progress = GcProgress::new(&tell);
    let ages = Ages::new(options.keep.unwrap_or_default(), options.keep_nars);
    let collector = Collector { store, directory, host, ages };
    let report = if options.dry_run { collector.dry_run(&progress).await? } else { collector.run(&progress).await? };
    bar.finish_and_clear();
    print(&report);
    Ok(())
}

fn text(step: GcStep) -> String {
    match step {
        GcStep::List(objects) => format!("listed {}", counted(objects as u64, "object")),
        GcStep::Read(read, of) => format!("read {read} of {}", counted(of as u64, "narinfo")),
        GcStep::Wait(time) => format!("waiting {} s for what is being published", time.as_secs()),
        GcStep::Delete(deleted, of) => format!("deleted {deleted} of {}", counted(of as u64, "object")),
    }
}

fn print(report: &GcReport) {
    let (paths, nars) = (counted(report.narinfos.len() as u64, "path"), counted(report.nars as u64, "NAR"));
    let kept = counted(report.kept as u64, "path");
    if let Some(run) = report.run {
        output::line(format_args!("garbage collection {run}: deleted {paths} and {nars}, kept {kept}"));
    } else {
        report.narinfos.iter().for_each(output::line);
        output::line(format_args!("would delete {paths} and {nars}, and keep {kept}"));
    }
    if report.spared > 0 {
        output::line(format_args!("spared {}, needed since", counted(report.spared as u64, "path")));
    }
    if report.unnamed > 0 {
        let unnamed = counted(report.unnamed as u64, "NAR");
        output::line(format_args!("{unnamed} without a narinfo, for a later run"));
    }
}
