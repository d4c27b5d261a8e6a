"""One measurement: requests for targets over some connections, and their cost for each process."""

import json
import subprocess

import processes
import servers


class Load:
    """The load generator."""

    def __init__(self, program, daemon):
        self.program, self.daemon = program, daemon

    def ask(self, server, targets, connections, requests=None, fields=None):
        """Sends requests to a server; returns after the last response."""
        command = [self.program, "load"]
        if requests:
            command += ["--requests", str(requests)]
        for name, value in {**servers.FIELDS, **(fields or {})}.items():
            command += ["--field", f"{name}: {value}"]
        command += [server.address, str(connections)]
        before = (server.process.cpu(), self.daemon.cpu(), processes.children_cpu())
        done = subprocess.run(command, input="\n".join(targets) + "\n", text=True, capture_output=True)
        if done.returncode != 0:
            raise RuntimeError(f"{server.name}: {done.stderr.strip()}")
        result = json.loads(done.stdout)
        after = (server.process.cpu(), self.daemon.cpu(), processes.children_cpu())
        names = ("server_cpu", "daemon_cpu", "load_cpu")
        result.update({name: late - early for name, early, late in zip(names, before, after)})
        result["peak_mib"] = server.process.peak_memory()
        return result
