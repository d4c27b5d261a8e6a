//! The status again and again, on a terminal in place of itself.

use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::{ask, is_terminal};
use crate::admin::Client;
use crate::cli::StatusOptions;
use crate::error::Error;
use crate::output;

const INTERVAL: Duration = Duration::from_secs(2);
/// Lines of a terminal that does not say.
const ROWS: usize = 24;

/// To a screen of its own without a cursor, where long lines are cut; and back (xterm's control sequences).
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// To the first line.
const HOME: &str = "\x1b[H";
/// Removes what is there up to the end of the line, and of the screen.
const END_OF_LINE: &str = "\x1b[K";
const END_OF_SCREEN: &str = "\x1b[J";

/// Until a signal. A server that does not answer is waited for, as it is when it is restarted.
pub(super) async fn run(options: &StatusOptions, socket: Option<&Path>) -> Result<(), Error> {
    let is_drawn = is_terminal() && !options.json;
    if !is_drawn && !options.json {
        return Err(Error::Usage(
            "--watch draws on a terminal, and this is none\n  help: --watch --json prints a line every two seconds",
        ));
    }
    let no_signals = |cause| Error::System { doing: "listen to signals", cause };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let _screen = is_drawn.then(Screen::enter);
    let mut turns = interval(INTERVAL);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let shown = async {
        loop {
            turns.tick().await;
            let text = match Client::find(socket).await.map_err(Error::from) {
                Ok(client) => ask(&client, options).await.map(|(text, _)| text),
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

/// As many lines as there is room for; of some terminals it is not known how many that are.
fn draw(text: &str) {
    let rows = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(0, |size| usize::from(size.ws_row));
    let lines: Vec<_> = text.lines().take(if rows == 0 { ROWS } else { rows }).collect();
    output::print(HOME.to_owned() + &lines.join(&format!("{END_OF_LINE}\r\n")) + END_OF_LINE + END_OF_SCREEN);
}

/// The terminal while it is drawn on; it is as it was when this is dropped.
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
