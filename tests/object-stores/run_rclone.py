"""`rclone serve s3` on a directory: a server that takes signed requests, and one for whoever has no key."""

import os
import sys

from engine import Engine, Ports, Server, environment

KEY, SECRET, BUCKET = "rclone-key", "rclone-secret", "cache"


def main(directory):
    data = os.path.join(directory, "data")
    os.makedirs(os.path.join(data, BUCKET))
    ports = Ports()
    # Only absolute: the program of another machine is not the one that was pinned.
    rclone = os.path.join(os.path.dirname(sys.executable), "rclone")

    def server(name, *options):
        address = ("127.0.0.1", ports.reserve(["127.0.0.1"]))
        command = [rclone, "serve", "s3", data, "--addr", "{}:{}".format(*address), *options]
        command += ["--vfs-cache-mode", "off", "--config", ""]
        settings = {"PATH": "/usr/bin:/bin", "HOME": directory}
        return Server(name, address, lambda: os.execve(rclone, command, settings))

    # It remembers what it has written. Without that it hangs now and then, if it lists a directory while it writes to it.
    signed = server("front", "--auth-key", f"{KEY},{SECRET}", "--dir-cache-time", "1h")
    # What the other server writes is seen at once.
    public = server("public", "--dir-cache-time", "0s")
    told = environment(
        "http://{}:{}".format(*signed.address), KEY, SECRET, BUCKET, "http://{}:{}/".format(*public.address) + BUCKET
    )
    told["DATA"] = os.path.join(data, BUCKET)
    Engine(directory, ports, {"front": [signed], "public": [public]}, told).serve()


main(*sys.argv[1:])
