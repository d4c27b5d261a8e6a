//! Man pages and shell completions, from the definition of the command line and from `config.example.toml`.

mod command_pages;
mod config_page;

use std::error::Error;
use std::fs;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::{Shell, generate_to};
use harmonia::cli::Cli;

/// Writes all of them into the directory that the arguments name.
pub(crate) fn write(mut arguments: impl Iterator<Item = String>) -> Result<(), Box<dyn Error>> {
    let directory = arguments.next().ok_or("usage: cargo xtask manual DIRECTORY")?;
    let directory = Path::new(&directory);
    fs::create_dir_all(directory)?;
    command_pages::write(directory)?;
    config_page::write(directory)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut Cli::command(), "harmonia", directory)?;
    }
    Ok(())
}
