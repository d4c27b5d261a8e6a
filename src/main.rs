//! Entry point: reads the command line and the configuration, and runs the command.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use harmonia::cli::{Check, Cli, Command};
use harmonia::commands::{cache, check, quickstart, serve, status};
use harmonia::config::{Config, Environment, user_runtime_directory};
use harmonia::error::Error;
use harmonia::process::log::RecentLines;
use harmonia::process::{core_dump, log, malloc, rlimit};

fn main() -> ExitCode {
    malloc::tune();
    rlimit::raise_nofile();
    let cli = Cli::parse();
    let recent = log::start();
    core_dump::disable();
    match run(&cli, recent) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.each().into_iter().for_each(log::fatal);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(cli: &Cli, recent: RecentLines) -> Result<(), Error> {
    if let Some(Command::Check(Check { syntax: Some(file), .. })) = &cli.command {
        return check::syntax(file);
    }
    if let Some(Command::Check(Check { unit: Some(unit), .. })) = &cli.command {
        return check::unit(unit);
    }
    let (overrides, mut environment) = (cli.options.overrides(), Environment::capture());
    if cli.command == Some(Command::Quickstart) {
        let default = quickstart::cache_directory().map(PathBuf::into_os_string);
        environment.cache_directory = environment.cache_directory.filter(|it| !it.is_empty()).or(default);
        let default = user_runtime_directory().map(PathBuf::into_os_string);
        environment.runtime_directory = environment.runtime_directory.filter(|it| !it.is_empty()).or(default);
    }
    if let Some(Command::Status(options)) = &cli.command {
        return status::run(options, Config::load(overrides, &environment).map_err(Error::from));
    }
    let (mut config, warnings) = Config::load(overrides.clone(), &environment)?;
    let (options, variables) = (overrides.clone(), environment.clone());
    let load = move || Config::load(overrides.clone(), &environment).map_err(Error::from);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.workers)
        .enable_all()
        .build()
        .map_err(|cause| Error::System { doing: "start the runtime", cause })?;
    let done = runtime.block_on(async {
        match &cli.command {
            Some(Command::Cache { action }) => cache::run(config, &options, &variables, action.clone()).await,
            None => serve::run(config, false, Box::new(load), recent).await,
            // Handled above, with a runtime of one thread.
            Some(Command::Status(_)) => Ok(()),
            Some(Command::Check(what)) => check::run(&config, !what.listening_is_checked).await,
            Some(Command::Quickstart) => {
                quickstart::prepare(&mut config)?;
                let load = move || {
                    let (mut config, warnings) = load()?;
                    quickstart::prepare(&mut config)?;
                    Ok((config, warnings))
                };
                serve::run(config, true, Box::new(load), recent).await
            }
        }
    });
    // Does not wait for blocking calls: one to a disk that does not respond would never return.
    runtime.shutdown_background();
    done
}
