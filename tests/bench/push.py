"""Pushes of the store of packages: to harmonia, beside what bounds them. That is the same `nix copy` to files, and
nix-daemon's own import of the same closure.

Each round takes turns, each time into an empty store. The same release is client and daemon.
"""

import shutil
import statistics
import subprocess
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

    def __init__(self, program, root, source, top, scratch):
        self.program, self.root, self.source, self.top, self.scratch = program, root, source, top, Path(scratch)
        self.rows, self.peaks, self.started = {}, [], 0
        self.public = self._sign()

    def round(self):
        """Measures each once."""
        for compression in COMPRESSIONS:
            self._measure(f"file {compression}", lambda: self._to_files(compression))
            self._measure(f"push {compression}", lambda: self._to_harmonia(compression))
        self._measure("import", self._import)

    def result(self):
        """Returns medians in seconds, their ratios to files and import together, and the peak memory in MiB."""
        median = {row: statistics.median(seconds) for row, seconds in self.rows.items()}
        ratio = {
            compression: median[f"push {compression}"] / (median[f"file {compression}"] + median["import"])
            for compression in COMPRESSIONS
        }
        return {"seconds": self.rows, "medians": median, "ratios": ratio, "peak_memory": max(self.peaks)}

    def _sign(self):
        secret = self.source.directory / "etc/push-secret"
        public = self.source.directory / "etc/push-public"
        if not public.exists():
            self.source.run("nix-store", "--generate-binary-cache-key", "push-1", "/nix/etc/push-secret", "/nix/etc/push-public")
            self.source.run("nix", "store", "sign", "--recursive", "--key-file", f"/nix/etc/{secret.name}", self.top)
        return public.read_text().strip()

    def _measure(self, row, run):
        seconds = run()
        self.rows.setdefault(row, []).append(seconds)
        print(f"{row}: {seconds:.1f} s", flush=True)

    def _copy(self, to):
        begin = time.monotonic()
        self.source.run("nix", "copy", "--to", to, self.top)
        return time.monotonic() - begin

    def _to_files(self, compression):
        seconds = self._copy(f"file:///nix/push-files?compression={compression}")
        shutil.rmtree(self.source.directory / "push-files")
        return seconds

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
            seconds = self._copy(f"http://{address}?compression={compression}")
            prefix.run("nix-store", "--check-validity", self.top)
            self.peaks.append(process.peak_memory())
        finally:
            process.stop()
            daemon.stop()
        shutil.rmtree(prefix.directory)
        shutil.rmtree(work)
        return seconds

    def _import(self):
        prefix, daemon = self._daemon()
        exported = self._exported()
        begin = time.monotonic()
        with open(exported, "rb") as stream:
            environment = nix.ENVIRONMENT | {"NIX_REMOTE": "daemon"}
            command = prefix.command("nix-store", "--import")
            subprocess.run(command, env=environment, stdin=stream, stdout=subprocess.DEVNULL, check=True)
        seconds = time.monotonic() - begin
        daemon.stop()
        shutil.rmtree(prefix.directory)
        return seconds

    def _exported(self):
        """Returns a file with the closure as `nix-store --import` reads it."""
        file = self.scratch / "closure"
        if not file.exists():
            closure = self.source.run("nix-store", "--query", "--requisites", self.top).split()
            with open(file, "wb") as stream:
                command = self.source.command("nix-store", "--export", *closure)
                subprocess.run(command, env=nix.ENVIRONMENT, stdout=stream, check=True)
        return file
