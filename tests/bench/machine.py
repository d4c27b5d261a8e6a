"""The machine and the programs of a measurement."""

import os
import platform
import re
import subprocess


def describe():
    """Returns the machine and the releases of all programs."""
    with open("/proc/cpuinfo") as file:
        model = re.search(r"^model name\s*:\s*(.*)$", file.read(), re.MULTILINE)
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1]) / (1 << 20)
    return {
        "processor": model.group(1) if model else platform.machine(),
        "processors": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "kernel": platform.release(),
        "nginx": _version("nginx", "-v"),
        "zstd": _version("zstd", "--version"),
        "cargo": _version("cargo", "--version"),
    }


def _version(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"\d+\.\d+(\.\d+)*", done.stdout + done.stderr)
    return found.group(0) if found else "unknown"
