#!/usr/bin/env python3
"""Checks and times the kernels on a GPU, beside cuBLAS, torch's products and a Triton shrink and expand.

  bench/kernels_against_triton.py LIBRARY [--cublas FILE] [--activation FILE] [--json FILE] [--commit ID]
                                  [--seconds 240] [--small]
  bench/kernels_against_triton.py --check-peers      the peers alone, Triton's too where there is a GPU or
                                                     TRITON_INTERPRET=1

LIBRARY is what bench/gpu.sh builds of bench_kernels_gpu.cu, --cublas of bench_kernels_cublas.cu, and
--activation what bench_kernels_activation has written. Needs torch and triton. A peer that cannot be had,
or that fails, is named in the JSON and costs nothing else; the JSON is written after every scene.

The ceilings come first, in the same run: a device-to-device copy (bytes read plus bytes written) and a large
bfloat16 matrix product. Every answer is checked against binary64 on the GPU before it is timed; a wrong one
gets no time and, if it is ours, fails the run. A time is the median over replays of a CUDA graph whose
launches go through at least twice the L2 of inputs, each step's own; bytes and FLOPs are those that the
definition of the step needs: each input element once, at the adapter's true rank. Loracle and its peers take
turns. `loracle_faster_by` of a peer's row is its time over loracle's. Exit code: 0, 1 (ours is wrong), 77.
"""
import argparse
import ctypes
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time

try:
    import torch

    from kernels_peers import (TYPES, Scene, Stack, batched_product, bmm_product, grouped_product,
                               segment_product, stream_here, triton, triton_configs, triton_product)
except ImportError as missing:
    print(f"SKIPPED: {missing}: needs torch and triton", file=sys.stderr)
    sys.exit(77)

DEVICE = "cuda"
LAUNCHES_MAX = 512  # of one candidate in its graph
GOAL_SHARE = 0.85  # of a copy, for what only moves bytes
GOAL_OTHERS = 1.3  # the geometric mean over the scenes of GOAL_RANKS
GOAL_RANKS = "rank [8, 16, 64] of 64"
GOAL_ACTIVATION = 1.15


def loracle_product(library, scene, plain=0, steps=3, overwrite=0):
    """The kernels under test."""
    count = len(scene.outs)
    pointers = ctypes.c_void_p * count
    floats = library.lora_floats(count, scene.max_rank, scene.in_, scene.tokens)
    partial = torch.zeros(max(1, floats), device=scene.x.device)
    batch = scene.batch
    arrays = (batch.order, batch.slots, batch.counts, batch.starts, scene.x, partial)
    call = library.lora_call(
        TYPES[scene.dtype], count, pointers(*[a.data_ptr() for a in scene.a]),
        pointers(*[b.data_ptr() for b in scene.b]), (ctypes.c_uint32 * count)(*scene.outs),
        scene.a[0].shape[0], scene.max_rank, scene.in_, ctypes.c_void_p(scene.stack.rank_table.data_ptr()),
        scene.tokens, batch.segments, *[ctypes.c_void_p(array.data_ptr()) for array in arrays],
        ctypes.c_uint64(floats), ctypes.c_void_p(scene.y.data_ptr()))

    def run():
        answered(library.lora_run(ctypes.c_void_p(call), plain, steps, overwrite, stream_here()))
    run.keep = (arrays, scene)
    return run


def answered(error):
    if error != 0:
        raise RuntimeError(f"CUDA error {error}")


def pointer(tensor):
    return ctypes.c_void_p(tensor.data_ptr())


def load_library(path):
    library = ctypes.CDLL(path)
    library.lora_call.restype = ctypes.c_void_p
    library.lora_floats.restype = ctypes.c_uint64
    library.l2_bytes.restype = ctypes.c_uint64
    return library


# ---- times -----------------------------------------------------------------------------------------------

def graph_of(runs):
    """The launches as one CUDA graph: what they cost the device, not what they cost Python."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for each in runs:
            each()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for each in runs:
            each()
    return graph


def seconds_of(graph, launches):
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    graph.replay()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) * 1e-3 / launches


def in_turn(candidates, failed, rounds=7):
    """{name: run functions over rotated inputs} -> {name: median seconds a run}; they take turns. What fails
    goes into `failed`, by name."""
    graphs = {}
    for name, runs in candidates.items():
        try:
            graphs[name] = graph_of(runs)
        except Exception as error:  # noqa: BLE001  whatever a peer throws, the others are timed
            failed[name] = f"{type(error).__name__}: {error}"
    times = {name: [] for name in graphs}
    for _ in range(rounds):
        for name, graph in graphs.items():
            times[name].append(seconds_of(graph, len(candidates[name])))
    return {name: statistics.median(values) for name, values in times.items()}


def ceilings():
    source = torch.empty(1 << 30, dtype=torch.uint8, device=DEVICE)
    into = torch.empty_like(source)
    failed = {}
    copy = in_turn({"copy": [lambda: into.copy_(source)]}, failed)
    size = 8192
    left = torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16)
    product = in_turn({"product": [lambda: left @ left]}, failed)
    if failed:
        raise RuntimeError(f"no ceilings: {failed}")
    return {"copy_bytes_per_s": 2 * source.numel() / copy["copy"],
            "product_flops_per_s": 2 * size ** 3 / product["product"]}


class Bench:
    """What all scenes share: the libraries, the ceilings, and the rows that become the JSON."""

    def __init__(self, library, cublas):
        self.kernels, self.cublas = library, cublas
        self.roof = {}
        self.rows = []
        self.l2_bytes = int(library.l2_bytes()) or 64 << 20

    def copies_for(self, moved):
        """So many different inputs that none is still in the L2 when its turn comes again."""
        return max(1, min(LAUNCHES_MAX, math.ceil(2 * self.l2_bytes / max(1, moved))))

    def row(self, what, who, seconds, moved, flops=0, **more):
        bound = max(moved / self.roof["copy_bytes_per_s"], flops / self.roof["product_flops_per_s"])
        self.rows.append({"what": what, "who": who, "us": seconds * 1e6, "bytes": moved, "flops": flops,
                          "of_ceiling": bound / seconds, **more})

    def failed(self, what, failed):
        for who, why in failed.items():
            self.rows.append({"what": what, "who": who, "failed": why})

    def compare(self, what):
        """Fills in what a scene's peers take, over what loracle takes."""
        here = {row["who"]: row for row in self.rows if row["what"] == what and "us" in row}
        for row in here.values():
            ours = here.get(row.get("beside", "loracle"))
            if ours is not None and not is_ours(row):
                row["loracle_faster_by"] = row["us"] / ours["us"]


# ---- the LoRA product ------------------------------------------------------------------------------------

def lora_shapes(small):
    """(tokens, in, outs, slots, max_rank, ranks, adapters in use, share of tokens without one)"""
    width, qkv, mixed = 4096, [4096, 1024, 1024], [8, 16, 64]
    found = [(64, width, qkv, 64, 64, mixed, 64, 0.0), (256, width, qkv, 64, 64, mixed, 64, 0.0),
             (2048, width, qkv, 16, 64, mixed, 4, 0.0)]
    found += [(tokens, width, qkv, 64, 64, [16], min(tokens, 64), 0.0) for tokens in (1, 8, 64, 256)]
    found += [(64, width, [4096], 64, 256, [8], 64, 0.0),  # rank 8 in slots of rank 256 must not cost 256
              (64, width, [4096], 64, 16, [16], 64, 0.0),  # equal ranks: what cuBLAS and torch.bmm are for
              (64, 14336, [4096], 32, 64, mixed, 32, 0.0), (256, width, qkv, 64, 64, [16], 64, 0.75),
              (2048, width, qkv, 16, 16, [16], 4, 0.5), (16384, width, [4096], 16, 64, [16, 64], 8, 0.0),
              (16384, width, [4096], 8, 256, [256], 8, 0.0), (16384, width, [4096], 8, 256, [8], 8, 0.0)]
    return [(1, width, qkv, 64, 64, [16], 1, 0.0)] if small else found


def rotated_scenes(bench, shape, dtype):
    """As many scenes as it takes: each over other slots of a stack, then over another stack."""
    tokens, in_, outs, slots, max_rank, ranks, used, without = shape
    stack = Stack(in_, outs, slots, max_rank, ranks, dtype, DEVICE)
    scenes = [Scene(stack, tokens, used, without=without)]
    steps = min(scenes[0].bytes_and_flops(step)[0] for step in (1, 2))
    for i in range(1, bench.copies_for(steps)):
        window = i % (slots // used)
        if window == 0:
            stack = stack.elsewhere()
        scenes.append(Scene(stack, tokens, used, first=window * used, without=without, seed=1 + i))
    return scenes


def best_triton(scenes):
    """The config that is fastest over these scenes, by a short run of each; those that fail are left out."""
    best, found, why = None, None, None
    before = scenes[0].y.clone()
    for config in triton_configs(scenes[0]):
        try:
            runs = [triton_product(scene, config) for scene in scenes]
            graph = graph_of(runs)
            seconds = min(seconds_of(graph, len(runs)) for _ in range(3))
        except Exception as error:  # noqa: BLE001
            why = error
            continue
        finally:
            scenes[0].y.copy_(before)
        if best is None or seconds < best:
            best, found = seconds, config
    if found is None:
        raise why
    return found


def time_lora(bench, shape, dtype):
    tokens, in_, outs, _, max_rank, ranks, used, without = shape
    what = (f"lora {tokens} tokens, {in_} -> {outs}, rank {ranks} of {max_rank}, {used} adapters"
            + (f", {without:.0%} without" if without else "") + f", {str(dtype).split('.')[-1]}")
    scenes = rotated_scenes(bench, shape, dtype)
    scene = scenes[0]
    failed, notes, shares, candidates = {}, {}, {}, {}
    makers = {"loracle": lambda s: loracle_product(bench.kernels, s),
              "loracle_overwrite": lambda s: loracle_product(bench.kernels, s, overwrite=1),
              "loracle_shrink": lambda s: loracle_product(bench.kernels, s, steps=1),
              "loracle_expand": lambda s: loracle_product(bench.kernels, s, steps=2)}
    if tokens <= 256:
        makers["loracle_plain"] = lambda s: loracle_product(bench.kernels, s, plain=1)
    try:
        notes["triton"] = config = best_triton(scenes)
        makers["triton"] = lambda s: triton_product(s, config)
    except Exception as error:  # noqa: BLE001
        failed["triton"] = f"{type(error).__name__}: {error}"
    makers |= {"torch_bmm": bmm_product, "torch_segments": segment_product}
    if bench.cublas is not None:
        makers |= {"cublas_batched": lambda s: batched_product(bench.cublas, s),
                   "cublas_grouped": lambda s: grouped_product(bench.cublas, s)}
    for who, make in makers.items():
        before = scene.y.clone()
        try:
            run = make(scene)
            if run is None:
                continue
            if who not in ("loracle_shrink", "loracle_expand"):  # half a product: checked by the whole
                run()
                torch.cuda.synchronize()
                # Peers round the intermediate to the element type; half a unit of it for every rank.
                bits = 16 if who.startswith("loracle") else 7 if dtype == torch.bfloat16 else 10
                on = torch.zeros_like(before) if who == "loracle_overwrite" else before
                shares[who] = scene.error_share(on, scene.y, bits)
                if shares[who] > 1:
                    bench.rows.append({"what": what, "who": who, "wrong": shares[who]})
                    continue
            candidates[who] = [run] + [make(s) for s in scenes[1:]]
        except Exception as error:  # noqa: BLE001
            failed[who] = f"{type(error).__name__}: {error}"
        finally:
            scene.y.copy_(before)
    for who, seconds in in_turn(candidates, failed).items():
        steps = {"loracle_shrink": 1, "loracle_expand": 2}.get(who, 3)
        moved, flops = scene.bytes_and_flops(steps, overwrite=who == "loracle_overwrite")
        more = {"config": notes[who]} if who in notes else {}
        bench.row(what, who, seconds, moved, flops, error_share=shares.get(who), inputs=len(scenes),
                  inputs_over_l2=len(scenes) * moved / bench.l2_bytes, **more)
    bench.failed(what, failed)
    bench.compare(what)


# ---- the copies ------------------------------------------------------------------------------------------

class ScatterPart(ctypes.Structure):
    _fields_ = [("destination", ctypes.c_uint64), ("source", ctypes.c_uint64), ("rows", ctypes.c_uint32),
                ("columns", ctypes.c_uint32), ("slot_rows", ctypes.c_uint32),
                ("slot_columns", ctypes.c_uint32)]


def as_device_bytes(pack):
    return torch.tensor(list(pack), dtype=torch.uint8, device=DEVICE)


class SlotScene:
    """An adapter of Llama-3.1-8B, 7 modules a layer, A and B, and a slot for it."""
    SHAPES = [(4096, 4096), (4096, 1024), (4096, 1024), (4096, 4096), (4096, 14336), (4096, 14336),
              (14336, 4096)]

    def __init__(self, rank, max_rank, layers):
        width = layers * sum(i + o for i, o in self.SHAPES)
        self.elements, self.slot_elements = rank * width, max_rank * width
        self.image = torch.randint(-30000, 30000, (self.elements,), dtype=torch.int16, device=DEVICE)
        self.slot = torch.full((self.slot_elements,), 77, dtype=torch.int16, device=DEVICE)
        self.expected = torch.zeros_like(self.slot)
        self.back = torch.zeros_like(self.image)
        parts, self.matrices, source, into = [], [], 0, 0
        for _ in range(layers):
            for in_, out in self.SHAPES:
                for r, c, sr, sc in ((rank, in_, max_rank, in_), (out, rank, out, max_rank)):
                    parts.append(ScatterPart(self.slot.data_ptr() + into * 2, source * 2, r, c, sr, sc))
                    image = self.image[source:source + r * c].view(r, c)
                    slot = self.slot[into:into + sr * sc].view(sr, sc)
                    self.matrices.append((image, slot, slot[:r, :c]))
                    self.expected[into:into + sr * sc].view(sr, sc)[:r, :c] = image
                    source, into = source + r * c, into + sr * sc
        self.parts = bytes((ScatterPart * len(parts))(*parts))
        self.table, self.count = as_device_bytes(self.parts), len(parts)


def time_scatter(bench, rank, max_rank, layers):
    """Into a slot and back; several slots in one launch; and matrix by matrix, as vLLM does it."""
    library, scene = bench.kernels, SlotScene(rank, max_rank, layers)
    what = f"slot, {layers} layers, rank {rank} of {max_rank}"
    failed = {}

    def scatter():
        answered(library.scatter_run(pointer(scene.table), scene.count, pointer(scene.image), stream_here()))

    def gather():
        answered(library.gather_run(pointer(scene.table), scene.count, pointer(scene.back), stream_here()))

    def copies():
        for image, slot, filled in scene.matrices:
            slot.zero_()
            filled.copy_(image)

    def wrong(who):
        bench.rows.append({"what": what, "who": who, "wrong": True})

    scatter()
    gather()
    torch.cuda.synchronize()
    if not torch.equal(scene.slot, scene.expected):
        return wrong("scatter")
    if not torch.equal(scene.back, scene.image):
        return wrong("gather")
    candidates = {"scatter": [scatter], "gather": [gather], "torch_copies": [copies]}
    for who, seconds in in_turn(candidates, failed).items():
        moved = 2 * (scene.elements + (scene.elements if who == "gather" else scene.slot_elements))
        bench.row(what, who, seconds, moved, beside="scatter")
    bench.failed(what, failed)
    bench.compare(what)

    failed, slots = {}, [SlotScene(rank, max_rank, max(1, layers // 4)) for _ in range(4)]
    what = f"four slots, {max(1, layers // 4)} layers, rank {rank} of {max_rank}"
    table = as_device_bytes(b"".join(slot.parts for slot in slots))
    images = torch.tensor([slot.image.data_ptr() for slot in slots], dtype=torch.int64, device=DEVICE)

    def batch():
        answered(library.scatter_batch_run(pointer(table), slots[0].count, pointer(images), len(slots),
                                           stream_here()))

    def one_by_one():
        for slot in slots:
            answered(library.scatter_run(pointer(slot.table), slot.count, pointer(slot.image), stream_here()))

    batch()
    torch.cuda.synchronize()
    if not all(torch.equal(slot.slot, slot.expected) for slot in slots):
        return wrong("scatter_batch")
    for who, seconds in in_turn({"scatter_batch": [batch], "one_by_one": [one_by_one]}, failed).items():
        moved = 2 * sum(slot.elements + slot.slot_elements for slot in slots)
        bench.row(what, who, seconds, moved, beside="scatter_batch")
    bench.failed(what, failed)
    bench.compare(what)


class KvPlane(ctypes.Structure):
    _fields_ = [("base", ctypes.c_uint64), ("block_stride", ctypes.c_uint64),
                ("token_stride", ctypes.c_uint64), ("head_stride", ctypes.c_uint64),
                ("heads", ctypes.c_uint32), ("head_bytes", ctypes.c_uint32)]


def time_kv(bench, pair, heads_outside, layers):
    """256 blocks of 16 tokens, 8 heads of 128 bfloat16, beside torch's own way. `pair`: (blocks, 2, ...)."""
    cache_blocks, tokens, heads, width, listed = 1024, 16, 8, 128, 256
    inside = (heads, tokens, width) if heads_outside else (tokens, heads, width)
    outside = (cache_blocks, 2) if pair else (2, cache_blocks)
    cache = torch.randint(-30000, 30000, (layers, *outside, *inside), dtype=torch.int16, device=DEVICE)
    blocks = torch.randperm(cache_blocks)[:listed].to(device=DEVICE, dtype=torch.int32)
    head_bytes, block_bytes = width * 2, tokens * heads * width * 2
    layer_bytes = 2 * cache_blocks * block_bytes
    planes = [KvPlane(cache.data_ptr() + layer * layer_bytes
                      + side * block_bytes * (1 if pair else cache_blocks), block_bytes * (2 if pair else 1),
                      head_bytes * (1 if heads_outside else heads),
                      head_bytes * (tokens if heads_outside else 1), heads, head_bytes)
              for layer in range(layers) for side in range(2)]
    table = as_device_bytes(bytes((KvPlane * len(planes))(*planes)))
    staging = torch.zeros(listed, layers, 2, tokens, heads, width, dtype=torch.int16, device=DEVICE)

    def run(gather):
        answered(bench.kernels.kv_run(pointer(table), len(planes), pointer(blocks), listed, tokens,
                                      heads * head_bytes, cache_blocks, pointer(staging), gather,
                                      stream_here()))

    index = blocks.long()
    seen = cache.transpose(1, 2) if pair else cache  # (layers, 2, blocks, ...), whatever lies behind
    seen = seen.transpose(3, 4) if heads_outside else seen

    def torch_gather():
        return seen[:, :, index].permute(2, 0, 1, 3, 4, 5).contiguous()

    def torch_scatter():
        seen[:, :, index] = staging.permute(1, 2, 0, 3, 4, 5)

    expected = torch_gather()
    run(1)
    torch.cuda.synchronize()
    right = torch.equal(staging, expected)
    before = cache.clone()
    staging.copy_(expected)
    seen[:, :, index] = 0
    run(0)
    torch.cuda.synchronize()
    what = (f"kv blocks, {layers} layers, {'blocks, 2' if pair else '2, blocks'}, "
            f"{'heads, tokens' if heads_outside else 'tokens, heads'}")
    if not right or not torch.equal(cache, before):
        bench.rows.append({"what": what, "who": "gather" if not right else "scatter", "wrong": True})
        return
    failed = {}
    candidates = {"gather": [lambda: run(1)], "scatter": [lambda: run(0)], "torch_gather": [torch_gather],
                  "torch_scatter": [torch_scatter]}
    for who, seconds in in_turn(candidates, failed).items():
        bench.row(what, who, seconds, 2 * staging.numel() * 2, beside=who.split("_")[-1])
    bench.failed(what, failed)
    bench.compare(what)


# ---- what came of it -------------------------------------------------------------------------------------

def is_ours(row):
    return row["who"].split("_")[0] in ("loracle", "scatter", "gather")


def geometric_mean(values):
    return math.exp(statistics.fmean(math.log(value) for value in values)) if values else None


def summary(rows, activation):
    """Ratios of the LoRA product to each peer, shares of the copies, and the goals."""
    lora = [row for row in rows if row["what"].startswith("lora") and "loracle_faster_by" in row]
    peers = {}
    for who in sorted({row["who"] for row in lora}):
        mine = [row for row in lora if row["who"] == who]
        mixed = [row["loracle_faster_by"] for row in mine if GOAL_RANKS in row["what"]]
        least = min(mine, key=lambda row: row["loracle_faster_by"])
        peers[who] = {"geometric_mean": geometric_mean([row["loracle_faster_by"] for row in mine]),
                      "geometric_mean_of_mixed_ranks": geometric_mean(mixed), "scenes": len(mine),
                      "least": least["loracle_faster_by"], "least_at": least["what"]}
    copies = [row for row in rows if row["who"] in ("scatter", "gather", "scatter_batch") and "us" in row]
    goals = []

    def goal(text, measured, met):
        goals.append({"goal": text, "measured": measured, "met": None if measured is None else met(measured)})

    goal(f"scatter, gather and KV blocks at {GOAL_SHARE:.0%} of the copy",
         min((row["of_ceiling"] for row in copies), default=None), lambda share: share >= GOAL_SHARE)
    for who in ("triton", "cublas_batched", "cublas_grouped"):
        found = peers.get(who, {})
        goal(f"as fast as {who} in every scene", found.get("least"), lambda ratio: ratio >= 1)
        goal(f"{GOAL_OTHERS} x {who} in the geometric mean of {GOAL_RANKS}",
             found.get("geometric_mean_of_mixed_ranks"), lambda ratio: ratio >= GOAL_OTHERS)
    goal(f"activation at most {GOAL_ACTIVATION} x one copy of the bytes",
         max((one["ready_over_copy"] for one in activation), default=None),
         lambda ratio: ratio <= GOAL_ACTIVATION)
    return {"peers": peers, "goals": goals}


def nvidia_smi():
    fields = "driver_version,name,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,power.limit"
    try:
        done = subprocess.run(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"],
                              capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return {"failed": str(error)}
    return dict(zip(fields.split(","), [word.strip() for word in done.stdout.splitlines()[0].split(",")]))


def check_peers():
    """The peers against binary64."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with_triton = device == "cuda" or os.environ.get("TRITON_INTERPRET") == "1"
    checked = 0
    for tokens, in_, outs, slots, max_rank, ranks, used, without in (
            (5, 40, [24, 8], 3, 8, [8, 3], 3, 0.0), (70, 136, [130], 4, 16, [16], 4, 0.3),
            (300, 64, [40, 24], 2, 32, [20, 5], 2, 0.0)):
        scene = Scene(Stack(in_, outs, slots, max_rank, ranks, torch.float16, device), tokens, used,
                      without=without)
        makers = {"bmm_product": bmm_product, "segment_product": segment_product}
        if with_triton:
            for i, config in enumerate(triton_configs(scene)):
                makers[f"triton_product {i}"] = lambda s, config=config: triton_product(s, config)
        for name, make in makers.items():
            before = scene.y.clone()
            run = make(scene)
            if run is None:
                continue
            run()
            share = scene.error_share(before, scene.y, 10)
            print(f"{name} ({tokens} tokens, {in_} -> {outs}): {share:.3f} of what rounding allows")
            if not share <= 1:
                return 1
            scene.y.copy_(before)
            checked += 1
    print(f"{checked} checks; Triton's {'too' if with_triton else 'left out: no GPU, no TRITON_INTERPRET=1'}")
    return 0


def scenes_of(bench, small):
    """[(name, function)], what is asked for most first."""
    layers = 2 if small else 32
    work = [(f"slot rank 16 of {most}", lambda most=most: time_scatter(bench, 16, most, layers))
            for most in (16, 64)]
    work += [(f"kv {layout}", lambda layout=layout: time_kv(bench, *layout, layers))
             for layout in ((False, False), (False, True), (True, False), (True, True))]
    work += [(f"{shape} {kind}", lambda shape=shape, kind=kind: time_lora(bench, shape, kind))
             for kind in (torch.bfloat16, torch.float16) for shape in lora_shapes(small)]
    return work


def ended(*_):
    raise SystemExit("ended from outside")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernels", nargs="?", metavar="LIBRARY")
    parser.add_argument("--cublas")
    parser.add_argument("--activation")
    parser.add_argument("--json")
    parser.add_argument("--commit", default="unknown")
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--check-peers", action="store_true")
    flags = parser.parse_args()
    if flags.check_peers:
        return check_peers()
    if flags.kernels is None or not torch.cuda.is_available():
        print("SKIPPED: no library was named, or torch sees no GPU", file=sys.stderr)
        return 77
    signal.signal(signal.SIGTERM, ended)  # what has been measured by then is written
    begun = time.monotonic()
    library = load_library(flags.kernels)
    bench, missing, activation = Bench(library, None), {}, []
    try:
        bench.cublas = ctypes.CDLL(flags.cublas) if flags.cublas else None
        if bench.cublas is None:
            missing["cublas"] = "not built"
    except OSError as error:
        missing["cublas"] = str(error)
    if flags.activation and os.path.exists(flags.activation):
        with open(flags.activation, encoding="utf-8") as file:
            activation = json.load(file)
    report = {"commit": flags.commit, "device": torch.cuda.get_device_name(), "smi": nvidia_smi(),
              "nvcc": library.nvcc_version(), "cuda_runtime": library.cuda_runtime_version(),
              "cuda_driver": library.cuda_driver_version(), "l2_bytes": bench.l2_bytes,
              "cublas": None if bench.cublas is None else bench.cublas.cublas_version(),
              "torch": torch.__version__, "triton": triton.__version__, "missing_peers": missing,
              "ceilings": bench.roof, "activation": activation, "rows": bench.rows, "left_out_for_time": []}

    def write(whole=False):
        report.update(summary(bench.rows, activation), whole=whole, seconds=time.monotonic() - begun,
                      wrong=sum("wrong" in row and is_ours(row) for row in bench.rows))
        if flags.json:
            with open(flags.json + ".part", "w", encoding="utf-8") as file:
                json.dump(report, file, indent=1)
            os.replace(flags.json + ".part", flags.json)

    try:
        bench.roof.update(ceilings())
        print(f"ceilings: copy {bench.roof['copy_bytes_per_s'] / 1e12:.2f} TB/s, "
              f"product {bench.roof['product_flops_per_s'] / 1e12:.0f} TFLOP/s", flush=True)
        for name, run in scenes_of(bench, flags.small):
            if time.monotonic() - begun > flags.seconds:
                report["left_out_for_time"].append(name)
                continue
            first = len(bench.rows)
            try:
                run()
            except Exception as error:  # noqa: BLE001  the next scene may do
                bench.failed(name, {"loracle": f"{type(error).__name__}: {error}"})
            torch.cuda.empty_cache()
            for row in bench.rows[first:]:
                print(f"{row['what']:<84} {row['who']:<18}" +
                      (f"{row['us']:>10.1f} us {row['of_ceiling']:>7.1%} of the ceiling"
                       if "us" in row else f" {row}"), flush=True)
            write()
        write(whole=True)
    finally:
        write(whole=report.get("whole", False))
    for goal in report["goals"]:
        verdict = {None: "not measured", True: "met", False: "NOT MET"}[goal["met"]]
        print(f"{verdict}: {goal['goal']}" + (f": {goal['measured']:.3f}" if goal["measured"] else ""))
    failed = [row for row in bench.rows if "failed" in row and is_ours(row)]
    print(f"{len(bench.rows)} rows, {report['wrong']} wrong, {len(failed)} of ours failed, "
          f"{len(report['left_out_for_time'])} scenes left out for time")
    return 1 if report["wrong"] or failed else 0


if __name__ == "__main__":
    sys.exit(main())
