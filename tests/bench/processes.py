"""Programs under measurement: started, waited for, and what they and their children cost."""

import os
import resource
import signal
import socket
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")
# A program that takes longer to listen will not.
PATIENCE = 30


class Process:
    """A program that runs until `stop`, or until the bench ends."""

    def __init__(self, name, command, log, env=None, lives_by_input=False):
        self.name, self.log = name, log
        # Whatever lives by its standard input ends with the bench, however that ends.
        entry = subprocess.PIPE if lives_by_input else subprocess.DEVNULL
        with open(log, "w") as output:
            self.child = subprocess.Popen(command, stdin=entry, stdout=output, stderr=output, env=env)

    def wait_until(self, condition):
        """Waits for a condition that only the program can bring about."""
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
        """Processor seconds of the program, of its children and of those that it has waited for."""
        return sum(_cpu(pid) for pid in _tree(self.child.pid))

    def peak_memory(self):
        """The largest resident set that any of the processes had, in MiB."""
        return max((_peak(pid) for pid in _tree(self.child.pid)), default=0.0)


def children_cpu():
    """Processor seconds of the programs that this one has waited for."""
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
            # From the state on, which is the third field: the name before it may hold anything.
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
    """Whether somebody listens at a Unix socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.fspath(path))
            return True
        except OSError:
            return False


def accepts(address):
    """Whether somebody listens at `host:port`."""
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), 1).close()
        return True
    except OSError:
        return False


def free_address():
    """An address of this machine that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"
