"""Processes of an object store, and the protocol by which tests command them.

Standard output says how to reach the store, one `NAME=value` a line, then `ready`. Standard input takes commands, one a line,
each answered by a line that is `ok` or begins with `error: `:

    kill NODE      SIGKILL
    start NODE     start again, and wait until it listens
    pause NODE     SIGSTOP: it accepts connections and answers nothing
    resume NODE    SIGCONT
    repair         let nodes exchange what some of them missed (Swift)

The end of standard input ends everything. A node ends with this process, however that ends.
"""

import ctypes
import os
import random
import signal
import socket
import sys
import time
import traceback

# Exit status if this machine lacks what the store needs.
UNAVAILABLE = 3
# Below the ports that the kernel gives to connections, so that a killed node gets its port back.
PORTS = range(10_000, 32_000)
# Upper bound of a start, in seconds, generous because the machine may be busy.
START_TIMEOUT = 120

PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None, use_errno=True)


class Ports:
    """Free ports, each held until its node starts."""

    def __init__(self):
        self.held = {}

    def reserve(self, addresses):
        """Returns a port that is free at each of these addresses."""
        while True:
            port = random.choice(PORTS)
            sockets = {}
            try:
                for address in addresses:
                    sockets[address, port] = socket.socket()
                    # Without SO_REUSEADDR: nobody else can bind to it.
                    sockets[address, port].bind((address, port))
            except OSError:
                for held in sockets.values():
                    held.close()
                continue
            self.held.update(sockets)
            return port

    def release_all(self):
        for held in self.held.values():
            held.close()

    def release(self, address):
        held = self.held.pop(address, None)
        if held:
            held.close()


class Server:
    """A process that listens on an address, `(host, port)`. `run` is called in the process and does not return."""

    def __init__(self, name, address, run):
        self.name = name
        self.address = address
        self.run = run
        self.pid = None


class Engine:
    """An object store: `nodes` has the servers of each node by its name, `environment` what the tests are told."""

    def __init__(self, directory, ports, nodes, environment, prepare=None, repair=None):
        self.directory = directory
        self.ports = ports
        self.nodes = nodes
        self.environment = environment
        self.prepare = prepare
        self.repair = repair

    def serve(self):
        """Starts all nodes and obeys standard input until it ends."""
        try:
            for servers in self.nodes.values():
                self.launch(servers)
            for servers in self.nodes.values():
                self.wait(servers)
            if self.prepare:
                self.prepare()
            for name, value in self.environment.items():
                say(f"{name}={value}")
            say("ready")
            for line in sys.stdin:
                self.obey(line.split())
        except KeyboardInterrupt:
            pass
        finally:
            for servers in self.nodes.values():
                self.kill(servers)

    def obey(self, words):
        try:
            match words:
                case ["repair"] if self.repair:
                    self.repair(self)
                case ["kill", node]:
                    self.kill(self.nodes[node])
                case ["start", node]:
                    self.launch(self.nodes[node])
                    self.wait(self.nodes[node])
                case ["pause", node]:
                    self.signal(self.nodes[node], signal.SIGSTOP)
                case ["resume", node]:
                    self.signal(self.nodes[node], signal.SIGCONT)
                case _:
                    raise Failure(f"unknown command {' '.join(words)!r}")
            say("ok")
        except KeyError as node:
            say(f"error: no node is called {node}; there are {', '.join(self.nodes)}")
        except Failure as failure:
            say(f"error: {failure}")

    def launch(self, servers):
        for server in servers:
            if server.pid is None:
                self.ports.release(server.address)
                server.pid = spawn(lambda server=server: self.become(server), self.log(server.name))

    def become(self, server):
        # Inherited: others could not bind to them.
        self.ports.release_all()
        server.run()

    def wait(self, servers):
        deadline = time.monotonic() + START_TIMEOUT
        for server in servers:
            while not is_listening(server.address):
                if os.waitpid(server.pid, os.WNOHANG) != (0, 0):
                    server.pid = None
                    raise Failure(f"{server.name} ended; see {self.log(server.name)}")
                if time.monotonic() > deadline:
                    raise Failure(f"{server.name} does not listen; see {self.log(server.name)}")
                time.sleep(0.02)

    def kill(self, servers):
        self.signal(servers, signal.SIGKILL)
        for server in servers:
            if server.pid is not None:
                os.waitpid(server.pid, 0)
                server.pid = None

    def signal(self, servers, number):
        for server in servers:
            if server.pid is not None:
                os.kill(server.pid, number)

    def log(self, name):
        return os.path.join(self.directory, f"{name}.log")


class Failure(Exception):
    """A command that could not be carried out."""


def spawn(run, log):
    """Runs a function in a new process, which is killed when this process ends; returns its ID."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        # An interrupt in a terminal is for the parent.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        run()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def run_all(functions, log):
    """Runs functions in processes of their own, all at once, and waits for them."""
    pids = [spawn(function, log) for function in functions]
    failed = [pid for pid in pids if os.waitpid(pid, 0)[1]]
    if failed:
        raise Failure(f"{len(failed)} of {len(pids)} processes failed; see {log}")


def is_listening(address):
    try:
        socket.create_connection(address, timeout=1).close()
        return True
    except OSError:
        return False


def say(line):
    print(line, flush=True)


def unavailable(reason):
    """Ends this process: the machine lacks what the store needs."""
    print(reason, file=sys.stderr, flush=True)
    sys.exit(UNAVAILABLE)


def environment(endpoint, key, secret, bucket, public_url):
    """Returns what tests are told; the names are those of the usual clients where they have one."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "BUCKET": bucket,
        # Where anybody can read the objects of the bucket, without a signature.
        "PUBLIC_URL": public_url,
    }
