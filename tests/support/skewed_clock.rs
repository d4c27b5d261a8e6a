//! A clock that is wrong for one process: a library that is loaded before the C library and adds seconds to the time of day.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use super::scratch;

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && clock == CLOCK_REALTIME)
        time->tv_sec += atol(getenv("SKEW_SECONDS"));
    return result;
}
"#;

static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = scratch::fresh_dir();
    let (source, library) = (dir.join("clock.c"), dir.join("clock.so"));
    fs::write(&source, SOURCE).unwrap();
    let status = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(status.expect("cannot run cc").success(), "cannot compile {}", source.display());
    library
});

/// Sets the clock of a program ahead by so many seconds.
pub(crate) fn set(program: &mut Command, seconds: i64) {
    program.env("LD_PRELOAD", &*LIBRARY).env("SKEW_SECONDS", seconds.to_string());
}
