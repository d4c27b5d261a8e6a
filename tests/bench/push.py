"""Pushes of the store of packages: to harmonia, beside what bounds them. That is the same `nix copy` to files, and
nix-daemon's own import of the same closure.

Each round takes turns, each time into an empty store. The same release is client and daemon. Processor seconds are those of
client, harmonia and nix-daemon together.
"""

import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import nix
import processes
import servers

CONFIG = """bind = "{address}"
daemon_socket = "{socket}"
state_dir = "{state}"
gc_protection = 0

[push]
max_nar_size = "4 GiB"

[access]
anonymous = ["read", "push"]
"""
COMPRESSIONS = ("none", "zstd")


class Pushes:
    """A source with signed paths, and what they are pushed to."""

    def __init__(self, program, root, source, tops, scratch):
        self.program, self.root, self.source, self.tops, self.scratch = program, root, source, tops, Path(scratch)
        self.rows, self.peaks, self.started = {}, [], 0
        self.public = self._sign()

    def round(self):
        """Measures each once."""
        for compression in COMPRESSIONS:
            self._measure(f"file {compression}", lambda: self._to_files(compression))
            self._measure(f"push {compression}", lambda: self._to_harmonia(compression))
        self._measure("import", self._import)

    def result(self):
        """Returns seconds and processor seconds, the ratios of their medians to files and import together, and the peak memory of
        harmonia in MiB."""
        result = {"rows": self.rows, "peak_memory": max(self.peaks)}
        for index, what in enumerate(("seconds", "processor")):
            median = {row: statistics.median(run[index] for run in runs) for row, runs in self.rows.items()}
            result[f"{what}_ratios"] = {
                compression: round(median[f"push {compression}"] / (median[f"file {compression}"] + median["import"]), 3)
                for compression in COMPRESSIONS
            }
        return result

    def _sign(self):
        secret = self.source.directory / "etc/push-secret"
        public = self.source.directory / "etc/push-public"
        if not public.exists():
            self.source.run("nix-store", "--generate-binary-cache-key", "push-1", "/nix/etc/push-secret", "/nix/etc/push-public")
            self.source.run("nix", "store", "sign", "--recursive", "--key-file", f"/nix/etc/{secret.name}", *self.tops)
        return public.read_text().strip()

    def _measure(self, row, run):
        seconds, processor = run()
        self.rows.setdefault(row, []).append((seconds, processor))
        print(f"{row}: {seconds:.1f} s, {processor:.1f} s of processors", file=sys.stderr, flush=True)

    def _copy(self, to):
        return _timed(lambda: self.source.run("nix", "copy", "--to", to, *self.tops))

    def _to_files(self, compression):
        costs = self._copy(f"file:///nix/push-files?compression={compression}")
        shutil.rmtree(self.source.directory / "push-files")
        return costs

    def _daemon(self):
        self.started += 1
        prefix = nix.Prefix(self.root, self.scratch / f"push-{self.started}")
        config = prefix.directory / "etc/nix.conf"
        config.write_text(config.read_text() + f"trusted-public-keys = {self.public}\n")
        return prefix, prefix.daemon()

    def _to_harmonia(self, compression):
        prefix, daemon = self._daemon()
        work = self.scratch / f"push-harmonia-{self.started}"
        work.mkdir()
        address = processes.free_address()
        (work / "config.toml").write_text(CONFIG.format(address=address, socket=daemon.socket, state=work / "state"))
        command = [self.program, "--config", work / "config.toml"]
        process = processes.Process("harmonia", command, work / "log", env={})
        process.wait_until(lambda: servers.is_ready(address))
        try:
            seconds, of_client = self._copy(f"http://{address}?compression={compression}")
            prefix.run("nix-store", "--check-validity", *self.tops)
            self.peaks.append(process.peak_memory())
            costs = seconds, of_client + process.cpu() + daemon.cpu()
        finally:
            process.stop()
            daemon.stop()
        shutil.rmtree(prefix.directory)
        shutil.rmtree(work)
        return costs

    def _import(self):
        prefix, daemon = self._daemon()
        exported = self._exported()
        environment = nix.ENVIRONMENT | {"NIX_REMOTE": "daemon"}
        command = prefix.command("nix-store", "--import")
        with open(exported, "rb") as stream:
            seconds, of_client = _timed(
                lambda: subprocess.run(command, env=environment, stdin=stream, stdout=subprocess.DEVNULL, check=True)
            )
        costs = seconds, of_client + daemon.cpu()
        daemon.stop()
        shutil.rmtree(prefix.directory)
        return costs

    def _exported(self):
        """Returns a file with the closure as `nix-store --import` reads it."""
        file = self.scratch / "closure"
        if not file.exists():
            closure = self.source.run("nix-store", "--query", "--requisites", *self.tops).split()
            with open(file, "wb") as stream:
                command = self.source.command("nix-store", "--export", *closure)
                subprocess.run(command, env=nix.ENVIRONMENT, stdout=stream, check=True)
        return file


def _timed(run):
    """Returns the seconds that this takes, and the processor seconds of the programs that it runs."""
    begin, used = time.monotonic(), processes.children_cpu()
    run()
    return time.monotonic() - begin, processes.children_cpu() - used
