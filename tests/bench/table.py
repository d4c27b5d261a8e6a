"""The result as a table: medians, and ratios to nginx with the same form of NARs."""

import statistics

# Each nginx with those that are compared with it.
GROUPS = (("nginx", ("harmonia plain", "harmonia daemon")), ("nginx zstd", ("harmonia",)))
COLUMNS = [name for theirs, ours in GROUPS for name in (theirs, *ours)]
HEAD = ["what"]
for theirs, ours in GROUPS:
    HEAD += [theirs, *(cell for name in ours for cell in (name, "ratio"))]


def text(result):
    """Returns the description of the machine and the tables, as text for terminals that is also Markdown."""
    parts = [machine(result)]
    if "rows" in result:
        parts += [times(result), costs(result), bounds(result)]
    if "connections" in result:
        parts.append(connections(result))
    if "paths" in result:
        parts.append(paths(result))
    if "publish" in result:
        parts.append(publishing(result["publish"]))
    return "\n\n".join(part for part in parts if part)


def machine(result):
    """Returns the description of store and machine."""
    it = result["machine"]
    lines = [
        f"{it['processors']} × {it['processor']}, {it['memory_gib']} GiB, Linux {it['kernel']}; "
        f"Nix {it['nix']}, nginx {it['nginx']}, zstd {it['zstd']}, cargo {it['cargo']}. "
        f"Medians of {result['rounds']} rounds.",
    ]
    if "nar_bytes" in result:
        megabytes, largest = result["nar_bytes"] / 1e6, result["largest_nar_bytes"] / 1e6
        lines.append(f"{result['paths_served']} paths, {megabytes:.0f} MB of NARs, the largest of {largest:.0f} MB.")
    return "\n".join(lines)


def times(result):
    """Returns the table of clients' waiting times."""
    lines = []
    for row, by_name in result["rows"].items():
        if set(by_name) & set(COLUMNS):
            per_request = row.startswith(("narinfo", "last"))
            unit = ", µs each" if per_request else ", s"
            # Total time over number of requests: with 16 connections the latency of one request is longer.
            scale = (lambda it: it["seconds"] / it["requests"] * 1e6) if per_request else (lambda it: it["seconds"])
            lines.append([row + unit, *_compared(by_name, scale, 1 if per_request else 2)])
    return _table(HEAD, lines)


def costs(result):
    """Returns the table of CPU time of server and daemon, bytes sent, and memory."""
    lines = []
    for row, by_name in result["rows"].items():
        if row.startswith("narinfo"):
            each = lambda it: it["server_cpu"] / it["requests"] * 1e6
            lines.append([f"{row}: server CPU, µs each", *_compared(by_name, each, 1)])
        if row.startswith("closure"):
            lines.append([f"{row}: server CPU, s", *_compared(by_name, lambda it: it["server_cpu"], 2)])
            if "cold" in row:
                lines.append([f"{row}: daemon CPU, s", *_compared(by_name, lambda it: it["daemon_cpu"], 2)])
    for row, by_name in result["rows"].items():
        if row == "closure warm, 4 connections":
            lines.append(["closure: MB on the wire", *_compared(by_name, lambda it: it["wire_bytes"] / 1e6, 1)])
    peaks = {name: [{"peak": peak}] for name, peak in result["peak_mib"].items()}
    lines.append(["peak memory through all of it, MiB", *_compared(peaks, lambda it: it["peak"], 0)])
    return _table(HEAD, lines)


def bounds(result):
    """Returns the table of lower bounds: nix-daemon and compression."""
    lines = []
    nar_mb = result["nar_bytes"] / 1e6
    for row, by_name in result["rows"].items():
        for name, results in by_name.items():
            if name in COLUMNS:
                continue
            seconds = _median(results, lambda it: it["seconds"])
            cpu = _median(results, lambda it: it.get("daemon_cpu", it["cpu"]))
            size = f"{results[0]['body_bytes'] / 1e6:.1f}" if "body_bytes" in results[0] else ""
            lines.append([row, f"{seconds:.2f}", f"{nar_mb / seconds:.0f}", f"{cpu:.2f}", size])
    return _table(("what bounds it", "s", "MB/s of NARs", "CPU, s", "MB written"), lines)


def connections(result):
    """Returns the table of narinfos by connections."""
    lines = []
    by_name = result["connections"]
    for count in by_name["nginx"]:
        nginx, ours = by_name["nginx"][count], by_name["harmonia"][count]
        each = lambda results: _median(results, lambda it: it["seconds"] / it["requests"] * 1e6)
        late = lambda results: _median(results, lambda it: it["p99_us"] / 1e3)
        values = each(nginx), each(ours), each(ours) / each(nginx), late(nginx), late(ours)
        lines.append([count, *(f"{value:.{digits}f}" for value, digits in zip(values, (1, 1, 2, 1, 1)))])
    head = ("connections", "nginx, µs each", "harmonia, µs each", "ratio", "nginx p99, ms", "harmonia p99, ms")
    return _table(head, lines)


def paths(result):
    """Returns the table of narinfos by paths."""
    lines = []
    by_name = result["paths"]
    for count in by_name["nginx"]:
        each = [_median(by_name[name][count], lambda it: it["seconds"] / it["requests"] * 1e6) for name in by_name]
        memory = _median(by_name["harmonia warm"][count], lambda it: it["peak_mib"])
        lines.append([count, *(f"{value:.1f}" for value in each), f"{memory:.0f}"])
    return _table(("paths", *(f"{name}, µs each" for name in by_name), "peak memory, MiB"), lines)


def publishing(result):
    """Returns the table of publishing beside `nix copy`, with ratios of the medians."""
    lines = []
    for row, runs in result["rows"].items():
        cells = [f"{statistics.median(values):.2f}" for values in zip(*runs)]
        kind = row.rsplit(" ", 1)[1]
        ratios = [result[f"{what}_ratios"][kind] if row.startswith("publish") else "" for what in ("seconds", "processor")]
        lines.append([row, cells[0], ratios[0], cells[1], ratios[1]])
    table = _table(("what", "s", "ratio", "CPU of all programs, s", "ratio"), lines)
    return f"{table}\n\nPeak memory of harmonia: {result['peak_memory']:.0f} MiB."


def _compared(by_name, of, digits):
    """Returns the medians of all contenders, with the ratios of harmonia to nginx."""
    cells, values = [], {name: _median(results, of) for name, results in by_name.items()}
    for theirs, ours in GROUPS:
        cells.append(f"{values[theirs]:.{digits}f}" if theirs in values else "")
        for name in ours:
            cells.append(f"{values[name]:.{digits}f}" if name in values else "")
            is_comparable = values.get(theirs) and name in values
            cells.append(f"{values[name] / values[theirs]:.2f}" if is_comparable else "")
    return cells


def _median(results, of):
    return statistics.median(map(of, results))


def _table(head, lines):
    if not lines:
        return ""
    rows = [list(head), *[[str(cell) for cell in line] for line in lines]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    fill = lambda column, cell: cell.rjust(widths[column]) if column else cell.ljust(widths[column])
    padded = [[fill(column, cell) for column, cell in enumerate(row)] for row in rows]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in [padded[0], rule, *padded[1:]])
