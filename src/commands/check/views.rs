//! Checks what can be read of the roots of views. A server starts all the same, and shows less than its configuration says.

use super::report::Report;
use crate::config::Config;
use crate::output::counted;
use crate::store::Store;

pub(super) fn check(config: &Config, store: &Store) {
    for view in &config.views {
        let (name, (roots, unreadable)) = (&view.name, store.count_roots(view));
        let found = counted(roots as u64, "root");
        match unreadable {
            Some(why) => tracing::warn!(
                "view \"{name}\" has {found}, others may be missing: {why}\n  help: let this user read the directories of the roots"
            ),
            None if roots == 0 => tracing::warn!(
                "view \"{name}\" has no roots, so that nothing is in it\n  help: create one of {}",
                view.roots.join(", ")
            ),
            None => Report::line(format_args!("view \"{name}\": ok, {found}")),
        }
    }
}
