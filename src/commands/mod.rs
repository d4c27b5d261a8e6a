//! The commands of the program, a file or folder each.

#[cfg(feature = "bucket")]
pub(crate) mod bucket;
mod cache;
mod check;
mod hide;
mod pin;
mod plain_credentials;
mod progress;
mod quickstart;
mod serve;
mod server;
mod status;
mod store_paths;
mod times;
mod user;

use crate::cli::{Check, Cli, Command};
use crate::config::{CliOverrides, Config, Environment};
use crate::error::Error;
use crate::process::log::RecentLines;

/// Runs the command that the command line names. `recent` has the last warnings and errors, for the admin socket.
pub(crate) fn run(cli: Cli, recent: RecentLines) -> Result<(), Error> {
    let overrides = cli.options.overrides();
    let mut environment = Environment::capture();
    match cli.command {
        None => run_server(Box::new(move || Ok(Config::load(overrides.clone(), &environment)?)), false, recent),
        Some(Command::Quickstart) => {
            quickstart::set_directories(&mut environment);
            let load = move || {
                let (mut config, warnings) = Config::load(overrides.clone(), &environment)?;
                quickstart::prepare(&mut config)?;
                Ok((config, warnings))
            };
            run_server(Box::new(load), true, recent)
        }
        Some(Command::Check(Check { syntax: Some(file), .. })) => check::syntax(&file),
        Some(Command::Check(Check { unit: Some(unit), .. })) => check::unit(&unit),
        Some(Command::Check(options)) => {
            let config = load_config(overrides, &environment)?;
            block_on(config.workers, check::run(&config, !options.listening_is_checked))
        }
        Some(Command::Cache { action }) => {
            let config = load_config(overrides.clone(), &environment)?;
            block_on(config.workers, cache::run(config, &overrides, &environment, action))
        }
        #[cfg(feature = "bucket")]
        Some(Command::Bucket { action }) => {
            if overrides.config_file.is_none() {
                environment = bucket::environment(&environment)?;
            }
            let config = load_config(overrides, &environment)?;
            block_on(config.workers, bucket::run(config, action))
        }
        Some(Command::User { action }) => {
            user::run(action, || load_config(overrides, &user::environment_of_service(&environment)?))
        }
        Some(Command::Hide(options)) => {
            server::ask(loaded(overrides, &environment), |client, store| hide::hide(client, store, &options))
        }
        Some(Command::Unhide { path }) => {
            server::ask(loaded(overrides, &environment), |client, store| hide::unhide(client, store, &path))
        }
        Some(Command::Hidden { json }) => {
            server::ask(loaded(overrides, &environment), |client, _| hide::list(client, json))
        }
        Some(Command::Pin(options)) => {
            server::ask(loaded(overrides, &environment), |client, store| pin::pin(client, store, &options))
        }
        Some(Command::Unpin { name }) => {
            server::ask(loaded(overrides, &environment), |client, _| pin::unpin(client, &name))
        }
        Some(Command::Pins { json }) => {
            server::ask(loaded(overrides, &environment), |client, _| pin::list(client, json))
        }
        Some(Command::Status(options)) => status::run(&options, loaded(overrides, &environment)),
    }
}

/// Serves until the process is told to stop; `load` reads the configuration, now and at each reload.
fn run_server(load: serve::LoadConfig, guide: bool, recent: RecentLines) -> Result<(), Error> {
    let (config, warnings) = load()?;
    log_warnings(warnings);
    block_on(config.workers, serve::run(config, guide, load, recent))
}

/// Loads the configuration for a command that may do without.
fn loaded(overrides: CliOverrides, environment: &Environment) -> Result<(Config, Vec<String>), Error> {
    Config::load(overrides, environment).map_err(Error::from)
}

fn load_config(overrides: CliOverrides, environment: &Environment) -> Result<Config, Error> {
    let (config, warnings) = Config::load(overrides, environment)?;
    log_warnings(warnings);
    Ok(config)
}

fn log_warnings(warnings: Vec<String>) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

fn block_on(workers: usize, command: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .map_err(|cause| Error::System { doing: "start the runtime", cause })?;
    let done = runtime.block_on(command);
    // A call that hangs on a broken disk never returns; nothing is lost with it.
    runtime.shutdown_background();
    done
}
