//! harmonia(1) and a page for each of its subcommands.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use harmonia::cli::Cli;

/// Sections of harmonia(1) that are not in the program's help.
const SECTIONS: [(&str, &str); 4] = [
    (
        "CONFIGURATION",
        "A TOML file; harmonia.toml(5) has every key with its range and default. An unknown key is an error, and harmonia \
         check tells before a restart does. SIGHUP makes a running harmonia read its certificate and its keys again.",
    ),
    (
        "EXIT STATUS",
        "0 after an end that was asked for. Otherwise a code of sysexits.h: 65 for corrupt compressed NARs and for users and passwords that cannot be, 69 for a daemon or an address that cannot be reached, 71 for the operating system, 73 for a file that \
         cannot be made, 76 for a daemon that answers wrongly, 77 for one that refuses this user, 78 for the configuration, \
         a key or a certificate.",
    ),
    (
        "FILES",
        "/nix/var/nix/daemon-socket/socket: where nix-daemon listens. /var/cache/harmonia: compressed NARs, where \
         systemd runs the service.",
    ),
    ("SEE ALSO", "harmonia.toml(5), nix-daemon(8), nix.conf(5), systemd.socket(5)"),
];

/// A second name of the program, which is also the name of a subcommand's page.
const ALIAS: (&str, &str) =
    ("harmonia-cache", "A program named harmonia-cache is harmonia itself, under the name that harmonia 3.2 has.");

/// Writes all pages.
pub(crate) fn write(directory: &Path) -> io::Result<()> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    program(&command, directory)?;
    for subcommand in command.get_subcommands() {
        subcommands(subcommand, directory)?;
    }
    Ok(())
}

fn program(command: &Command, directory: &Path) -> io::Result<()> {
    let (file, man) = begin(command, directory)?;
    let mut file = file;
    man.render_options_section(&mut file)?;
    let mut commands = Roff::new();
    commands.control("SH", ["COMMANDS"]);
    for subcommand in command.get_subcommands() {
        let about = subcommand.get_about().map(ToString::to_string).unwrap_or_default();
        let page = subcommand.get_display_name().unwrap_or_default();
        commands.control("TP", []).text([bold(subcommand.get_name())]);
        commands.text([roman(format!("{about}; see {page}(1)"))]);
    }
    commands.to_writer(&mut file)?;
    // The text is laid out in columns.
    let environment = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let mut section = Roff::new();
    section.control("SH", ["ENVIRONMENT"]).control("nf", []);
    for line in environment.lines().skip_while(|line| line.starts_with("Environment:")) {
        section.text([roman(line)]);
    }
    section.control("fi", []);
    section.to_writer(&mut file)?;
    for (name, text) in SECTIONS {
        add_section(&mut file, name, text)?;
    }
    file.flush()
}

/// Writes the page of a subcommand, and those of its own subcommands.
fn subcommands(command: &Command, directory: &Path) -> io::Result<()> {
    let (mut file, man) = begin(command, directory)?;
    man.render_options_section(&mut file)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut file)?;
    }
    if command.get_display_name() == Some(ALIAS.0) {
        add_section(&mut file, "NOTES", ALIAS.1)?;
    }
    add_section(&mut file, "SEE ALSO", "harmonia(1), harmonia.toml(5)")?;
    file.flush()?;
    command.get_subcommands().try_for_each(|below| subcommands(below, directory))
}

/// Creates a page, and writes the sections that every page begins with.
fn begin(command: &Command, directory: &Path) -> io::Result<(File, Man)> {
    let man = Man::new(command.clone());
    let mut file = File::create(directory.join(man.get_filename()))?;
    man.render_title(&mut file)?;
    man.render_name_section(&mut file)?;
    man.render_synopsis_section(&mut file)?;
    man.render_description_section(&mut file)?;
    Ok((file, man))
}

fn add_section(file: &mut File, name: &str, text: &str) -> io::Result<()> {
    let mut section = Roff::new();
    section.control("SH", [name]).text([roman(text)]);
    section.to_writer(file)
}
