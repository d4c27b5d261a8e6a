"""A private /nix for the bench: store, database and daemon of one release, without the host's /nix.

Commands run as those of the integration tests do (tests/support/prefix.rs): in a mount and PID namespace, changed into
the root that tests/nix-releases unpacked, with this prefix bound over its /nix. Without root that is done in a user
namespace.
"""

import os
import subprocess
from pathlib import Path

import processes

ENTER = """
set -e
mount --bind "$1" "$0/nix"
mount --rbind /proc "$0/proc"
mount --rbind /dev "$0/dev"
shift
set +e
"""
RUN = 'chroot "$0" "$@"; exit "$?"'
# Ends when the command or standard input ends, and with it everything in the namespace.
SERVE = """
exec 3<&0
chroot "$0" "$@" </dev/null &
cat <&3 >/dev/null &
wait -n
"""
CONFIG = """build-users-group =
sandbox = false
substitute = false
fsync-metadata = false
experimental-features = nix-command
"""
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/nix/home",
    "TMPDIR": "/nix/tmp",
    "NIX_CONF_DIR": "/nix/etc",
    "LC_ALL": "C.UTF-8",
}


class Prefix:
    """A private /nix for a Nix release."""

    def __init__(self, root, directory):
        self.root, self.directory = Path(root), Path(directory)
        for name in ("store", "etc", "home", "tmp"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        (self.directory / "etc/nix.conf").write_text(CONFIG)

    def on_host(self, path):
        """Returns the path on the host of a path below /nix."""
        return self.directory / Path(path).relative_to("/nix")

    def run(self, *command, text=None):
        """Runs a command until it exits; returns its standard output."""
        done = subprocess.run(self._enter(RUN, command), input=text, env=ENVIRONMENT, text=True, capture_output=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, command))[:200]} failed:\n{done.stderr[-4000:]}")
        return done.stdout

    def command(self, *command):
        """Returns the command line that runs a command here, in `ENVIRONMENT`."""
        return self._enter(RUN, command)

    def daemon(self):
        """Starts nix-daemon and waits until it listens."""
        socket = self.on_host("/nix/var/nix/daemon-socket/socket")
        if len(os.fsencode(socket)) > 107:
            raise RuntimeError(f"{socket} is too long for a socket\n  help: choose a shorter --dir")
        socket.unlink(missing_ok=True)
        log = self.directory / "daemon.log"
        command = self._enter(SERVE, ("nix-daemon", "--daemon"))
        daemon = processes.Process("nix-daemon", command, log=log, env=ENVIRONMENT, lives_by_input=True)
        daemon.socket = socket
        daemon.wait_until(lambda: processes.accepts_unix(socket))
        return daemon

    def _enter(self, script, command):
        user = [] if os.geteuid() == 0 else ["--map-root-user"]
        unshare = ["unshare", *user, "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", ENTER + script]
        return [*unshare, self.root, self.directory, *command]


def release(tests, suite):
    """Returns the root directory of a suite, unpacked if it does not exist yet."""
    command = tests / "nix-releases"
    subprocess.run([command, "get", suite], check=True, stdin=subprocess.DEVNULL)
    base = subprocess.run([command, "dir"], check=True, capture_output=True, text=True).stdout.strip()
    return Path(base) / suite
