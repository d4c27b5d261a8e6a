//! Tools of this workspace that no user of harmonia needs: `cargo xtask COMMAND`.

mod load;
mod manual;

use std::env;
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask COMMAND

  manual DIRECTORY                          write man pages and shell completions
  load [OPTION]... ADDRESS CONNECTIONS      send requests to a server and measure them, for tests/bench";

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let done = match arguments.next().as_deref() {
        Some("manual") => manual::write(arguments),
        Some("load") => load::run(arguments),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "a tool's errors go to standard error")]
fn report(error: &str) {
    eprintln!("{error}");
}
