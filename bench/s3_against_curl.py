#!/usr/bin/env python3
"""Fetches adapters from a real S3 server on loopback with loracle, curl and the AWS CLI in turn; prints the
ratios to whichever of the two others is faster.

  bench/s3_against_curl.py [--runs 5] [--at-once 32] [--fetch build/release/bench/fetch_adapters]

The server is SeaweedFS from PyPI, as the tests start it. One adapter (llama-3.1-8b, rank 16: 84 MB) by both,
A B A B; then many at once, curl in parallel. loracle fetches into a new disk cache: into files that are
flushed to the disk, with length and digest checked; the others write their files and do not wait for the
disk. `aws s3 cp` comes from PyPI, and is left out where that cannot be reached. Its start, the better part of
a second, is part of its time. Medians.
"""
import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "storage"), str(ROOT / "tests" / "support")]
import pypi  # noqa: E402
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


def environment_of(server, folder):
    return {"AWS_ACCESS_KEY_ID": seaweed.ACCESS, "AWS_SECRET_ACCESS_KEY": seaweed.SECRET,
            "AWS_ENDPOINT_URL_S3": server.endpoint, "AWS_REGION": "us-east-1", "HOME": str(folder)}


def aws_many(server, names, folder, aws):
    """All in one call, which takes them ten at a time, as it does by itself."""
    only = [word for name in names for word in ("--include", f"{name}/*")]
    begun = time.monotonic()
    subprocess.run([aws, "s3", "cp", "--recursive", "--quiet", "--exclude", "*", *only, "s3://adapters/",
                    folder / "copy"], check=True, env=environment_of(server, folder))
    return time.monotonic() - begun


def loracle_many(server, names, folder, binary):
    done = subprocess.run([binary, folder / "cache", *(f"s3://adapters/{name}" for name in names)],
                          check=True, env=environment_of(server, folder), capture_output=True, text=True)
    return float(done.stdout)


def compare(what, server, names, runs, binary, aws):
    ways = {"loracle": lambda folder: loracle_many(server, names, folder, binary),
            "curl": lambda folder: curl_many(server, names, folder)}
    if aws:
        ways["aws s3 cp"] = lambda folder: aws_many(server, names, folder, aws)
    times = {way: [] for way in ways}
    for _ in range(runs):
        for way, fetch in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                times[way].append(fetch(Path(folder)))
    medians = {way: statistics.median(taken) for way, taken in times.items()}
    peer = min((way for way in ways if way != "loracle"), key=medians.get)
    ratios = ", ".join(f"{b / a:.2f}" for a, b in zip(times["loracle"], times[peer]))
    print(f"{what}: {', '.join(f'{way} {median:.3f} s' for way, median in medians.items())}: "
          f"{medians[peer] / medians['loracle']:.2f}x the speed of {peer} ({ratios})", flush=True)


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
    programs = pypi.programs(Path(options.venv) / "aws", "awscli")
    aws = programs and programs / "aws"
    with tempfile.TemporaryDirectory(prefix="seaweed-") as name:
        folder = Path(name) / "server"
        folder.mkdir()
        server = seaweed.Server(weed, folder, volumes=20 + 2 * options.at_once)
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
            compare("one adapter", server, names[:1], options.runs, options.fetch, aws)
            compare(f"{len(names)} at once", server, names, max(1, options.runs // 2), options.fetch, aws)
        finally:
            server.clean()


if __name__ == "__main__":
    main()
