"""One measurement: targets asked for over so many connections, and what that cost each who took part."""

import json
import subprocess

import processes
import servers


class Load:
    """The program that asks."""

    def __init__(self, program, daemon):
        self.program, self.daemon = program, daemon

    def ask(self, server, targets, connections, requests=None, fields=None):
        """Asks a server; all answers have come when this returns."""
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
