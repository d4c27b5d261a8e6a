//! A clock that is wrong or fast for one process: a library that is loaded before the C library.
//!
//! With a fast clock a program waits for a part of the time that it means to wait, and so do all others that run as fast: what
//! they agree on by times stays as it is. The time of day is as fast as ever, since servers compare it with their own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use super::scratch;

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long ahead, rate = 1, second = 1000000000;
static long long start;

static long long monotonic(void) {
    struct timespec time;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &time);
    return time.tv_sec * (long long)second + time.tv_nsec;
}

__attribute__((constructor)) static void begin(void) {
    if (getenv("CLOCK_AHEAD"))
        ahead = atol(getenv("CLOCK_AHEAD"));
    start = monotonic();
    if (getenv("CLOCK_RATE"))
        rate = atol(getenv("CLOCK_RATE"));
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (clock == CLOCK_MONOTONIC) {
        long long now = start + (monotonic() - start) * rate;
        time->tv_sec = now / second;
        time->tv_nsec = now % second;
        return 0;
    }
    int result = syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && clock == CLOCK_REALTIME)
        time->tv_sec += ahead;
    return result;
}

int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout) {
    if (timeout > 0)
        timeout = (timeout + rate - 1) / rate;
    return syscall(SYS_epoll_pwait, epoll, events, most, timeout, NULL, 0);
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

/// Sets the time of day of a program ahead by so many seconds.
pub(crate) fn set_ahead(program: &mut Command, seconds: i64) {
    program.env("LD_PRELOAD", &*LIBRARY).env("CLOCK_AHEAD", seconds.to_string());
}

/// Lets the clock that a program waits by run so many times as fast.
pub(crate) fn run_fast(program: &mut Command, rate: u32) {
    program.env("LD_PRELOAD", &*LIBRARY).env("CLOCK_RATE", rate.to_string());
}
