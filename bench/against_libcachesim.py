#!/usr/bin/env python3
"""Replays one trace with libCacheSim's cachesim and with loracle in turn; prints the median ratio of speeds.

  bench/against_libcachesim.py --cachesim PATH --trace zipf.oracleGeneral.bin --capacity 100000
                               [--policies lru,fifo] [--unit objects|bytes] [--runs 5]

Both run on one core, one after the other, A B A B ... A run in which the misses differ reports no speed.
loracle is timed with columns loaded and ids interned (converted to .ltr once); cachesim as it prints it.
The cold ratio beside it is wall time of the whole process, straight from the oracleGeneral file.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

PEER_NAME = {"2q": "twoq", "belady-size": "beladySize"}
# Implementation-defined in libCacheSim: speeds are comparable, miss counts are not promised to be equal.
NOT_LAW = {"wtinylfu", "lhd", "hyperbolic", "lfuda", "random", "belady-size", "size"}


def pinned(command):
    return ["taskset", "-c", "1"] + command


def run_peer(args, policy, capacity):
    # cachesim leaves a result file behind: give it a folder of its own.
    with tempfile.TemporaryDirectory() as folder:
        command = pinned([args.cachesim, args.trace, "oracleGeneral", PEER_NAME.get(policy, policy),
                          str(capacity), "--ignore-obj-size", "1" if args.unit == "objects" else "0",
                          "--verbose", "0"])
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
        wall = time.perf_counter() - start
    line = [text for text in done.stdout.splitlines() if "miss ratio" in text][-1]
    ratio = float(re.search(r"miss ratio ([0-9.]+)", line).group(1))
    speed = float(re.search(r"throughput ([0-9.]+) MQPS", line).group(1)) * 1e6
    return speed, ratio, wall


def run_ours(args, trace, policy, capacity):
    command = pinned([args.loracle, "replay", trace, "--policy", policy, "--capacity", str(capacity),
                      "--unit", args.unit, "--threads", "1", "--format", "json"])
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    wall = time.perf_counter() - start
    answer = json.loads(done.stdout)
    result = answer["results"][0]
    return answer["requests"] / result["seconds"], result["miss_ratio"], wall


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cachesim", required=True, help="libCacheSim's cachesim binary")
    parser.add_argument("--loracle", default="build/release/engine/app/loracle")
    parser.add_argument("--trace", required=True, help="uncompressed; its name must contain oracleGeneral")
    parser.add_argument("--policies", default="lru,fifo,clock,sieve,gdsf,belady")
    parser.add_argument("--capacity", type=int, required=True, help="objects, or bytes with --unit bytes")
    parser.add_argument("--unit", choices=["objects", "bytes"], default="objects")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    for name in ("cachesim", "loracle", "trace"):
        setattr(args, name, os.path.abspath(getattr(args, name)))

    figures = []
    with tempfile.TemporaryDirectory() as folder:
        columns = os.path.join(folder, "trace.ltr")
        subprocess.run([args.loracle, "trace", "convert", args.trace, "-o", columns], check=True)
        print("policy        peer Mreq/s  ours Mreq/s   ratio  cold ratio  misses")
        for policy in args.policies.split(","):
            peer_speeds, our_speeds, ratios, cold = [], [], [], []
            same = True
            for _ in range(args.runs):
                peer_speed, peer_miss, peer_wall = run_peer(args, policy, args.capacity)
                our_speed, our_miss, _ = run_ours(args, columns, policy, args.capacity)
                _, _, our_wall = run_ours(args, args.trace, policy, args.capacity)
                same = same and abs(peer_miss - our_miss) < 0.00006
                peer_speeds.append(peer_speed)
                our_speeds.append(our_speed)
                ratios.append(our_speed / peer_speed)
                cold.append(peer_wall / our_wall)
            if not same and policy not in NOT_LAW:
                print(f"{policy:<12} misses differ: peer {peer_miss:.4f}, ours {our_miss:.4f}; no speed")
                continue
            figure = {"policy": policy, "unit": args.unit, "capacity": args.capacity,
                      "peer_mreq_s": statistics.median(peer_speeds) / 1e6,
                      "ours_mreq_s": statistics.median(our_speeds) / 1e6,
                      "ratio": statistics.median(ratios),
                      "cold_ratio": statistics.median(cold), "same_misses": same}
            figures.append(figure)
            print(f"{policy:<12} {figure['peer_mreq_s']:>12.2f} {figure['ours_mreq_s']:>12.1f} "
                  f"{figure['ratio']:>6.1f}x {figure['cold_ratio']:>10.1f}x  "
                  f"{'equal' if same else 'not comparable'}", flush=True)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as out:
            json.dump(figures, out, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
