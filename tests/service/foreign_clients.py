#!/usr/bin/env python3
"""What others' tools make of `loracle serve`: schemathesis of its description, a Prometheus parser of its
metrics.

    foreign_clients.py <folder for the venv> <loracle>

schemathesis sends what /openapi.json allows and what it forbids, and checks status codes, content types and
bodies against it. Exits with 77 where PyPI cannot be reached.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
import pypi  # noqa: E402

PACKAGES = ("schemathesis==4.32.5", "prometheus-client")
EXAMPLES = 25  # of each route
KEY = "a-key-for-tests"
# What a schema cannot say: which policies there are and what parameters they take, and which paths hold an
# adapter. Where all slots are leased, 504 is the answer that is due; and vLLM, whose codes are kept, answers
# a bad adapter with 500.
UNKNOWABLE = ("/v1/policy", "/v1/adapters/load", "/v1/load_lora_adapter")
MAY_FAIL = ("/v1/load_lora_adapter", "/v1/adapters/load", "/v1/acquire", "/v1/adapters/{name}/acquire",
            "/v1/adapters/{name}/pin")
RULES = "".join(f"""
[[operations]]
include-path = "{path}"
[operations.checks]
positive_data_acceptance.enabled = {str(path not in UNKNOWABLE).lower()}
not_a_server_error.enabled = {str(path not in MAY_FAIL).lower()}
""" for path in sorted({*UNKNOWABLE, *MAY_FAIL}))


def serve(loracle, folder):
    subprocess.run([loracle, "make-adapters", folder / "adapters", "--count", "4", "--model", "tiny"],
                   check=True, stdout=subprocess.DEVNULL)
    (folder / "keys").write_text(f"{KEY}\n")
    process = subprocess.Popen([loracle, "serve", "--lora-dir-prefix", folder / "adapters", "--port", "0",
                                "--max-loras", "2", "--max-cpu-loras", "3", "--log-level", "warning",
                                "--api-key-file", folder / "keys"],
                               stdout=subprocess.PIPE, text=True,
                               env={**os.environ, "LORACLE_HTTP_REQUEST_TIMEOUT_MS": "2000"})
    line = process.stdout.readline()
    found = re.search(r"http://\S+", line)
    if not found:
        sys.exit(f"FAILED: serve did not start: {line}")
    return process, found.group(0)


PARSE = """
import sys
from prometheus_client.parser import text_string_to_metric_families
text = sys.stdin.read()
bare = []
for family in text_string_to_metric_families(text):
    if not family.documentation or family.type == "unknown":
        bare.append(family.name)
sys.exit(f"without HELP or TYPE: {bare}" if bare else 0)
"""


def main(arguments):
    if len(arguments) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    home, loracle = Path(arguments[1]).resolve(), arguments[2]
    programs = pypi.programs(home, *PACKAGES)
    if programs is None:
        return 77
    with tempfile.TemporaryDirectory() as name:
        process, url = serve(loracle, Path(name))
        try:
            (Path(name) / "schemathesis.toml").write_text(RULES)
            done = subprocess.run([programs / "schemathesis", "run", f"{url}/openapi.json",
                                   "--max-examples", str(EXAMPLES),
                                   "--header", f"Authorization: Bearer {KEY}",
                                   "--exclude-path", "/v1/events", "--seed", "26", "--no-color",
                                   "--request-timeout", "30", "--workers", "2",
                                   "--phases", "examples,coverage,fuzzing"], cwd=name)
            metrics = urllib.request.urlopen(f"{url}/metrics", timeout=10).read().decode()
            parsed = subprocess.run([programs / "python", "-c", PARSE], input=metrics, text=True,
                                    capture_output=True)
            health = json.loads(urllib.request.urlopen(f"{url}/healthz", timeout=10).read())
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=60)
    print(f"schemathesis: {done.returncode}, metrics: {parsed.returncode} {parsed.stderr.strip()}, "
          f"health after it: {health}, exit code: {code}")
    return 1 if done.returncode or parsed.returncode or health != {"status": "ok"} or code else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
