#!/usr/bin/env python3
"""Fetches adapters from a real S3 server on loopback with loracle and with curl in turn; prints the ratios.

  bench/s3_against_curl.py [--runs 5] [--at-once 32] [--fetch build/release/bench/fetch_adapters]

The server is SeaweedFS from PyPI, as the tests start it. One adapter (llama-3.1-8b, rank 16: 84 MB) by both,
A B A B; then many at once, curl in parallel. loracle fetches into a new disk cache: into files that are
flushed to the disk, with length and digest checked; curl writes its files and does not wait for the disk.
Medians.
"""
import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "storage"))
import seaweed  # noqa: E402

FILES = ("adapter_config.json", "adapter_model.safetensors")


def curl_many(server, names, folder):
    lines = ["parallel", f"parallel-max = {max(len(names), 1)}", 'aws-sigv4 = "aws:amz:us-east-1:s3"',
             f'user = "{seaweed.ACCESS}:{seaweed.SECRET}"', "silent", "fail"]
    for name in names:
        (folder / name).mkdir()
        for file in FILES:
            lines += [f'url = "{server.endpoint}/adapters/{name}/{file}"',
                      f'output = "{folder / name / file}"']
    config = folder / "curl"
    config.write_text("\n".join(lines) + "\n")
    begun = time.monotonic()
    subprocess.run(["curl", "-K", config], check=True)
    return time.monotonic() - begun


def loracle_many(server, names, folder, binary):
    environment = {"AWS_ACCESS_KEY_ID": seaweed.ACCESS, "AWS_SECRET_ACCESS_KEY": seaweed.SECRET,
                   "AWS_ENDPOINT_URL_S3": server.endpoint, "HOME": str(folder)}
    done = subprocess.run([binary, folder / "cache", *(f"s3://adapters/{name}" for name in names)],
                          check=True, env=environment, capture_output=True, text=True)
    return float(done.stdout)


def compare(what, server, names, runs, binary):
    ours, theirs = [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            theirs.append(curl_many(server, names, Path(folder)))
        with tempfile.TemporaryDirectory() as folder:
            ours.append(loracle_many(server, names, Path(folder), binary))
    mine, peer = statistics.median(ours), statistics.median(theirs)
    print(f"{what}: curl {peer:.3f} s, loracle {mine:.3f} s: {peer / mine:.2f}x the speed "
          f"({', '.join(f'{b / a:.2f}' for a, b in zip(ours, theirs))})", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--at-once", type=int, default=32)
    parser.add_argument("--fetch", default=str(ROOT / "build/release/bench/fetch_adapters"))
    parser.add_argument("--loracle", default=str(ROOT / "build/release/engine/app/loracle"))
    parser.add_argument("--venv", default=str(ROOT / "build/release/tests/storage/seaweed"))
    options = parser.parse_args()
    Path(options.venv).mkdir(parents=True, exist_ok=True)
    weed = seaweed.install(Path(options.venv))
    with tempfile.TemporaryDirectory(prefix="seaweed-") as name:
        folder = Path(name) / "server"
        folder.mkdir()
        server = seaweed.Server(weed, folder)
        try:
            server.start()
            server.curl("-X", "PUT", f"{server.endpoint}/adapters")
            subprocess.run([options.loracle, "make-adapters", Path(name) / "a", "--model", "llama-3.1-8b",
                            "--ranks", "16", "--count", "1"], check=True, stdout=subprocess.DEVNULL)
            adapter = next((Path(name) / "a").iterdir())
            names = [f"a{i:02}" for i in range(options.at_once)]
            for one in names:
                for file in FILES:
                    server.put(adapter / file, f"adapters/{one}/{file}")
            compare("one adapter", server, names[:1], options.runs, options.fetch)
            compare(f"{len(names)} at once", server, names, max(1, options.runs // 2), options.fetch)
        finally:
            server.clean()


if __name__ == "__main__":
    main()
