"""Measured programs: start, readiness, and the resources of them and their children."""

import os
import resource
import signal
import socket
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")
# Upper bound of a start.
PATIENCE = 30


class Process:
    """A program that runs until `stop` or the end of the bench."""

    def __init__(self, name, command, log, env=None, lives_by_input=False):
        self.name, self.log = name, log
        # A program that ends with its standard input ends with the bench.
        entry = subprocess.PIPE if lives_by_input else subprocess.DEVNULL
        with open(log, "w") as output:
            self.child = subprocess.Popen(command, stdin=entry, stdout=output, stderr=output, env=env)

    def wait_until(self, condition):
        """Waits for a condition; fails if the program exits."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if self.child.poll() is not None or time.monotonic() > deadline:
                with open(self.log) as log:
                    raise RuntimeError(f"{self.name} does not listen:\n{log.read()[-4000:]}")
            time.sleep(0.005)

    def stop(self):
        if self.child.stdin:
            self.child.stdin.close()
        elif self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()

    def cpu(self):
        """Returns the CPU seconds of the program and its children, including those that it has reaped."""
        return sum(_cpu(pid) for pid in _tree(self.child.pid))

    def peak_memory(self):
        """Returns the peak resident memory of the largest process, in MiB."""
        return max((_peak(pid) for pid in _tree(self.child.pid)), default=0.0)


def children_cpu():
    """Returns the CPU seconds of the programs that this one has reaped."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _tree(pid):
    pids = [pid]
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as children:
                for child in children.read().split():
                    pids += _tree(int(child))
    except OSError:
        pass
    return pids


def _cpu(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            # From the third field, the state, since the name before it may have any characters.
            fields = stat.read().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return sum(int(field) for field in fields[11:15]) / TICKS


def _peak(pid):
    try:
        with open(f"/proc/{pid}/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def accepts_unix(path):
    """Returns whether a Unix socket accepts connections."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.fspath(path))
            return True
        except OSError:
            return False


def accepts(address):
    """Returns whether `host:port` accepts connections."""
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), 1).close()
        return True
    except OSError:
        return False


def free_address():
    """Returns a free address of this machine."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"
