#!/usr/bin/env python3
"""Scans a directory of adapters with `loracle catalog scan` and with plain Python in turn; prints the ratios.

  bench/scan_against_python.py [--count 10000] [--model tiny|llama-3.1-8b] [--runs 3] [--loracle PATH]

The adapters have whole headers (Llama-3.1-8B, all linear layers: 448 matrices, 60 KB; tiny: 8 matrices, 1 KB)
and, but for the first, no weights: their files are sparse.

Python does what one would write in an afternoon: os.scandir, json.load of each adapter_config.json, and the
safetensors header parsed with json.loads. loracle does that and checks it all, and writes the catalog to the
disk; its time is that of the whole process. A B A B, medians. Then `catalog refresh` with nothing changed,
against the scan, and `catalog ls` of all.
"""
import argparse
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time


def scan_in_python(directory):
    found = {}
    for entry in os.scandir(directory):
        if not entry.is_dir() or entry.name.startswith("."):
            continue
        with open(os.path.join(entry.path, "adapter_config.json"), encoding="utf-8") as file:
            config = json.load(file)
        with open(os.path.join(entry.path, "adapter_model.safetensors"), "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        shapes = {name: tensor["shape"] for name, tensor in header.items() if name != "__metadata__"}
        found[entry.name] = (config["r"], len(shapes))
    return found


def copy_without_weights(source, target):
    os.mkdir(target)
    shutil.copy(os.path.join(source, "adapter_config.json"), target)
    name = "adapter_model.safetensors"
    with open(os.path.join(source, name), "rb") as weights, open(os.path.join(target, name), "wb") as copy:
        length = weights.read(8)
        copy.write(length + weights.read(struct.unpack("<Q", length)[0]))
        copy.truncate(os.path.getsize(weights.name))


def timed(run):
    start = time.perf_counter()
    answer = run()
    return time.perf_counter() - start, answer


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--model", default="llama-3.1-8b")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--loracle", default="build/release/engine/app/loracle")
    args = parser.parse_args()
    loracle = os.path.abspath(args.loracle)

    with tempfile.TemporaryDirectory() as folder:
        adapters = os.path.join(folder, "adapters")
        database = os.path.join(folder, "catalog.sqlite")
        subprocess.run([loracle, "make-adapters", adapters, "--count", "1", "--ranks", "8",
                        "--model", args.model], check=True, stdout=subprocess.DEVNULL)
        first = os.path.join(adapters, os.listdir(adapters)[0])
        for i in range(1, args.count):
            copy_without_weights(first, os.path.join(adapters, f"copy-{i:06}"))

        def call(*what):
            done = subprocess.run([loracle, "catalog", *what, "--db", database, "--format", "json"],
                                  check=True, capture_output=True, text=True)
            return json.loads(done.stdout)

        python_s, scan_s, refresh_s, list_s = [], [], [], []
        for _ in range(args.runs):
            seconds, found = timed(lambda: scan_in_python(adapters))
            python_s.append(seconds)
            for leftover in (database, database + "-wal", database + "-shm"):
                if os.path.exists(leftover):
                    os.remove(leftover)
            seconds, _ = timed(lambda: call("scan", adapters))
            scan_s.append(seconds)
            seconds, _ = timed(lambda: call("refresh"))
            refresh_s.append(seconds)
            seconds, listed = timed(lambda: call("ls"))
            list_s.append(seconds)
            names = {adapter["name"]: adapter["rank"] for adapter in listed["adapters"]}
            if names != {name: rank for name, (rank, _) in found.items()}:
                print("the two scans found different adapters; no ratio", file=sys.stderr)
                return 1
        shutil.rmtree(adapters)
    median = statistics.median
    print(f"{args.count} adapters of {args.model}, median of {args.runs}")
    print(f"  python           {median(python_s):8.3f} s")
    print(f"  catalog scan     {median(scan_s):8.3f} s   {median(python_s) / median(scan_s):5.1f}x python")
    share = 100 * median(refresh_s) / median(scan_s)
    print(f"  catalog refresh  {median(refresh_s):8.3f} s   {share:5.1f} % of the scan")
    print(f"  catalog ls       {median(list_s):8.3f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
