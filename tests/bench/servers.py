"""The contenders: nginx with ready-made files, and harmonia, cold and warm.

A server is asked by the targets that it names itself: `narinfos` are the same for all, `nars` are the URLs of its
narinfos.
"""

import urllib.request
from pathlib import Path

import processes

# Request headers of Nix with the libcurl of Debian 12.
FIELDS = {"User-Agent": "curl/7.88.1 Nix/2.26.3", "Accept-Encoding": "deflate, gzip, br, zstd"}

NGINX = """daemon off;
user root;
pid @/pid;
error_log @/error.log;
worker_processes auto;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    client_body_temp_path @/body;
    proxy_temp_path @/proxy;
    fastcgi_temp_path @/fastcgi;
    uwsgi_temp_path @/uwsgi;
    scgi_temp_path @/scgi;
    server {{ listen {address}; root {root}; }}
}}
"""

HARMONIA = """bind = "{address}"
daemon_socket = "{socket}"
real_nix_store = "{store}"
sign_key_paths = ["{key}"]
{settings}
{memory}
[nar_cache]
dir = "{cache}"
"""

# What is set beside the places: nothing, nothing but that NARs are plain, and plain NARs as the daemon dumps them.
SETTINGS = {
    "harmonia": "",
    "harmonia plain": "enable_compression = false",
    "harmonia daemon": 'enable_compression = false\nnar_source = "daemon"',
}
# Size of the narinfo cache by number of paths, where the default is too small.
MEMORY = ((100_000, ""), (1_000_000, 'narinfo_cache.max_size = "1 GiB"\nnarinfo_cache.ttl = 3600'))


class Server:
    """A running server and its narinfos."""

    def __init__(self, name, address, process, directory):
        self.name, self.address, self.process, self.directory = name, address, process, directory

    def learn(self, narinfos):
        """Reads all narinfos for their URLs and sizes."""
        self.nars, self.sizes = [], []
        for narinfo in narinfos:
            fields = self.fields(narinfo)
            self.nars.append(f"/{fields['URL']}")
            self.sizes.append(int(fields["NarSize"]))

    def fields(self, narinfo):
        """Returns the fields of a narinfo."""
        request = urllib.request.Request(f"http://{self.address}{narinfo}")
        with urllib.request.urlopen(request) as answer:
            return dict(line.split(": ", 1) for line in answer.read().decode().splitlines())

    def stop(self):
        """Stops it; returns its peak resident memory, in MiB."""
        peak = self.process.peak_memory()
        self.process.stop()
        return peak


def nginx(name, root, scratch):
    """nginx with the files below `root`."""
    address = processes.free_address()
    work = Path(scratch) / name.replace(" ", "-")
    work.mkdir(parents=True, exist_ok=True)
    config = NGINX.replace("@", str(work)).format(address=address, root=root)
    (work / "nginx.conf").write_text(config)
    command = ["nginx", "-e", work / "error.log", "-p", work, "-c", work / "nginx.conf"]
    process = processes.Process(name, command, work / "log")
    process.wait_until(lambda: processes.accepts(address))
    return Server(name, address, process, Path(root))


class Harmonia:
    """Starts harmonia on a store any number of times, each with an empty cache."""

    def __init__(self, program, daemon, prefix, scratch, name, paths=0):
        self.program, self.daemon, self.prefix = program, daemon, prefix
        self.scratch, self.name = Path(scratch), name
        self.memory = next(setting for most, setting in MEMORY if paths <= most)
        self.started = 0

    def start(self):
        """Returns a process that had no request yet."""
        self.started += 1
        address = processes.free_address()
        work = self.scratch / f"{self.name.replace(' ', '-')}-{self.started}"
        work.mkdir(parents=True)
        config = HARMONIA.format(
            address=address,
            socket=self.daemon.socket,
            store=self.prefix.directory / "store",
            key=self._key(),
            settings=SETTINGS[self.name],
            memory=self.memory,
            cache=work / "cache",
        )
        (work / "config.toml").write_text(config)
        command = [self.program, "--config", work / "config.toml"]
        process = processes.Process(self.name, command, work / "log", env={})
        # Its first connection to nix-daemon is open then.
        process.wait_until(lambda: is_ready(address))
        return Server(self.name, address, process, work)

    def _key(self):
        key = self.prefix.directory / "etc/secret"
        if not key.exists():
            self.prefix.run("nix-store", "--generate-binary-cache-key", "bench-1", "/nix/etc/secret", "/nix/etc/public")
        return key


def is_ready(address):
    """Returns whether harmonia answers and reaches nix-daemon."""
    try:
        with urllib.request.urlopen(f"http://{address}/ready") as answer:
            return answer.status == 200
    except OSError:
        return False


def static_copy(prefix, compression):
    """Copies all valid paths to a static binary cache with Nix; returns its directory on the host."""
    name = f"copy-{compression}"
    done = prefix.directory / name / "done"
    if not done.exists():
        prefix.run("nix", "copy", "--all", "--no-check-sigs", "--to", f"file:///nix/{name}?compression={compression}")
        done.write_text("")
    return prefix.directory / name
