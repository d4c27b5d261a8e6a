//! The NAR cache: its URLs, its directory, its disk and its command.

mod faults;
mod format_on_disk;
mod precompress;
mod stalled_disk;
