//! Writes the man page and the shells' completions of harmonia into a directory, from the definition of its command line.
//!
//! `cargo run --example manual -- DIRECTORY`

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use harmonia::cli::Cli;

/// What the help of the program leaves to the manual.
const SECTIONS: [(&str, &str); 4] = [
    (
        "CONFIGURATION",
        "A TOML file; config.example.toml, beside the documentation, has every key with its range and default. An unknown \
         key is an error, and harmonia check tells before a restart does. SIGHUP makes a running harmonia read the file, \
         its certificate and its keys again; the log names what has changed, and what takes a restart.",
    ),
    (
        "EXIT STATUS",
        "0 after an end that was asked for. Otherwise a code of sysexits.h: 65 for compressed NARs that were not what they \
         should be, 69 for a daemon or an address that cannot be reached, 71 for the operating system, 73 for a file that \
         cannot be made, 76 for a daemon that answers wrongly, 77 for one that refuses this user, 78 for the configuration, \
         a key or a certificate.",
    ),
    (
        "FILES",
        "/nix/var/nix/daemon-socket/socket: where nix-daemon listens. /var/cache/harmonia: compressed NARs, where \
         systemd runs the service.",
    ),
    ("SEE ALSO", "nix-daemon(8), nix.conf(5), systemd.socket(5)"),
];

fn main() -> io::Result<()> {
    let usage = || io::Error::new(io::ErrorKind::InvalidInput, "usage: manual DIRECTORY");
    let directory = std::env::args_os().nth(1).ok_or_else(usage)?;
    let directory = Path::new(&directory);
    fs::create_dir_all(directory)?;
    man_page(&mut File::create(directory.join("harmonia.1"))?)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut Cli::command(), "harmonia", directory)?;
    }
    Ok(())
}

fn man_page(file: &mut File) -> io::Result<()> {
    let command = Cli::command();
    let man = Man::new(command.clone());
    man.render_title(file)?;
    man.render_name_section(file)?;
    man.render_synopsis_section(file)?;
    man.render_description_section(file)?;
    man.render_options_section(file)?;
    let mut commands = Roff::new();
    commands.control("SH", ["COMMANDS"]);
    for subcommand in command.get_subcommands() {
        let about = subcommand.get_long_about().or_else(|| subcommand.get_about());
        commands.control("TP", []).text([bold(subcommand.get_name())]);
        commands.text([roman(about.map(ToString::to_string).unwrap_or_default())]);
    }
    commands.to_writer(file)?;
    // It is laid out in columns.
    let environment = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let mut section = Roff::new();
    section.control("SH", ["ENVIRONMENT"]).control("nf", []);
    for line in environment.lines().skip_while(|line| line.starts_with("Environment:")) {
        section.text([roman(line)]);
    }
    section.control("fi", []);
    section.to_writer(file)?;
    for (name, text) in SECTIONS {
        let mut section = Roff::new();
        section.control("SH", [name]).text([roman(text)]);
        section.to_writer(file)?;
    }
    file.flush()
}
