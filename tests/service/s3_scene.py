"""`loracle serve` out of a real bucket: what the tests share that tests/storage/seaweed.py runs."""

import base64
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ENDPOINT = os.environ["LORACLE_S3_TEST_ENDPOINT"]
KEYS = (os.environ["LORACLE_S3_TEST_ACCESS_KEY"], os.environ["LORACLE_S3_TEST_SECRET_KEY"])
CONTROL = Path(os.environ["LORACLE_S3_TEST_CONTROL"])
failures = 0


def check(what, good, detail=""):
    global failures
    failures += not good
    print(f"{'ok' if good else 'FAILED'}: {what} {'' if good else detail}".rstrip(), flush=True)


def put(path, key):
    """Puts a file, or makes the bucket that `key` names alone, with curl's own signer. The server is told the
    SHA-256, compares it, and gives it to whoever asks for checksums."""
    body = ["-X", "PUT"]
    if path:
        digest = base64.b64encode(hashlib.sha256(Path(path).read_bytes()).digest()).decode()
        body = ["--upload-file", str(path), "--header", f"x-amz-checksum-sha256: {digest}"]
    subprocess.run(["curl", "--silent", "--show-error", "--fail", "--aws-sigv4", "aws:amz:us-east-1:s3",
                    "--user", ":".join(KEYS), "--max-time", "60", *body, f"{ENDPOINT}/{key}"],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def upload(adapter, prefix):
    for file in sorted(adapter.iterdir()):
        put(file, f"{prefix}/{adapter.name}/{file.name}")


def make_adapters(loracle, folder, count, *flags, model="tiny"):
    subprocess.run([loracle, "make-adapters", folder, "--count", str(count), "--model", model, *flags],
                   check=True, stdout=subprocess.DEVNULL)
    return sorted(folder.iterdir())


def restart_s3():
    """Kills the S3 server and starts it again; returns once it answers."""
    (CONTROL / "restarted").unlink(missing_ok=True)
    (CONTROL / "restart").touch()
    wait_for_restart()


def wait_for_restart():
    for _ in range(900):
        if (CONTROL / "restarted").exists():
            return
        time.sleep(0.1)
    sys.exit("FAILED: the S3 server did not come back")


class Server:
    """`loracle serve`, its cache and log below `folder`."""

    def __init__(self, loracle, folder, *flags, endpoint=ENDPOINT, model="tiny"):
        environment = dict(os.environ, AWS_ACCESS_KEY_ID=KEYS[0], AWS_SECRET_ACCESS_KEY=KEYS[1])
        self.log = folder / "serve.log"
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                [loracle, "serve", "--port", "0", "--device", "host", "--model", model, "--s3-endpoint",
                 endpoint, "--cache-dir", folder / "cache", *flags],
                stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        line = self.process.stdout.readline()
        found = re.search(r"http://\S+", line)
        if found is None:
            sys.exit(f"FAILED: the server does not start: {self.log.read_text()[-4000:]}")
        self.address = found.group(0)

    def call(self, method, path, body=None):
        request = urllib.request.Request(self.address + path, method=method,
                                         data=None if body is None else json.dumps(body).encode(),
                                         headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def wait_ready(self):
        for _ in range(600):
            if self.call("GET", "/readyz")[0] == 200:
                return
            time.sleep(0.1)

    def names(self):
        return {card["id"] for card in json.loads(self.call("GET", "/v1/models")[1])["data"]}

    def use(self, name):
        """Acquires and releases; the status of the acquire."""
        status, text = self.call("POST", f"/v1/adapters/{name}/acquire", {})
        if status == 200:
            lease = json.loads(text)["lease"]
            self.call("POST", f"/v1/adapters/{name}/release", {"lease": lease})
        return status, text

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)
