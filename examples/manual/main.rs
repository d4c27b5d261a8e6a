//! Writes the man pages and the shells' completions of harmonia into a directory, from the definition of its command line
//! and from `config.example.toml`.
//!
//! `cargo run --example manual -- DIRECTORY`

mod commands;
mod file;

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::{Shell, generate_to};
use harmonia::cli::Cli;

fn main() -> io::Result<()> {
    let usage = || io::Error::new(io::ErrorKind::InvalidInput, "usage: manual DIRECTORY");
    let directory = std::env::args_os().nth(1).ok_or_else(usage)?;
    let directory = Path::new(&directory);
    fs::create_dir_all(directory)?;
    commands::write(directory)?;
    file::write(directory)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut Cli::command(), "harmonia", directory)?;
    }
    Ok(())
}
