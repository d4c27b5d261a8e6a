"""OpenStack Swift with its S3 API: three storage nodes on 127.0.0.1 to 127.0.0.3, and a proxy.

Each node runs an account, a container and an object server, with three replicas of everything: one on each. Nothing repairs in
the background as the daemons of a real cluster do; `repair` runs those once that copy objects and lists.
"""

import datetime
import errno
import hashlib
import hmac
import http.client
import logging
import os
import sys

import eventlet.wsgi
from swift.account import server as account_server
from swift.common import utils
from swift.common.daemon import run_daemon
from swift.common.ring import RingBuilder
from swift.common.wsgi import run_wsgi
from swift.container import server as container_server
from swift.container.replicator import ContainerReplicator
from swift.obj import server as object_server
from swift.obj.replicator import ObjectReplicator
from swift.obj.updater import ObjectUpdater
from swift.proxy import server as proxy_server
import swift.common.middleware.s3api.s3api

from engine import Engine, Ports, Server, environment, run_all, unavailable

KEY, SECRET, BUCKET, REGION = "test:tester", "testing", "cache", "us-east-1"
NODES = [1, 2, 3]
KINDS = ["account", "container", "object"]
DEVICE = "disk"

# Not of the machine's log: files of their own have what the servers say.
utils.logs.ThreadSafeSysLogHandler = lambda *_, **__: logging.NullHandler()

# Nor other users: daemons change to the one called swift by default.
utils.drop_privileges = lambda _: None

# Longer than by default, half a second and three: a busy machine is not a dead node. One that hangs delays a GET by
# `node_timeout`, and a PUT by twice that.
PATIENT = """
conn_timeout = 5
node_timeout = 10
"""

STORAGE = """
[DEFAULT]
bind_ip = {address}
bind_port = {port}
workers = 0
swift_dir = {directory}
devices = {directory}/node-{node}
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
log_level = WARNING
recon_cache_path = {directory}/node-{node}

[pipeline:main]
pipeline = {kind}-server

[app:{kind}-server]
use = egg:swift#{kind}
{patient}

[{kind}-replicator]
sync_method = ssync
{patient}

[{kind}-updater]
{patient}
"""

PROXY = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {directory}
log_level = WARNING

[pipeline:main]
pipeline = catch_errors listing_formats s3api tempauth copy slo dlo versioned_writes symlink proxy-server

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
# For how long a node that failed is not asked, in seconds, by default 60.
error_suppression_interval = 2
{patient}

[filter:catch_errors]
use = egg:swift#catch_errors

[filter:listing_formats]
use = egg:swift#listing_formats

[filter:s3api]
use = egg:swift#s3api
location = {region}

[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin

[filter:copy]
use = egg:swift#copy

[filter:slo]
use = egg:swift#slo

[filter:dlo]
use = egg:swift#dlo

[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true

[filter:symlink]
use = egg:swift#symlink
"""


def main(directory):
    require_attributes(directory)
    ports = Ports()
    port = {kind: ports.reserve(address(node) for node in NODES) for kind in KINDS}
    proxy = ("127.0.0.1", ports.reserve(["127.0.0.1"]))
    configure(directory, port, proxy)
    # Modules read it when they are first used.
    utils.set_swift_dir(directory)

    run = {
        "account": lambda conf: run_wsgi(conf, "account-server", verbose=True),
        "container": lambda conf: run_wsgi(conf, "container-server", verbose=True),
        "object": lambda conf: run_wsgi(
            conf, "object-server", verbose=True, global_conf_callback=object_server.global_conf_callback
        ),
    }

    def storage_server(node, kind):
        conf = conf_of(directory, node, kind)
        return Server(f"node-{node}-{kind}", (address(node), port[kind]), lambda: run[kind](conf))

    front = Server("front", proxy, lambda: run_wsgi(os.path.join(directory, "proxy.conf"), "proxy-server", verbose=True))
    nodes = {str(node): [storage_server(node, kind) for kind in KINDS] for node in NODES}
    nodes["front"] = [front]
    endpoint = "http://{}:{}".format(*proxy)
    told = environment(endpoint, KEY, SECRET, BUCKET, f"{endpoint}/v1/AUTH_test/{BUCKET}")
    Engine(directory, ports, nodes, told, prepare=lambda: make_bucket(proxy), repair=repair).serve()


def address(node):
    return f"127.0.0.{node}"


def conf_of(directory, node, kind):
    return os.path.join(directory, f"node-{node}-{kind}.conf")


def require_attributes(directory):
    """Swift keeps the metadata of objects in extended attributes."""
    try:
        os.setxattr(directory, "user.swift.test", b"")
        os.removexattr(directory, "user.swift.test")
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EPERM):
            raise
        unavailable(f"the file system of {directory} has no extended attributes, which Swift needs")


def configure(directory, port, proxy):
    def write(name, text):
        with open(os.path.join(directory, name), "w") as file:
            file.write(text)

    write("swift.conf", "[swift-hash]\nswift_hash_path_suffix = test\n\n[storage-policy:0]\nname = gold\ndefault = yes\n")
    write("proxy.conf", PROXY.format(port=proxy[1], directory=directory, region=REGION, patient=PATIENT))
    for kind in KINDS:
        builder = RingBuilder(part_power=3, replicas=len(NODES), min_part_hours=0)
        for node in NODES:
            os.makedirs(os.path.join(directory, f"node-{node}", DEVICE), exist_ok=True)
            where = {"ip": address(node), "port": port[kind]}
            replication = {"replication_ip": where["ip"], "replication_port": where["port"]}
            builder.add_dev({"region": 1, "zone": node, "device": DEVICE, "weight": 1, "meta": "", **where, **replication})
            conf = STORAGE.format(
                address=address(node), port=port[kind], directory=directory, node=node, kind=kind, patient=PATIENT
            )
            write(f"node-{node}-{kind}.conf", conf)
        builder.rebalance(seed="1")
        builder.get_ring().save(os.path.join(directory, f"{kind}.ring.gz"))


def make_bucket(proxy):
    """Creates the bucket, which anybody may read. Without a signature they read it by Swift's own URLs."""
    now = datetime.datetime.now(datetime.timezone.utc)
    day, time = now.strftime("%Y%m%d"), now.strftime("%Y%m%dT%H%M%SZ")
    empty = hashlib.sha256(b"").hexdigest()
    headers = {
        "host": "{}:{}".format(*proxy),
        "x-amz-acl": "public-read",
        "x-amz-content-sha256": empty,
        "x-amz-date": time,
    }
    names = ";".join(headers)
    request = "\n".join(["PUT", f"/{BUCKET}", "", *(f"{k}:{v}" for k, v in headers.items()), "", names, empty])
    scope = f"{day}/{REGION}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", time, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = ("AWS4" + SECRET).encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    connection = http.client.HTTPConnection(*proxy)
    connection.request("PUT", f"/{BUCKET}", headers=headers)
    response = connection.getresponse()
    if response.status != 200:
        sys.exit(f"cannot create the bucket: {response.status} {response.read().decode()}")


def repair(engine):
    """Runs the daemons that copy objects and lists to where they are missing, once, on the nodes that run."""
    running = [node for node in NODES if all(server.pid for server in engine.nodes[str(node)])]
    log = engine.log("repair")

    def run(kind, daemon, section):
        confs = [conf_of(engine.directory, node, kind) for node in running]
        run_all([lambda conf=conf: run_daemon(daemon, conf, section, once=True, verbose=True) for conf in confs], log)

    run("object", ObjectReplicator, "object-replicator")
    run("object", ObjectUpdater, "object-updater")
    run("container", ContainerReplicator, "container-replicator")


main(*sys.argv[1:])
