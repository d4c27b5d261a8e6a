//! `harmonia status --watch`: prints the status repeatedly, on a terminal in place.

use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::fetch::{fetch, is_terminal};
use crate::admin::Client;
use crate::cli::StatusOptions;
use crate::error::Error;
use crate::output;

const INTERVAL: Duration = Duration::from_secs(2);
/// Height of a terminal that does not report it.
const ROWS: usize = 24;

/// Switches to the alternate screen, hides the cursor and turns off line wrapping; and back (xterm's control sequences).
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// Moves to the first line.
const HOME: &str = "\x1b[H";
/// Clears to the end of the line, and of the screen.
const END_OF_LINE: &str = "\x1b[K";
const END_OF_SCREEN: &str = "\x1b[J";

/// Prints until a signal arrives. On a terminal it keeps trying while no server answers, as during a restart.
pub(super) async fn run(options: &StatusOptions, socket: Option<&Path>) -> Result<(), Error> {
    let is_drawn = is_terminal() && !options.json;
    if !is_drawn && !options.json {
        return Err(Error::Usage(
            "--watch needs a terminal\n  help: use --watch --json to print a line every two seconds",
        ));
    }
    let no_signals = |cause| Error::System { doing: "listen to signals", cause };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let _screen = is_drawn.then(Screen::enter);
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let shown = async {
        loop {
            ticks.tick().await;
            let text = match Client::find(socket).await.map_err(Error::from) {
                Ok(client) => fetch(&client, options).await.map(|(text, _)| text),
                Err(error) => Err(error),
            };
            match text {
                Ok(text) if is_drawn => draw(&text),
                Ok(text) => output::print(text),
                Err(error) if is_drawn => draw(&format!("{error}\n")),
                Err(error) => return error,
            }
        }
    };
    tokio::select! {
        error = shown => Err(error),
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

/// Draws as many lines as the terminal has.
fn draw(text: &str) {
    let rows = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(0, |size| usize::from(size.ws_row));
    let lines: Vec<_> = text.lines().take(if rows == 0 { ROWS } else { rows }).collect();
    output::print(HOME.to_owned() + &lines.join(&format!("{END_OF_LINE}\r\n")) + END_OF_LINE + END_OF_SCREEN);
}

/// The alternate screen; dropping it restores the terminal.
struct Screen;

impl Screen {
    fn enter() -> Self {
        output::print(ENTER);
        Self
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        output::print(LEAVE);
    }
}
