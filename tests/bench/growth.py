"""Cost of a narinfo by the number of requested paths, and by the number of connections."""

import http.client

import servers

CONNECTIONS = (1, 4, 16, 64, 250, 500)
PATHS = (100, 1_000, 10_000, 100_000, 1_000_000)
# Minimum of requests of a measurement, which requests each path at least once.
REQUESTS = 30_000


def with_connections(contest, rounds):
    """Warm narinfos of the store of packages, by one to very many connections."""
    results = {}
    for _ in range(rounds):
        for connections in CONNECTIONS:
            for server in (contest.server("nginx"), contest.server("harmonia")):
                result = contest.load.ask(server, contest.narinfos, connections, requests=REQUESTS)
                results.setdefault(server.name, {}).setdefault(str(connections), []).append(result)
    return results


def with_paths(load, harmonia, prefix, paths, scratch, rounds):
    """Narinfos of growing subsets of a store of small paths."""
    narinfos = [f"/{path.rsplit('/', 1)[1][:32]}.narinfo" for path in paths]
    results = {}
    files = _static_narinfos(harmonia, prefix, narinfos)
    nginx = servers.nginx("nginx", files, scratch / "many")
    try:
        for _ in range(rounds):
            for count in (count for count in PATHS if count <= len(narinfos)):
                asked = narinfos[:count]
                fresh = harmonia.start()
                try:
                    measured = {
                        "nginx": load.ask(nginx, asked, 1, requests=max(count, REQUESTS)),
                        "harmonia cold": load.ask(fresh, asked, 1),
                        "harmonia warm": load.ask(fresh, asked, 1, requests=max(count, REQUESTS)),
                    }
                finally:
                    fresh.stop()
                for name, result in measured.items():
                    results.setdefault(name, {}).setdefault(str(count), []).append(result)
    finally:
        nginx.stop()
    return results


def _static_narinfos(harmonia, prefix, narinfos):
    """Writes harmonia's narinfos to files; returns their directory."""
    directory = prefix.directory / "narinfos"
    if (directory / "done").exists():
        return directory
    directory.mkdir(exist_ok=True)
    server = harmonia.start()
    try:
        connection = http.client.HTTPConnection(server.address)
        for narinfo in narinfos:
            connection.request("GET", narinfo)
            (directory / narinfo[1:]).write_bytes(connection.getresponse().read())
    finally:
        server.stop()
    (directory / "done").write_text("")
    return directory
