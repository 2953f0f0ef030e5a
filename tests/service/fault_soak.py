#!/usr/bin/env python3
"""`loracle serve` beside a bucket that fails in every way, under clients of every kind, with both servers
killed now and then: run by tests/storage/seaweed.py, which starts the S3 server.

    seaweed.py <folder> python3 fault_soak.py <loracle> [--faults N] [--minutes M] [--seed S] [--log FILE]

Between the two stands a proxy that breaks answers by a plan (fault_proxy.py). It ends when every kind of
fault was met N times and M minutes are over. What must hold all the while:
  - every entry of the cache has the config and the weights of one adapter that lay in the bucket together;
  - the cache is within its bound, tiers within theirs, and no slot is leased for two adapters;
  - every answer is one that /openapi.json describes, and every error says what it is;
  - between storms: no lease, staging file, descriptor or thread is left over, and memory does not grow;
  - after the last one, every adapter is served, as it lies in the bucket.
Prints a line a check, and what was done; exits with 1 if something failed. A seed replays the plan of faults
and what each client draws; how they meet is the threads' affair.
"""

import argparse
import os
import re
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlparse

import s3_scene
from cache_watch import CacheWatch, holds
from fault_proxy import FaultPlan, FaultProxy
from s3_scene import check
from soak_clients import Fleet
from versioned_bucket import Adapter, VersionedBucket

RANKS = (4, 8, 16, 32, 4, 8, 16, 32)
FOUND = 6            # below the prefix; what is left is loaded by clients, under names of their own
OWN_NAMES = ("own-0", "own-1", "own-2")
CACHE_BYTES = 330_000  # two of the largest, four of the middle
MAX_LORAS, MAX_CPU_LORAS = 3, 5
DESCRIPTORS_MORE = 16  # than at the start, at rest: kept connections, the files of the catalog
THREADS_MORE = 4
DESCRIPTORS_MAX = 300  # at any time
THREADS_MAX = 150
GROWTH_KB_MAX = 65_536
# Kills first: the last life is long enough to see what grows in it.
EVENTS = ("kill", "restart_s3", "kill", "rest", "kill", "rest", "restart_s3", "rest")
BAD_LOG = re.compile(r"check failed|terminate called|Sanitizer|runtime error|^\S+ (error|critical) ")


class World:
    """The servers, what stands between them, and what was seen of them."""

    def __init__(self, loracle, folder, seed):
        self.loracle, self.folder, self.seed = loracle, folder, seed
        self.faults_seen = []
        templates = s3_scene.make_adapters(loracle, folder / "made", len(RANKS), "--ranks",
                                           ",".join(map(str, RANKS)))
        adapters = [Adapter(template, f"soak/{'found' if i < FOUND else 'more'}/{template.name}")
                    for i, template in enumerate(templates)]
        self.bucket = VersionedBucket(folder / "uploads", seed, adapters)
        s3_scene.put(None, "soak")
        for adapter in adapters:
            self.bucket.upload(adapter)
        self.plan = FaultPlan(seed)
        self.proxy = FaultProxy(urlparse(s3_scene.ENDPOINT).port, self.plan, self.bucket.upload_at)
        self.watch = CacheWatch(folder / "cache", CACHE_BYTES, self.bucket)
        ranks = {adapter.place.rpartition("/")[2]: adapter.rank for adapter in adapters[:FOUND]}
        self.fleet = Fleet(seed, {**ranks, **dict.fromkeys(OWN_NAMES)}, [a.uri for a in adapters], self.fail)
        self.server = None
        self.lives = 0
        self.most = {"fd": 0, "task": 0}
        self.at_start = {}
        self.rss_kb = []
        self._watching = threading.Lock()

    def fail(self, what):
        self.faults_seen.append(what)
        if len(self.faults_seen) <= 20:
            print(f"FAILED: {what}", flush=True)

    def start(self):
        self.server = s3_scene.Server(
            self.loracle, self.folder, "--lora-dir-prefix", "s3://soak/found", "--resolver-s3-prefix",
            "s3://soak/found", "--max-loras", str(MAX_LORAS), "--max-cpu-loras", str(MAX_CPU_LORAS),
            "--max-lora-rank", str(max(RANKS)), "--database", self.folder / "catalog.db", "--cache-size",
            str(CACHE_BYTES), "--http-threads", "8", "--s3-attempts-max", "3", "--s3-first-delay-ms", "10",
            "--s3-delay-ms-max", "100", "--s3-stall-timeout-ms", "1500", "--resolver-deadline-ms", "5000",
            "--resolver-negative-ttl-ms", "300", "--http-request-timeout-ms", "15000",
            endpoint=self.proxy.endpoint)
        self.lives += 1
        self.at_start = {kind: self.count(kind) for kind in self.most}
        self.rss_kb = []
        self.fleet.serve_at(self.server.address)

    def kill(self):
        with self._watching:
            self.fleet.serve_at(None)
            self.server.process.send_signal(signal.SIGKILL)
            code = self.server.process.wait(timeout=60)
            if code != -signal.SIGKILL:
                self.fail(f"the server had ended with {code} before it was killed")
            self.start()

    def restart_s3(self):
        with self.bucket.is_there:
            s3_scene.restart_s3()

    def count(self, kind):
        """Open descriptors ("fd") or threads ("task") of the server."""
        return len(os.listdir(f"/proc/{self.server.process.pid}/{kind}"))

    def look(self):
        """What must hold at any time."""
        with self._watching:
            if self.server.process.poll() is not None:
                self.fail(f"the server has ended with {self.server.process.returncode}")
                return False
            for what, found in zip(("files", "directories' names"), self.watch.bytes()):
                if found > CACHE_BYTES:
                    self.fail(f"the cache's {what} say {found} bytes, {CACHE_BYTES} is the bound")
            for wrong in self.watch.wrong_entries():
                self.fail(wrong)
            for kind, limit in (("fd", DESCRIPTORS_MAX), ("task", THREADS_MAX)):
                self.most[kind] = max(self.most[kind], self.count(kind))
                if self.most[kind] > limit:
                    self.fail(f"{self.most[kind]} of {kind}, {limit} at most")
            answer = self.fleet.call("GET", "/v1/stats")
            for tier, limit in (("device", MAX_LORAS), ("host", MAX_CPU_LORAS)):
                state = answer[1][tier] if answer else {"adapters": 0, "adapters_max": limit, "pinned": 0}
                if not state["pinned"] <= state["adapters"] <= state["adapters_max"] == limit:
                    self.fail(f"{tier}: {state}, {limit} is the bound")
        return True

    def rest(self):
        """Nobody asks for anything: what is still there then has leaked."""
        self.fleet.pause()
        for adapter in self.fleet.call("GET", "/v1/adapters")[1]["adapters"]:
            if adapter["pinned"]:  # by a client whose server was killed before the unpin
                self.fleet.call("POST", f"/v1/adapters/{adapter['name']}/unpin", {},
                                "/v1/adapters/{name}/unpin")
        left = ["nobody has looked"]
        for _ in range(600):
            left = self.left_over()
            if not left:
                break
            time.sleep(0.1)
        for what in left:
            self.fail(f"at rest: {what}")
        status = Path(f"/proc/{self.server.process.pid}/status").read_text()
        self.rss_kb.append(int(re.search(r"VmRSS:\s+(\d+)", status).group(1)))
        if self.rss_kb[-1] - self.rss_kb[0] > GROWTH_KB_MAX and not self.is_sanitized():
            self.fail(f"memory grows: {self.rss_kb} kB")
        self.fleet.resume()

    def left_over(self):
        stats = self.fleet.call("GET", "/v1/stats")[1]
        left = [f"{name} is {stats[name]}" for name in ("leases", "requests_waiting", "loads_in_flight")
                if stats[name]]
        staging = self.watch.staging()
        left += [f"staging has {staging}"] if staging else []
        for kind, more in (("fd", DESCRIPTORS_MORE), ("task", THREADS_MORE)):
            found = self.count(kind)
            if found > self.at_start[kind] + more:
                left.append(f"{found} of {kind}, {self.at_start[kind]} at the start")
        return left

    def is_sanitized(self):
        """Then freed memory is kept for a while on purpose."""
        return b"__asan_init" in Path(self.loracle).read_bytes()

    def wait_for_overwrites(self):
        """The plan's last ones: what they change behind a refresh could rightly not be had."""
        due = self.plan.hits["overwrite"] + self.plan.hits["overwrite_midway"]
        for _ in range(1200):
            if self.bucket.overwrites == due:
                return
            time.sleep(0.1)
        self.fail("uploads of the plan do not end")

    def not_served(self, with_news):
        """Once nothing fails any more. `with_news`: each gets a new version, and that must be had."""
        wrong = []
        for adapter in self.bucket.adapters.values():
            if with_news:
                self.bucket.upload(adapter)
        self.fleet.call("POST", "/v1/refresh_lora_discovery", {})
        for number, adapter in enumerate(self.bucket.adapters.values()):
            name = adapter.place.rpartition("/")[2]
            if number >= FOUND:
                name = OWN_NAMES[0]
                self.fleet.call("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": adapter.uri,
                                                                  "load_inplace": True})
            status, text = self.server.use(name)
            if status != 200 or (with_news and not holds(self.watch.root, adapter.uri, adapter.now)):
                wrong.append(f"{adapter.uri}: {status} {text}")
        return wrong


def storm(world, options):
    """Runs clients, faults and events until there was enough of each."""
    begun = time.monotonic()
    rounds = max(1, round(options.minutes / 6))
    events = sorted(EVENTS * rounds, key=lambda event: event != "kill")
    step_s = options.minutes * 60 / (len(events) + 1)
    done = 0
    world.fleet.resume()
    while True:
        at_s = time.monotonic() - begun
        least = min(world.plan.hits.values())
        if least >= options.faults and at_s >= options.minutes * 60:
            break
        if at_s > options.minutes * 180 + 300:
            world.fail(f"in {at_s:.0f} s some kind of fault was met only {least} times: {world.plan.hits}")
            break
        if done < len(events) and at_s > step_s * (done + 1):
            getattr(world, events[done])()
            done += 1
        if not world.look():
            break
        time.sleep(0.1)
    print(f"{time.monotonic() - begun:.0f} s with {', '.join(events[:done])}")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loracle")
    parser.add_argument("--faults", type=int, default=15, help="of each kind, at least")
    parser.add_argument("--minutes", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    parser.add_argument("--log", type=Path, help="keep the server's log in this file")
    options = parser.parse_args()
    print(f"--seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        world = World(options.loracle, Path(name), options.seed)
        world.start()
        world.server.wait_ready()
        world.fleet.start()
        storm(world, options)
        if world.server.process.poll() is None:
            world.rest()
            world.plan.is_on = False
            world.fleet.pause()
            world.fleet.over.set()
            world.wait_for_overwrites()
            for with_news in (False, True):
                wrong = world.not_served(with_news)
                check(f"every adapter is served{' anew' if with_news else ''}", not wrong, wrong)
            world.look()
            check("it ends well", world.server.stop() == 0)
            check("nothing is left in staging", not world.watch.staging(), world.watch.staging())
        log = world.server.log.read_text(errors="replace")
        if options.log:
            options.log.write_text(log)
        bad = [line for line in log.splitlines() if BAD_LOG.search(line)]
        check("the log knows of no bug", not bad, bad[:5])
        check("the proxy did what it should", not world.proxy.errors, world.proxy.errors[:5])
        check("no invariant was broken", not world.faults_seen, f"{len(world.faults_seen)} times")
        report(world)
        if s3_scene.failures:
            print(log[-6000:])
    return 1 if s3_scene.failures else 0


def report(world):
    print("faults:", ", ".join(f"{kind} {count}" for kind, count in world.plan.hits.items()))
    print(f"{world.bucket.uploads} versions uploaded, {world.watch.compared} entries of the cache compared, "
          f"{world.watch.most} bytes in it at most, of {CACHE_BYTES}")
    print(f"{world.fleet.granted} leases, slowest answer {world.fleet.slowest_s:.1f} s, {world.lives} lives, "
          f"descriptors {world.most['fd']} at most, threads {world.most['task']}; "
          f"kB of memory at rest in the last life: {world.rss_kb}")
    for what, count in sorted(world.fleet.counts.items()):
        print(f"  {what}: {count}")


if __name__ == "__main__":
    sys.exit(main())
