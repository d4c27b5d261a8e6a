"""Publishing the store of packages: by `harmonia bucket publish` into a directory and into a server with the S3 API, beside
`nix copy --to file://` and `nix copy --to s3://` into the same.

Each round takes turns, each time into an empty bucket and with an empty NAR cache. Processor seconds are those of all programs:
command, harmonia, nix-daemon and server.
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
admin_socket = "{work}/admin.sock"
state_dir = "{work}/state"
real_nix_store = "{store}"
sign = "all"
sign_key_paths = ["{key}"]
gc_protection = 0
nar_cache.dir = "{work}/cache"

[bucket]
host = "bench"
{bucket}
"""
# The first release of Debian's that has s3://, without signatures.
S3_SUITE = "sid"


class Publishing:
    """A source, and what it is published to."""

    def __init__(self, program, tests, source, daemon, tops, scratch):
        self.program, self.source, self.daemon, self.tops, self.scratch = program, source, daemon, tops, Path(scratch)
        self.rows, self.peaks = {}, []
        self.rclone = _rclone(tests)
        # The same store, by another release.
        self.newer = nix.Prefix(nix.release(tests, S3_SUITE), source.directory)
        self.key = source.directory / "etc/publish-secret"
        if not self.key.exists():
            names = [f"/nix/etc/publish-{half}" for half in ("secret", "public")]
            source.run("nix-store", "--generate-binary-cache-key", "publish-1", *names)

    def round(self):
        """Measures each once."""
        self._measure("nix copy to file", self._nix_to_files)
        self._measure("publish to file", self._to_files)
        if self.rclone:
            self._measure("nix copy to s3", self._nix_to_server)
            self._measure("publish to s3", self._to_server)

    def result(self):
        """Returns seconds and processor seconds, the ratios of the medians to those of `nix copy`, and the peak memory of harmonia
        in MiB."""
        result = {"rows": self.rows, "peak_memory": max(self.peaks)}
        for index, what in enumerate(("seconds", "processor")):
            median = {row: statistics.median(run[index] for run in runs) for row, runs in self.rows.items()}
            kinds = [kind for kind in ("file", "s3") if f"publish to {kind}" in median]
            result[f"{what}_ratios"] = {
                kind: round(median[f"publish to {kind}"] / median[f"nix copy to {kind}"], 3) for kind in kinds
            }
        return result

    def _measure(self, row, run):
        seconds, processor = run()
        self.rows.setdefault(row, []).append((seconds, processor))
        print(f"{row}: {seconds:.1f} s, {processor:.1f} s of processors", file=sys.stderr, flush=True)

    def _forget(self):
        """Removes what Nix remembers of caches, by URLs that say nothing of the server."""
        shutil.rmtree(self.source.directory / "home/.cache/nix", ignore_errors=True)

    def _nix_to_files(self):
        self._forget()
        to = "file:///nix/publish-files?compression=zstd"
        costs = _timed(lambda: self.newer.run("nix", "copy", "--no-check-sigs", "--to", to, *self.tops))
        shutil.rmtree(self.source.directory / "publish-files")
        return costs

    def _to_files(self):
        directory = self.scratch / "publish-files"
        directory.mkdir()
        costs = self._published(f'url = "file://{directory}"')
        shutil.rmtree(directory)
        return costs

    def _nix_to_server(self):
        self._forget()
        return self._with_server(
            lambda address: _timed(
                lambda: self.newer.run(
                    "nix", "copy", "--no-check-sigs", "--to",
                    f"s3://bench?endpoint=http://{address}&region=us-east-1&compression=zstd", *self.tops,
                )
            )
        )

    def _to_server(self):
        return self._with_server(
            lambda address: self._published(f'url = "s3://bench"\nendpoint = "http://{address}"\nallow_http = true')
        )

    def _with_server(self, run):
        """Runs with an empty server, and adds its processor seconds."""
        objects, address = self.scratch / "publish-objects", processes.free_address()
        (objects / "bench").mkdir(parents=True)
        command = [self.rclone, "--config", "/dev/null", "serve", "s3", objects, "--addr", address]
        server = processes.Process("rclone", command, self.scratch / "rclone.log")
        try:
            server.wait_until(lambda: processes.accepts(address))
            seconds, processor = run(address)
            return seconds, processor + server.cpu()
        finally:
            server.stop()
            shutil.rmtree(objects)

    def _published(self, bucket):
        work = self.scratch / "publish-harmonia"
        work.mkdir()
        address = processes.free_address()
        values = {"address": address, "socket": self.daemon.socket, "work": work, "key": self.key, "bucket": bucket}
        config = work / "config.toml"
        config.write_text(CONFIG.format(store=self.source.directory / "store", **values))
        before = self.daemon.cpu()
        harmonia = processes.Process("harmonia", [self.program, "--config", config], work / "log", env={})
        try:
            harmonia.wait_until(lambda: servers.is_ready(address))
            command = [self.program, "--config", config, "bucket", "publish", *self.tops]
            seconds, of_command = _timed(lambda: subprocess.run(command, env={}, stdin=subprocess.DEVNULL, check=True))
            self.peaks.append(harmonia.peak_memory())
            return seconds, of_command + harmonia.cpu() + self.daemon.cpu() - before
        finally:
            harmonia.stop()
            shutil.rmtree(work)


def _rclone(tests):
    """Returns the program, or `None` if it cannot be installed here."""
    engines = tests / "object-stores/engines"
    subprocess.run([engines, "get", "rclone"], check=True, stdin=subprocess.DEVNULL)
    base = subprocess.run([engines, "dir"], check=True, capture_output=True, text=True).stdout.strip()
    return next(Path(base).glob("rclone-*-*/bin/rclone"), None)


def _timed(run):
    """Returns the seconds that this takes, and the processor seconds of the programs that it runs."""
    begin, used = time.monotonic(), processes.children_cpu()
    run()
    return time.monotonic() - begin, processes.children_cpu() - used
