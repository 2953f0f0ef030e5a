#!/usr/bin/env python3
"""`loracle serve` out of a bucket, end to end: run by tests/storage/seaweed.py, which starts the S3 server.

    seaweed.py <folder> python3 serve_s3.py <loracle>

Adapters are made, put into the bucket by curl, discovered, acquired, loaded by a client, and served on while
the bucket is gone. Prints a line a check; exits with 1 if one failed.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

LORACLE = sys.argv[1]
ENDPOINT = os.environ["LORACLE_S3_TEST_ENDPOINT"]
KEYS = (os.environ["LORACLE_S3_TEST_ACCESS_KEY"], os.environ["LORACLE_S3_TEST_SECRET_KEY"])
CONTROL = Path(os.environ["LORACLE_S3_TEST_CONTROL"])
failures = 0


def check(what, good, detail=""):
    global failures
    failures += not good
    print(f"{'ok' if good else 'FAILED'}: {what} {'' if good else detail}".rstrip(), flush=True)


def put(path, key):
    """Puts a file, or makes the bucket that `key` names alone, with curl's own signer."""
    body = ["--upload-file", str(path)] if path else ["-X", "PUT"]
    subprocess.run(["curl", "--silent", "--show-error", "--fail", "--aws-sigv4", "aws:amz:us-east-1:s3",
                    "--user", ":".join(KEYS), *body, f"{ENDPOINT}/{key}"],
                   check=True, stdout=subprocess.DEVNULL)


def upload(adapter, prefix):
    for file in sorted(adapter.iterdir()):
        put(file, f"{prefix}/{adapter.name}/{file.name}")


class Server:
    def __init__(self, folder, *flags):
        environment = dict(os.environ, AWS_ACCESS_KEY_ID=KEYS[0], AWS_SECRET_ACCESS_KEY=KEYS[1])
        self.log = open(folder / "serve.log", "a+")
        self.process = subprocess.Popen(
            [LORACLE, "serve", "--port", "0", "--device", "host", "--model", "tiny", "--max-loras", "1",
             "--s3-endpoint", ENDPOINT, "--cache-dir", str(folder / "cache"), *flags],
            stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment)
        line = self.process.stdout.readline()
        found = re.search(r"http://\S+", line)
        if found is None:
            self.log.seek(0)
            sys.exit(f"FAILED: the server does not start: {self.log.read()}")
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


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([LORACLE, "make-adapters", folder / "adapters", "--count", "4", "--model", "tiny"],
                       check=True, stdout=subprocess.DEVNULL)
        adapters = sorted((folder / "adapters").iterdir())
        put(None, "served")
        for adapter in adapters[:3]:
            upload(adapter, "served/adapters")
        upload(adapters[3], "served/more")

        server = Server(folder, "--lora-dir-prefix", "s3://served/adapters")
        wanted = {adapter.name for adapter in adapters[:3]}
        server.wait_ready()
        check("a prefix of a bucket is discovered", wanted <= server.names(), server.names())
        for adapter in wanted:
            status, text = server.use(adapter)
            check(f"{adapter} is served", status == 200, text)

        last = adapters[3].name
        status, text = server.call("POST", "/v1/load_lora_adapter",
                                   {"lora_name": last, "lora_path": f"s3://served/more/{last}"})
        check("a client loads from s3://", (status, text) ==
              (200, f"Success: LoRA adapter '{last}' added successfully."), (status, text))
        check("it is served", server.use(last)[0] == 200)
        status, text = server.call("POST", "/v1/load_lora_adapter",
                                   {"lora_name": "none", "lora_path": "s3://served/more/none"})
        check("what is not there is 404", status == 404, (status, text))
        status, text = server.call("POST", "/v1/refresh_lora_discovery", {})
        check("a refresh finds nothing new", status == 200 and json.loads(text)["discovered_adapters"] == [],
              text)

        (CONTROL / "restart").touch()
        for adapter in sorted(wanted):  # the one slot changes hands each time, from the cache on disk
            status, text = server.use(adapter)
            check(f"{adapter} is served while the bucket restarts", status == 200, text)
        for _ in range(600):
            if (CONTROL / "restarted").exists():
                break
            time.sleep(0.1)
        check("it ends well", server.stop() == 0)
        leftovers = [path for path in (folder / "cache").rglob("*") if "tmp" in path.name]
        check("no temporary file is left", not leftovers, leftovers)

        again = Server(folder, "--lora-dir-prefix", "s3://served/adapters")
        for _ in range(60):  # the bucket is back for longer than its files are
            if wanted <= again.names():
                break
            time.sleep(0.5)
            again.call("POST", "/v1/refresh_lora_discovery", {})
        answers = [again.use(adapter) for adapter in sorted(wanted)]
        check("after a restart, all are served", all(status == 200 for status, _ in answers), answers)
        check("it ends well again", again.stop() == 0)
        if failures:
            print((folder / "serve.log").read_text()[-4000:])
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
