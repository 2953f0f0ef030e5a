#!/usr/bin/env python3
"""Checks and times the kernels on a GPU, beside cuBLAS, torch.bmm and a Triton shrink and expand in one run.

  bench/kernels_against_triton.py LIBRARY [--json FILE] [--seconds 240] [--small]
  bench/kernels_against_triton.py --check-peers      the peers alone; Triton's only where there is a GPU

LIBRARY is what bench/gpu.sh builds of bench_kernels_gpu.cu. Needs torch and triton.

The ceilings come first, in the same run: a device-to-device copy (bytes read plus bytes written) and a large
bfloat16 matrix product. Every answer is checked against binary64 on the GPU before it is timed; a wrong one
gets no time and, if it is ours, fails the run. A time is the median over replays of a CUDA graph whose
launches rotate through more inputs than the L2 holds; bytes and FLOPs are those that the definition needs:
each input element once, at the adapter's true rank. Loracle and its peers take turns.
"""
import argparse
import ctypes
import json
import statistics
import sys
import time

import torch
import triton
import triton.language as tl

TYPES = {torch.float16: 2, torch.bfloat16: 3}  # as ElementType numbers them


@triton.jit
def shrink_tile(x, a, v, order, slots, counts, starts, tokens, rank, depth, a_slot, PART: tl.constexpr,
                BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    """v[split, token, :] = x A^T of one segment, one tile of its tokens and PART of the depth."""
    segment = tl.program_id(1)
    split = tl.program_id(2)
    slot = tl.load(slots + segment).to(tl.int64)
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    live = (row < tl.load(counts + segment)) & (slot >= 0)
    token = tl.load(order + tl.load(starts + segment) + row, mask=live, other=0).to(tl.int64)
    column = tl.arange(0, BLOCK_N)
    sums = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for step in range(0, PART, BLOCK_K):
        at = split * PART + step + tl.arange(0, BLOCK_K)
        left = tl.load(x + token[:, None] * depth + at[None, :],
                       mask=live[:, None] & (at < depth)[None, :], other=0.0)
        right = tl.load(a + slot * a_slot + column[None, :] * depth + at[:, None],
                        mask=(column < rank)[None, :] & (at < depth)[:, None], other=0.0)
        sums += tl.dot(left, right)
    tl.store(v + (split * tokens + token[:, None]) * rank + column[None, :], sums,
             mask=live[:, None] & (column < rank)[None, :])


@triton.jit
def expand_tile(v, b, y, order, slots, counts, starts, tokens, rank, outs, y_row, y_column, b_slot,
                SPLITS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    """y[token, y_column :] += v B^T of one segment, one tile of its tokens and one of the outputs."""
    segment = tl.program_id(1)
    column = tl.program_id(2) * BLOCK_N + tl.arange(0, BLOCK_N)
    slot = tl.load(slots + segment).to(tl.int64)
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    live = (row < tl.load(counts + segment)) & (slot >= 0)
    token = tl.load(order + tl.load(starts + segment) + row, mask=live, other=0).to(tl.int64)
    at = tl.arange(0, BLOCK_K)
    inner = tl.zeros((BLOCK_M, BLOCK_K), dtype=tl.float32)
    for split in range(0, SPLITS):
        inner += tl.load(v + (split * tokens + token[:, None]) * rank + at[None, :],
                         mask=live[:, None] & (at < rank)[None, :], other=0.0)
    right = tl.load(b + slot * b_slot + column[None, :].to(tl.int64) * rank + at[:, None],
                    mask=(column < outs)[None, :] & (at < rank)[:, None], other=0.0)
    sums = tl.dot(inner.to(right.dtype), right)
    into = y + token[:, None] * y_row + y_column + column[None, :]
    mask = live[:, None] & (column < outs)[None, :]
    tl.store(into, tl.load(into, mask=mask, other=0.0).to(tl.float32) + sums, mask=mask)


class Batch:
    """Tokens dealt out to slots, in vLLM's form: ordered, cut into segments, on the device."""

    def __init__(self, slot_of_token, slots, device):
        self.slot_of_token = slot_of_token
        order = torch.argsort(slot_of_token, stable=True)
        found, counts = torch.unique_consecutive(slot_of_token[order], return_counts=True)
        starts = torch.cumsum(counts, 0) - counts
        self.segments = len(found)
        self.most = int(counts.max())
        to = {"device": device, "dtype": torch.int32}
        self.order, self.slots = order.to(**to), found.to(**to)
        self.counts, self.starts = counts.to(**to), starts.to(**to)
        self.users = [(int(s), order[int(b):int(b) + int(n)].to(device))
                      for s, n, b in zip(found, counts, starts) if s >= 0]


class Scene:
    """One layer with its slots, a batch, and what the product should be."""

    def __init__(self, tokens, in_, outs, slots, max_rank, ranks, used, dtype, device, seed=1):
        generator = torch.Generator(device=device).manual_seed(seed)
        self.tokens, self.in_, self.outs, self.max_rank, self.dtype = tokens, in_, outs, max_rank, dtype

        def make(*shape):
            return ((torch.rand(*shape, generator=generator, device=device) - 0.5) * 2).to(dtype)

        self.x = make(tokens, in_)
        self.y = make(tokens, sum(outs))
        self.ranks = [[ranks[(s + i) % len(ranks)] for s in range(slots)] for i in range(len(outs))]
        self.a = [torch.zeros(slots, max_rank, in_, dtype=dtype, device=device) for _ in outs]
        self.b = [torch.zeros(slots, out, max_rank, dtype=dtype, device=device) for out in outs]
        for i, out in enumerate(outs):
            for s in range(slots):
                rank = self.ranks[i][s]
                self.a[i][s, :rank] = make(rank, in_)
                self.b[i][s, :, :rank] = make(out, rank) / in_
        dealer = torch.Generator().manual_seed(seed)
        deal = torch.randint(0, used, (tokens,), generator=dealer, dtype=torch.int32)
        self.batch = Batch(deal, slots, device)
        self.rank_table = torch.tensor(self.ranks, dtype=torch.int32, device=device)

    def bytes_and_flops(self):
        """What the definition needs: x once, the used A and B at their ranks, y read and written."""
        size = 2
        moved = self.tokens * self.in_ * size
        flops = 0
        for slot, rows in self.batch.users:
            for i, out in enumerate(self.outs):
                rank = self.ranks[i][slot]
                moved += rank * (self.in_ + out) * size + 2 * len(rows) * out * size
                flops += 2 * len(rows) * rank * (self.in_ + out)
        return moved, flops

    def delta(self):
        """In binary64, and the terms' magnitudes, on the device."""
        sums = torch.zeros(self.tokens, sum(self.outs), dtype=torch.float64, device=self.x.device)
        sizes = torch.zeros_like(sums)
        for slot, rows in self.batch.users:
            x = self.x[rows].double()
            column = 0
            for i, out in enumerate(self.outs):
                rank = self.ranks[i][slot]
                a, b = self.a[i][slot, :rank].double(), self.b[i][slot, :, :rank].double()
                sums[rows, column:column + out] = x @ a.T @ b.T
                sizes[rows, column:column + out] = x.abs() @ a.abs().T @ b.abs().T
                column += out
        return sums, sizes

    def error_share(self, before, after, inner_bits=16):
        """The worst error of y as a share of what rounding allows."""
        sums, sizes = self.delta()
        expected = before.double() + sums
        unit = 2.0 ** (-11 if self.dtype == torch.float16 else -8)
        allowed = expected.abs() * unit + 1e-7 + sizes * (2.0 ** -inner_bits + (self.in_ + 320) * 2.0 ** -24)
        share = ((after.double() - expected).abs() / allowed).max()
        return float("inf") if torch.isnan(share) else float(share)


def triton_product(scene):
    """A function that adds the product to scene.y with the Triton kernels, which know the slots' rank."""
    batch, rank = scene.batch, scene.max_rank
    small = scene.tokens <= 256
    splits = max(1, min(8, 264 // max(1, batch.segments * len(scene.outs)))) if small else 1
    inner = torch.empty(splits, scene.tokens, rank, dtype=torch.float32, device=scene.x.device)
    block_m = 16 if small else 64
    block_r = max(16, triton.next_power_of_2(rank))
    meta = (batch.order, batch.slots, batch.counts, batch.starts, scene.tokens, rank)
    tiles = triton.cdiv(batch.most, block_m)
    block_k = 64 if block_r > 64 else 128
    block_n = 64 if block_r > 64 else 128
    part = triton.cdiv(triton.cdiv(scene.in_, block_k), splits) * block_k

    def run():
        column = 0
        for i, out in enumerate(scene.outs):
            shrink_tile[(tiles, batch.segments, splits)](
                scene.x, scene.a[i], inner, *meta, scene.in_, rank * scene.in_, PART=part, BLOCK_M=block_m,
                BLOCK_N=block_r, BLOCK_K=block_k)
            expand_tile[(tiles, batch.segments, triton.cdiv(out, block_n))](
                inner, scene.b[i], scene.y, *meta, out, sum(scene.outs), column, out * rank, SPLITS=splits,
                BLOCK_M=block_m, BLOCK_N=block_n, BLOCK_K=block_r)
            column += out
    return run


def bmm_product(scene):
    """The same with torch.bmm over gathered weights, a token at a time: the plain way to decode."""
    slots = scene.batch.slot_of_token.to(scene.x.device).long()
    column_of = [sum(scene.outs[:i]) for i in range(len(scene.outs))]

    def run():
        for i, out in enumerate(scene.outs):
            inner = torch.bmm(scene.a[i][slots], scene.x.unsqueeze(2))
            found = torch.bmm(scene.b[i][slots], inner).squeeze(2)
            scene.y[:, column_of[i]:column_of[i] + out] += found
    return run


def segment_product(scene):
    """The same with a torch matrix product a segment and slice: the plain way of prefill."""
    def run():
        for slot, rows in scene.batch.users:
            x = scene.x[rows]
            column = 0
            for i, out in enumerate(scene.outs):
                rank = scene.ranks[i][slot]
                found = (x @ scene.a[i][slot, :rank].T) @ scene.b[i][slot, :, :rank].T
                scene.y[rows, column:column + out] += found
                column += out
    return run


def cublas_product(library, scene):
    """cuBLAS's batched product over pointers, one product a token: A, then B onto y's columns."""
    if not hasattr(library, "cublas_batched") or len(scene.outs) != 1:
        return None
    kind, tokens, rank, out = TYPES[scene.dtype], scene.tokens, scene.max_rank, scene.outs[0]
    inner = torch.empty(tokens, rank, dtype=scene.dtype, device=scene.x.device)
    size = 2

    def pointers(base, stride, index):
        where = [base + int(i) * stride * size for i in index]
        return torch.tensor(where, dtype=torch.int64, device=scene.x.device)

    each = range(tokens)
    slots = scene.batch.slot_of_token.tolist()
    at_x, at_inner = pointers(scene.x.data_ptr(), scene.in_, each), pointers(inner.data_ptr(), rank, each)
    at_a = pointers(scene.a[0].data_ptr(), rank * scene.in_, slots)
    at_b = pointers(scene.b[0].data_ptr(), rank * out, slots)
    at_y = pointers(scene.y.data_ptr(), out, each)

    def run():
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        one, zero = ctypes.c_float(1), ctypes.c_float(0)
        for m, n, k, a, b, c, beta in ((1, rank, scene.in_, at_x, at_a, at_inner, zero),
                                       (1, out, rank, at_inner, at_b, at_y, one)):
            error = library.cublas_batched(kind, m, n, k, ctypes.c_void_p(a.data_ptr()),
                                           ctypes.c_void_p(b.data_ptr()), ctypes.c_void_p(c.data_ptr()), beta,
                                           tokens, stream)
            if error != 0:
                raise RuntimeError("cuBLAS refused")
    run.keep = (inner, at_x, at_inner, at_a, at_b, at_y)
    return run


def loracle_product(library, scene, plain=0, steps=3):
    """The kernels under test."""
    count = len(scene.outs)
    pointers = ctypes.c_void_p * count
    floats = library.lora_floats(count, scene.max_rank, scene.in_, scene.tokens)
    partial = torch.full((max(1, floats),), float("nan"), device=scene.x.device)
    batch = scene.batch
    arrays = (batch.order, batch.slots, batch.counts, batch.starts, scene.x, partial, scene.y)
    call = library.lora_call(
        TYPES[scene.dtype], count, pointers(*[a.data_ptr() for a in scene.a]),
        pointers(*[b.data_ptr() for b in scene.b]), (ctypes.c_uint32 * count)(*scene.outs),
        scene.a[0].shape[0], scene.max_rank, scene.in_, ctypes.c_void_p(scene.rank_table.data_ptr()),
        scene.tokens, batch.segments, *[ctypes.c_void_p(array.data_ptr()) for array in arrays])

    def run():
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        error = library.lora_run(ctypes.c_void_p(call), plain, steps, stream)
        if error != 0:
            raise RuntimeError(f"CUDA error {error}")
    run.keep = arrays
    return run


def load_library(path):
    library = ctypes.CDLL(path)
    library.lora_call.restype = ctypes.c_void_p
    library.lora_floats.restype = ctypes.c_uint64
    return library


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


def in_turn(candidates, rounds=7):
    """{name: (run functions over rotated inputs)} -> {name: median seconds a run}; they take turns."""
    graphs = {name: graph_of(runs) for name, runs in candidates.items()}
    times = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, graph in graphs.items():
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            graph.replay()
            end.record()
            end.synchronize()
            times[name].append(begin.elapsed_time(end) * 1e-3 / len(candidates[name]))
    return {name: statistics.median(values) for name, values in times.items()}


def ceilings():
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    into = torch.empty_like(source)
    copy = in_turn({"copy": [lambda: into.copy_(source)]})["copy"]
    size = 8192
    left = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
    product = in_turn({"product": [lambda: left @ left]})["product"]
    return {"copy_bytes_per_s": 2 * source.numel() / copy, "product_flops_per_s": 2 * size ** 3 / product}


def lora_scenes(small):
    """(tokens, in, outs, slots, max_rank, ranks, adapters in use)"""
    width, qkv = 4096, [4096, 1024, 1024]
    decode = [(tokens, width, qkv, 64, 64, [16], min(tokens, 64)) for tokens in (1, 8, 64, 256)]
    decode += [(64, width, [4096], 64, 256, [8], 64),  # rank 8 in slots of rank 256 must not cost 256
               (64, width, [4096], 64, 16, [16], 64),  # equal ranks: what cuBLAS and torch.bmm are made for
               (64, 14336, [4096], 32, 64, [8, 16, 64], 32)]
    prefill = [(2048, width, qkv, 16, 16, [16], 4), (16384, width, [4096], 16, 64, [16, 64], 8),
               (16384, width, [4096], 8, 256, [256], 8), (16384, width, [4096], 8, 256, [8], 8)]
    return decode[:1] if small else decode + prefill


def time_lora(library, shape, dtype, roof, rows):
    tokens, in_, outs, slots, max_rank, ranks, used = shape
    scene = Scene(tokens, in_, outs, slots, max_rank, ranks, used, dtype, "cuda")
    moved, flops = scene.bytes_and_flops()
    copies = 1 if tokens > 1024 else max(1, min(8, int(128e6 // moved) + 1))
    scenes = [scene] + [Scene(*shape, dtype, "cuda", seed=2 + i) for i in range(copies - 1)]
    makers = {"loracle": lambda s: loracle_product(library, s),
              "loracle_shrink": lambda s: loracle_product(library, s, steps=1),
              "loracle_expand": lambda s: loracle_product(library, s, steps=2),
              "triton": triton_product}
    if tokens <= 256:
        makers["torch_bmm"] = bmm_product
        makers["loracle_plain"] = lambda s: loracle_product(library, s, plain=1)
        if cublas_product(library, scene) is not None:
            makers["cublas_batched"] = lambda s: cublas_product(library, s)
    else:
        makers["torch_segments"] = segment_product
    name = (f"lora {tokens} tokens, {in_} -> {outs}, rank {ranks} of {max_rank}, "
            f"{scene.batch.segments} adapters")
    candidates, shares = {}, {}
    for peer, make in makers.items():
        before = scene.y.clone()
        if peer not in ("loracle_shrink", "loracle_expand"):  # half a product: checked by the whole
            make(scene)()
            torch.cuda.synchronize()
            # Peers round the intermediate to the element type; half a unit of it for every rank.
            bits = 16 if peer.startswith("loracle") else 7 if dtype == torch.bfloat16 else 10
            shares[peer] = scene.error_share(before, scene.y, bits)
        scene.y.copy_(before)
        if shares.get(peer, 0) > 1:
            rows.append({"what": name, "who": peer, "wrong": shares[peer]})
            continue
        candidates[peer] = [make(s) for s in scenes]
    for peer, seconds in in_turn(candidates).items():
        bound = max(moved / roof["copy_bytes_per_s"], flops / roof["product_flops_per_s"])
        row = {"what": name, "who": peer, "us": seconds * 1e6, "bytes": moved, "flops": flops,
               "of_ceiling": bound / seconds, "error_share": shares.get(peer)}
        rows.append(row)


def as_device_bytes(pack):
    return torch.tensor(list(pack), dtype=torch.uint8, device="cuda")


class ScatterPart(ctypes.Structure):
    _fields_ = [("destination", ctypes.c_uint64), ("source", ctypes.c_uint64), ("rows", ctypes.c_uint32),
                ("columns", ctypes.c_uint32), ("slot_rows", ctypes.c_uint32), ("slot_columns",
                                                                               ctypes.c_uint32)]


def time_scatter(library, rank, max_rank, layers, roof, rows):
    """An adapter of Llama-3.1-8B into a slot and back: 7 modules a layer, A and B."""
    shapes = [(4096, 4096), (4096, 1024), (4096, 1024), (4096, 4096), (4096, 14336), (4096, 14336), (14336,
                                                                                                     4096)]
    elements = layers * rank * sum(i + o for i, o in shapes)
    slot_elements = layers * max_rank * sum(i + o for i, o in shapes)
    image = torch.randint(-30000, 30000, (elements,), dtype=torch.int16, device="cuda")
    slot = torch.full((slot_elements,), 77, dtype=torch.int16, device="cuda")
    expected = torch.zeros(slot_elements, dtype=torch.int16, device="cuda")
    parts, source, into = [], 0, 0
    for _ in range(layers):
        for in_, out in shapes:
            for r, c, sr, sc in ((rank, in_, max_rank, in_), (out, rank, out, max_rank)):
                parts.append(ScatterPart(slot.data_ptr() + into * 2, source * 2, r, c, sr, sc))
                expected[into:into + sr * sc].view(sr, sc)[:r, :c] = image[source:source + r * c].view(r, c)
                source, into = source + r * c, into + sr * sc
    table = as_device_bytes(bytes((ScatterPart * len(parts))(*parts)))
    back = torch.zeros_like(image)

    def stream():
        return ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)

    def pointer(tensor):
        return ctypes.c_void_p(tensor.data_ptr())

    def scatter():
        assert library.scatter_run(pointer(table), len(parts), pointer(image), stream()) == 0

    def gather():
        assert library.gather_run(pointer(table), len(parts), pointer(back), stream()) == 0

    scatter()
    gather()
    torch.cuda.synchronize()
    name = f"slot, {layers} layers, rank {rank} of {max_rank}"
    for who, right in (("scatter", torch.equal(slot, expected)), ("gather", torch.equal(back, image))):
        if not right:
            rows.append({"what": name, "who": who, "wrong": True})
            return
    for who, seconds in in_turn({"scatter": [scatter], "gather": [gather]}).items():
        moved = 2 * (elements + (slot_elements if who == "scatter" else elements))
        rows.append({"what": name, "who": who, "us": seconds * 1e6, "bytes": moved,
                     "of_ceiling": moved / roof["copy_bytes_per_s"] / seconds})


class KvPlane(ctypes.Structure):
    _fields_ = [("base", ctypes.c_uint64), ("block_stride", ctypes.c_uint64), ("token_stride",
                                                                               ctypes.c_uint64),
                ("head_stride", ctypes.c_uint64), ("heads", ctypes.c_uint32), ("head_bytes", ctypes.c_uint32)]


def time_kv(library, heads_outside, layers, roof, rows):
    """256 blocks of 16 tokens, 8 heads of 128 bfloat16, of (2, blocks, ...) caches, beside torch."""
    cache_blocks, tokens, heads, width, listed = 1024, 16, 8, 128, 256
    shape = (layers, 2, cache_blocks) + ((heads, tokens, width) if heads_outside else (tokens, heads, width))
    cache = torch.randint(-30000, 30000, shape, dtype=torch.int16, device="cuda")
    blocks = torch.randperm(cache_blocks)[:listed].to(device="cuda", dtype=torch.int32)
    block_bytes = tokens * heads * width * 2
    planes = [KvPlane(cache.data_ptr() + p * cache_blocks * block_bytes, block_bytes,
                      width * 2 * (1 if heads_outside else heads), width * 2 * (tokens
                                                                                if heads_outside else 1),
                      heads, width * 2) for p in range(layers * 2)]
    table = as_device_bytes(bytes((KvPlane * len(planes))(*planes)))
    staging = torch.zeros(listed, layers, 2, tokens, heads, width, dtype=torch.int16, device="cuda")

    def run(gather):
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        assert library.kv_run(ctypes.c_void_p(table.data_ptr()), len(planes),
                              ctypes.c_void_p(blocks.data_ptr()),
                              listed, tokens, heads * width * 2, cache_blocks,
                              ctypes.c_void_p(staging.data_ptr()), gather, stream) == 0

    index = blocks.long()

    def with_torch():
        found = cache[:, :, index]
        found = found.transpose(3, 4) if heads_outside else found
        return found.permute(2, 0, 1, 3, 4, 5).contiguous()

    expected = with_torch()
    run(1)
    torch.cuda.synchronize()
    right = torch.equal(staging, expected)
    before = cache.clone()
    staging.copy_(expected)
    cache[:, :, index] = 0
    run(0)
    torch.cuda.synchronize()
    name = f"kv blocks, {layers} layers, {'heads, tokens' if heads_outside else 'tokens, heads'}"
    if not right or not torch.equal(cache, before):
        rows.append({"what": name, "who": "loracle", "wrong": True})
        return
    moved = 2 * staging.numel() * 2
    candidates = {"gather": [lambda: run(1)], "scatter": [lambda: run(0)], "torch_gather": [with_torch]}
    for who, seconds in in_turn(candidates).items():
        rows.append({"what": name, "who": who, "us": seconds * 1e6, "bytes": moved,
                     "of_ceiling": moved / roof["copy_bytes_per_s"] / seconds})


def check_peers():
    """The peers against binary64."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for shape in ((5, 40, [24, 8], 3, 8, [8, 3], 3), (70, 136, [130], 4, 16, [16], 4), (300, 64, [40], 2, 32,
                                                                                        [20], 2)):
        scene = Scene(*shape, torch.float16, device)
        for make in (triton_product, bmm_product, segment_product)[0 if device == "cuda" else 1:]:
            before = scene.y.clone()
            make(scene)()
            share = scene.error_share(before, scene.y, 10)
            print(f"{make.__name__} {shape}: {share:.3f} of what rounding allows")
            if not share <= 1:
                return 1
            scene.y.copy_(before)
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", nargs="?")
    parser.add_argument("--json")
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--check-peers", action="store_true")
    flags = parser.parse_args()
    if flags.check_peers:
        return check_peers()
    if flags.library is None or not torch.cuda.is_available():
        print("SKIPPED: no library was named, or torch sees no GPU", file=sys.stderr)
        return 77
    begun = time.monotonic()
    library = load_library(flags.library)
    roof = ceilings()
    print(f"ceilings: copy {roof['copy_bytes_per_s'] / 1e12:.2f} TB/s, "
          f"product {roof['product_flops_per_s'] / 1e12:.0f} TFLOP/s", flush=True)
    rows, left_out = [], []
    layers = 2 if flags.small else 32
    work = [(f"slot rank 16 of {most}", lambda most=most: time_scatter(library, 16, most, layers, roof, rows))
            for most in (16, 64)]
    work += [(f"kv {outside}", lambda outside=outside: time_kv(library, outside, layers, roof, rows))
             for outside in (False, True)]
    work += [(str(shape), lambda shape=shape, kind=kind: time_lora(library, shape, kind, roof, rows))
             for kind in (torch.bfloat16, torch.float16) for shape in lora_scenes(flags.small)]
    for name, run in work:
        if time.monotonic() - begun > flags.seconds:
            left_out.append(name)
            continue
        first = len(rows)
        try:
            run()
        except (torch.cuda.OutOfMemoryError, triton.runtime.errors.OutOfResources) as error:
            rows.append({"what": name, "who": "?", "failed": str(error)})
        for row in rows[first:]:
            ok = "us" in row
            print(f"{row['what']:<76} {row['who']:<16}" +
                  (f"{row['us']:>10.1f} us {row['of_ceiling']:>7.1%} of the ceiling"
                   if ok else f" {row}"), flush=True)
    wrong = [row for row in rows if "wrong" in row and row["who"].split("_")[0] in ("loracle", "scatter",
                                                                                    "gather")]
    report = {"device": torch.cuda.get_device_name(), "torch": torch.__version__,
              "triton": triton.__version__,
              "ceilings": roof, "rows": rows, "left_out_for_time": left_out,
              "seconds": time.monotonic() - begun, "wrong": len(wrong)}
    if flags.json:
        with open(flags.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)
    print(f"{len(rows)} rows, {len(wrong)} wrong, {len(left_out)} left out for time")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
