//! File systems that are full or stalled. They need the privilege to mount; without it a test says that it skips.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::scratch;

/// A mounted file system; unmounted on drop.
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// Mounts a new file system that can be frozen; returns `None` without the privilege for that.
    pub(crate) fn mount() -> Option<Self> {
        let dir = scratch::fresh_dir();
        let (image, mounted) = (dir.join("image"), dir.join("mounted"));
        fs::create_dir(&mounted).unwrap();
        fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let (image, place) = (image.to_str().unwrap(), mounted.to_str().unwrap());
        let is_there = run("mkfs.ext4", &["-q", image]) && run("mount", &["-o", "loop", image, place]);
        is_there.then_some(Self(mounted)).or_else(skipped)
    }

    /// Mounts a file system in memory, of this many bytes; returns `None` without the privilege for that.
    pub(crate) fn in_memory(size: usize) -> Option<Self> {
        let mounted = scratch::fresh_dir();
        let is_there = run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "none", mounted.to_str().unwrap()]);
        is_there.then_some(Self(mounted)).or_else(skipped)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Freezes or thaws it, by an option of fsfreeze.
    pub(crate) fn fsfreeze(&self, option: &str) -> bool {
        run("fsfreeze", &[option, self.0.to_str().unwrap()])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &["-l", self.0.to_str().unwrap()]);
    }
}

/// Guard that thaws on drop: a program that waits for the disk cannot even be killed before that.
pub(crate) struct Frozen<'a>(pub(crate) &'a Disk);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.fsfreeze("-u");
    }
}

fn skipped() -> Option<Disk> {
    eprintln!("skipped: nothing can be mounted here");
    None
}

fn run(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
