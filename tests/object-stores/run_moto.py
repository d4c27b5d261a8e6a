"""moto's server, which keeps objects in memory and checks no signatures."""

import os
import sys
import urllib.request

# The server writes what it was asked to standard error, with colours.
os.environ["NO_COLOR"] = "1"

from moto.server import main as moto_server

from engine import Engine, Ports, Server, environment

BUCKET = "cache"


def main(directory):
    ports = Ports()
    address = ("127.0.0.1", ports.reserve(["127.0.0.1"]))
    endpoint = "http://{}:{}".format(*address)
    arguments = ["-H", address[0], "-p", str(address[1])]
    server = Server("front", address, lambda: moto_server(arguments))

    def make_bucket():
        # Who signs nothing asks for what is public, and the name of the service is in the signature.
        credential = "key/20000101/us-east-1/s3/aws4_request"
        headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0"}
        for query in ["", "?acl"]:
            request = urllib.request.Request(f"{endpoint}/{BUCKET}{query}", b"", headers, method="PUT")
            request.add_header("x-amz-acl", "public-read")
            urllib.request.urlopen(request).close()

    told = environment(endpoint, "key", "secret", BUCKET, f"{endpoint}/{BUCKET}")
    Engine(directory, ports, {"front": [server]}, told, prepare=make_bucket).serve()


main(*sys.argv[1:])
