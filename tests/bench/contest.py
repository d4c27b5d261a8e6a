"""The rows of the table: the requests to each contender, round by round.

Within a round each row goes through the contenders one after the other, so that a machine that is busy for a while is
busy for all of them. "cold" is a process that has just been started, with an empty cache; "warm" is one that has
answered it all before. All files, those of the store, of the copies and of warm caches, have been read once before:
no contender waits for a disk.
"""

import os
import subprocess
import tempfile
import time

import processes

CONNECTIONS = (1, 4, 16)
NARINFO_CONNECTIONS = (1, 16)
# Requests of a measurement of warm narinfos.
NARINFO_REQUESTS = 30_000
# Requests of a measurement of ranges, each of which is short.
RANGE_REQUESTS = 5
LEVEL = ("-3", "--long=25")


class Contest:
    """All contenders on one store, and their results."""

    def __init__(self, load, daemon, nginxes, harmonias, paths, dump):
        self.load, self.daemon, self.dump = load, daemon, dump
        self.nginxes, self.harmonias, self.paths = nginxes, harmonias, paths
        self.narinfos = [f"/{path.rsplit('/', 1)[1][:32]}.narinfo" for path in paths]
        self.results = {}
        self.peaks = {}
        self.warm = []

    def prepare(self):
        """Starts the warm processes, reads everything once and checks the responses."""
        for server in self.nginxes:
            server.learn(self.narinfos)
        for harmonia in self.harmonias:
            server = harmonia.start()
            server.learn(self.narinfos)
            self.warm.append(server)
        # Twice: the first time fills the caches, the second time reads them.
        for _ in range(2):
            for server in self.nginxes + self.warm:
                result = self.load.ask(server, server.nars, 4)
                if server.nars[0].endswith(".nar") and result["body_bytes"] != sum(server.sizes):
                    raise RuntimeError(f"{server.name} did not send all NARs whole")

    def server(self, name):
        """The warm process of this name."""
        return next(server for server in self.nginxes + self.warm if server.name == name)

    def round(self, parts):
        if "narinfo" in parts:
            self._narinfo()
        if "closure" in parts:
            for connections in CONNECTIONS:
                self._closures(connections)
        if "range" in parts:
            self._range()
        if "bounds" in parts:
            self._bounds()

    def result(self):
        """Returns all results."""
        for server in self.warm:
            self._note_peak(server.name, server.process.peak_memory())
        sizes = self.server("nginx").sizes
        return {
            "paths_served": len(self.paths),
            "nar_bytes": sum(sizes),
            "largest_nar_bytes": max(sizes),
            "rows": self.results,
            "peak_mib": self.peaks,
        }

    def stop(self):
        """Stops the processes that `prepare` started."""
        for server in self.warm:
            server.stop()

    def _narinfo(self):
        for connections in NARINFO_CONNECTIONS:
            ask = lambda server: self.load.ask(server, self.narinfos, connections)
            self._each(f"narinfo cold, {_over(connections)}", ask, cold=True, without=("harmonia daemon",))
            ask = lambda server: self.load.ask(server, self.narinfos, connections, requests=NARINFO_REQUESTS)
            self._each(f"narinfo warm, {_over(connections)}", ask, without=("harmonia daemon",))

    def _closures(self, connections):
        for temperature in ("cold", "warm"):
            ask = lambda server: self.load.ask(server, self.server(server.name).nars, connections)
            self._each(f"closure {temperature}, {_over(connections)}", ask, cold=temperature == "cold")

    def _range(self):
        """Measures requests for the last KiB of the largest plain NAR."""
        plain = self.server("nginx")
        largest = max(range(len(plain.sizes)), key=plain.sizes.__getitem__)
        first = plain.sizes[largest] - 1024
        field = {"Range": f"bytes={first}-"}

        def ask(server):
            nars = plain.nars if server is plain else self.server("harmonia plain").nars
            return self.load.ask(server, [nars[largest]], 1, requests=RANGE_REQUESTS, fields=field)

        self._each("last KiB of the largest nar", ask, without=("nginx zstd",))

    def _bounds(self):
        """Measures the lower bounds: NARs from nix-daemon, read and dropped, and zstd alone."""
        environment = {**os.environ, "NIX_DAEMON_SOCKET_PATH": str(self.daemon.socket)}
        before = self.daemon.cpu()
        took = _run([self.dump, *self.paths], environment=environment)
        self._enter("the daemon's dump, 1 connection", "daemon", {**took, "daemon_cpu": self.daemon.cpu() - before})
        plain = self.server("nginx")
        files = [plain.directory / name[1:] for name in plain.nars]
        for name in files:
            with open(name, "rb") as file:
                while file.read(1 << 20):
                    pass
        command = ["zstd", "--quiet", "--single-thread", *LEVEL, "--stdout", *files]
        with tempfile.TemporaryFile() as output:
            took = _run(command, output=output)
            took["body_bytes"] = output.tell()
        self._enter(f"zstd {' '.join(LEVEL)}, 1 thread", "zstd", took)

    def _each(self, row, ask, cold=False, without=()):
        for server in self.nginxes:
            if server.name not in without:
                self._enter(row, server.name, ask(server))
        for harmonia in self.harmonias:
            if harmonia.name in without:
                continue
            server = harmonia.start() if cold else self.server(harmonia.name)
            self._enter(row, server.name, ask(server))
            if cold:
                # Its files stay: for minutes after many were removed a file system is slow to give out new ones.
                self._note_peak(server.name, server.stop())

    def _enter(self, row, name, result):
        self.results.setdefault(row, {}).setdefault(name, []).append(result)

    def _note_peak(self, name, mebibytes):
        self.peaks[name] = max(self.peaks.get(name, 0), mebibytes)


def _over(connections):
    return f"{connections} connection{'s' * (connections > 1)}"


def _run(command, output=subprocess.DEVNULL, environment=None):
    cpu = processes.children_cpu()
    began = time.monotonic()
    subprocess.run(command, env=environment, check=True, stdout=output)
    return {"seconds": time.monotonic() - began, "cpu": processes.children_cpu() - cpu}
