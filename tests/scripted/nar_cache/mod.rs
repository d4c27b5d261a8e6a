//! NAR cache: precompression, format on disk, and faults of files and disks.

mod faults;
mod format_on_disk;
mod precompress;
mod stalled_disk;
