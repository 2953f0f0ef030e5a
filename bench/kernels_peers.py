"""The LoRA product as others make it, for kernels_against_triton.py: a Triton shrink and expand in vLLM's
form, cuBLAS, and torch's own products. And the scenes that they and the kernels are given.

A peer is a function of a scene that returns a function without arguments, which adds the product to scene.y
by launches that a CUDA graph can hold; None where the scene is not one that the peer can do.
"""
import ctypes

import torch
import triton
import triton.language as tl

TYPES = {torch.float16: 2, torch.bfloat16: 3}  # as ElementType numbers them


# ---- what is given ---------------------------------------------------------------------------------------

class Stack:
    """The stacked buffers of one layer: slots of max_rank, each with its own rank, zero beyond it."""

    def __init__(self, in_, outs, slots, max_rank, ranks, dtype, device, seed=1):
        generator = torch.Generator(device=device).manual_seed(seed)
        self.in_, self.outs, self.slots, self.max_rank, self.dtype = in_, outs, slots, max_rank, dtype
        self.ranks = [[ranks[(s + i) % len(ranks)] for s in range(slots)] for i in range(len(outs))]
        self.a = [torch.zeros(slots, max_rank, in_, dtype=dtype, device=device) for _ in outs]
        self.b = [torch.zeros(slots, out, max_rank, dtype=dtype, device=device) for out in outs]
        for i, out in enumerate(outs):
            for s in range(slots):
                rank = self.ranks[i][s]
                self.a[i][s, :rank] = random_values(generator, dtype, rank, in_)
                self.b[i][s, :, :rank] = random_values(generator, dtype, out, rank) / in_
        self.rank_table = torch.tensor(self.ranks, dtype=torch.int32, device=device)

    def elsewhere(self):
        """The same values at other addresses."""
        other = object.__new__(Stack)
        other.__dict__.update(self.__dict__)
        other.a, other.b = [a.clone() for a in self.a], [b.clone() for b in self.b]
        return other


def random_values(generator, dtype, *shape):
    return ((torch.rand(*shape, generator=generator, device=generator.device) - 0.5) * 2).to(dtype)


class Batch:
    """Tokens dealt out to slots, in vLLM's form: ordered, cut into segments, on the device."""

    def __init__(self, slot_of_token, device):
        self.slot_of_token = slot_of_token
        order = torch.argsort(slot_of_token, stable=True)
        found, counts = torch.unique_consecutive(slot_of_token[order], return_counts=True)
        starts = torch.cumsum(counts, 0) - counts
        self.segments = len(found)
        to = {"device": device, "dtype": torch.int32}
        self.order, self.slots = order.to(**to), found.to(**to)
        self.counts, self.starts = counts.to(**to), starts.to(**to)
        self.users = [(int(s), order[int(b):int(b) + int(n)].to(device))
                      for s, n, b in zip(found, counts, starts) if s >= 0]


class Scene:
    """A layer, and a batch over `used` of its slots from `first` on; `without` of the tokens use none."""

    def __init__(self, stack, tokens, used, first=0, without=0.0, seed=1):
        device = stack.a[0].device
        generator = torch.Generator(device=device).manual_seed(seed)
        self.stack, self.tokens = stack, tokens
        self.in_, self.outs, self.max_rank, self.dtype = stack.in_, stack.outs, stack.max_rank, stack.dtype
        self.a, self.b, self.ranks = stack.a, stack.b, stack.ranks
        self.x = random_values(generator, self.dtype, tokens, self.in_)
        self.y = random_values(generator, self.dtype, tokens, sum(self.outs))
        dealer = torch.Generator().manual_seed(seed)
        deal = torch.randint(0, used, (tokens,), generator=dealer, dtype=torch.int32) + first
        deal[torch.rand(tokens, generator=dealer) < without] = -1
        self.batch = Batch(deal, device)
        self.column_of = [sum(self.outs[:i]) for i in range(len(self.outs))]

    def bytes_and_flops(self, steps=3, overwrite=False):
        """What the shrink (1), the expand (2) or both (3) need by definition: x and the used A and B once,
        at their ranks; y written, and read where it is added to; between the steps, one float a rank and
        token."""
        size, moved, flops = 2, 0, 0
        for slot, rows in self.batch.users:
            moved += len(rows) * self.in_ * size * (steps & 1)
            for i, out in enumerate(self.outs):
                rank = self.ranks[i][slot]
                if steps & 1:
                    moved += rank * self.in_ * size
                    flops += 2 * len(rows) * rank * self.in_
                if steps & 2:
                    moved += rank * out * size + (1 if overwrite else 2) * len(rows) * out * size
                    flops += 2 * len(rows) * rank * out
                if steps != 3:
                    moved += len(rows) * rank * 4
        return moved, flops

    def delta(self):
        """In binary64, and the terms' magnitudes, on the device."""
        sums = torch.zeros(self.tokens, sum(self.outs), dtype=torch.float64, device=self.x.device)
        sizes = torch.zeros_like(sums)
        for slot, rows in self.batch.users:
            x = self.x[rows].double()
            for i, out in enumerate(self.outs):
                rank, column = self.ranks[i][slot], self.column_of[i]
                a, b = self.a[i][slot, :rank].double(), self.b[i][slot, :, :rank].double()
                sums[rows, column:column + out] = x @ a.T @ b.T
                sizes[rows, column:column + out] = x.abs() @ a.abs().T @ b.abs().T
        return sums, sizes

    def error_share(self, before, after, inner_bits=16):
        """The worst error of y as a share of what rounding allows."""
        sums, sizes = self.delta()
        expected = before.double() + sums
        unit = 2.0 ** (-11 if self.dtype == torch.float16 else -8)
        allowed = expected.abs() * unit + 1e-7 + sizes * (2.0 ** -inner_bits + (self.in_ + 320) * 2.0 ** -24)
        share = ((after.double() - expected).abs() / allowed).max()
        return float("inf") if torch.isnan(share) else float(share)


# ---- Triton, in vLLM's form ------------------------------------------------------------------------------

@triton.jit
def segment_rows(order, counts, starts, segment, row, first, count):
    """The tokens of a tile's rows; rows beyond the segment's end repeat one that is there."""
    begin = tl.load(starts + segment)
    inside = tl.where(row < count, row, first)
    return tl.load(order + begin + inside).to(tl.int64)


@triton.jit
def shrink_kernel(x, a_of_slice, inner, order, slots, counts, starts, tokens, rank, depth, a_slot,
                  EVEN_K: tl.constexpr, SPLIT_K: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
                  BLOCK_K: tl.constexpr):
    """inner[slice, token, :] (+)= x A^T: a grid of (parts of the depth x tiles, slices, segments)."""
    segment = tl.program_id(2)
    slot = tl.load(slots + segment).to(tl.int64)
    if slot < 0:
        return
    part = tl.program_id(0) % SPLIT_K
    tile = tl.program_id(0) // SPLIT_K
    row_tiles = tl.cdiv(tokens, BLOCK_M)
    first = tile % row_tiles * BLOCK_M
    count = tl.load(counts + segment)
    if first >= count:
        return
    row = first + tl.arange(0, BLOCK_M)
    token = segment_rows(order, counts, starts, segment, row, first, count)
    column = tile // row_tiles * BLOCK_N + tl.arange(0, BLOCK_N)
    a = tl.load(a_of_slice + tl.program_id(1)).to(tl.pointer_type(x.dtype.element_ty)) + slot * a_slot
    kept = tl.where(column < rank, column, 0)  # what they give is not stored
    sums = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for step in range(0, tl.cdiv(depth, BLOCK_K * SPLIT_K)):
        at = (step * SPLIT_K + part) * BLOCK_K + tl.arange(0, BLOCK_K)
        if EVEN_K:
            left = tl.load(x + token[:, None] * depth + at[None, :])
            right = tl.load(a + kept[None, :] * depth + at[:, None])
        else:
            left = tl.load(x + token[:, None] * depth + at[None, :], mask=(at < depth)[None, :], other=0.0)
            right = tl.load(a + kept[None, :] * depth + at[:, None], mask=(at < depth)[:, None], other=0.0)
        sums += tl.dot(left, right)
    into = inner + (tl.program_id(1) * tokens + token[:, None]) * rank + column[None, :]
    mask = (row < count)[:, None] & (column < rank)[None, :]
    if SPLIT_K == 1:
        tl.store(into, sums, mask=mask)
    else:
        tl.atomic_add(into, sums, mask=mask, sem="relaxed")


@triton.jit
def expand_kernel(inner, b_of_slice, outs, columns, y, order, slots, counts, starts, tokens, rank, y_row,
                  BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    """y[token, column of the slice :] += inner B^T: a grid of (tiles, slices, segments)."""
    segment = tl.program_id(2)
    slot = tl.load(slots + segment).to(tl.int64)
    if slot < 0:
        return
    out = tl.load(outs + tl.program_id(1))
    row_tiles = tl.cdiv(tokens, BLOCK_M)
    first = tl.program_id(0) % row_tiles * BLOCK_M
    column = tl.program_id(0) // row_tiles * BLOCK_N + tl.arange(0, BLOCK_N)
    count = tl.load(counts + segment)
    if first >= count:
        return
    if tl.program_id(0) // row_tiles * BLOCK_N >= out:
        return
    row = first + tl.arange(0, BLOCK_M)
    token = segment_rows(order, counts, starts, segment, row, first, count)
    b = tl.load(b_of_slice + tl.program_id(1)).to(tl.pointer_type(y.dtype.element_ty)) + slot * out * rank
    kept = tl.where(column < out, column, 0).to(tl.int64)
    sums = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for step in range(0, tl.cdiv(rank, BLOCK_K)):
        at = step * BLOCK_K + tl.arange(0, BLOCK_K)
        left = tl.load(inner + (tl.program_id(1) * tokens + token[:, None]) * rank + at[None, :],
                       mask=(at < rank)[None, :], other=0.0)
        right = tl.load(b + kept[None, :] * rank + at[:, None], mask=(at < rank)[:, None], other=0.0)
        sums += tl.dot(left.to(right.dtype), right)
    into = y + token[:, None] * y_row + tl.load(columns + tl.program_id(1)) + column[None, :]
    mask = (row < count)[:, None] & (column < out)[None, :]
    tl.store(into, tl.load(into, mask=mask, other=0.0).to(tl.float32) + sums, mask=mask)


def triton_configs(scene):
    """How to cut the work: (shrink, expand), each {blocks, splits, warps, stages}. The first is what vLLM
    takes where it has not been tuned; the best of all is what is compared with."""
    few = scene.tokens < 128
    rank = max(16, triton.next_power_of_2(scene.max_rank))
    splits = 64 if few else 8
    found = [(dict(m=32, n=16, k=256 if few else 32, splits=splits, warps=4, stages=2),
              dict(m=64, n=max(64, triton.next_power_of_2(128 // len(scene.outs))), k=16, warps=4, stages=2))]
    if scene.tokens <= 256:
        found += [(dict(m=16, n=min(rank, 64), k=128, splits=s, warps=4, stages=3),
                   dict(m=16, n=128, k=min(rank, 64), warps=4, stages=2)) for s in (4, 16)]
    else:
        found += [(dict(m=64, n=min(rank, 64), k=64, splits=1, warps=4, stages=3),
                   dict(m=64, n=128, k=min(rank, 64), warps=4, stages=2)),
                  (dict(m=128, n=min(rank, 128), k=64, splits=1, warps=8, stages=3),
                   dict(m=128, n=128, k=min(rank, 64), warps=8, stages=2))]
    return found


def triton_product(scene, config=None):
    """Two launches, whatever the slices, over the slots' rank; the intermediate is cleared first."""
    shrink, expand = config or triton_configs(scene)[0]
    batch, rank, device = scene.batch, scene.max_rank, scene.x.device
    slices = len(scene.outs)
    inner = torch.zeros(slices, scene.tokens, rank, dtype=torch.float32, device=device)
    a_of_slice = torch.tensor([a.data_ptr() for a in scene.a], dtype=torch.int64, device=device)
    b_of_slice = torch.tensor([b.data_ptr() for b in scene.b], dtype=torch.int64, device=device)
    outs = torch.tensor(scene.outs, dtype=torch.int32, device=device)
    columns = torch.tensor(scene.column_of, dtype=torch.int32, device=device)
    meta = (batch.order, batch.slots, batch.counts, batch.starts, scene.tokens, rank)
    splits = shrink["splits"]
    shrink_grid = (splits * triton.cdiv(scene.tokens, shrink["m"]) * triton.cdiv(rank, shrink["n"]), slices,
                   batch.segments)
    expand_grid = (triton.cdiv(scene.tokens, expand["m"]) * triton.cdiv(max(scene.outs), expand["n"]), slices,
                   batch.segments)

    def run():
        inner.zero_()
        shrink_kernel[shrink_grid](
            scene.x, a_of_slice, inner, *meta, scene.in_, rank * scene.in_,
            EVEN_K=scene.in_ % (shrink["k"] * splits) == 0, SPLIT_K=splits, BLOCK_M=shrink["m"],
            BLOCK_N=shrink["n"], BLOCK_K=shrink["k"], num_warps=shrink["warps"], num_stages=shrink["stages"])
        expand_kernel[expand_grid](
            inner, b_of_slice, outs, columns, scene.y, *meta, sum(scene.outs), BLOCK_M=expand["m"],
            BLOCK_N=expand["n"], BLOCK_K=expand["k"], num_warps=expand["warps"], num_stages=expand["stages"])
    run.keep = (inner, a_of_slice, b_of_slice, outs, columns)
    return run


# ---- torch -----------------------------------------------------------------------------------------------

def bmm_product(scene):
    """torch.bmm over gathered weights, a token at a time: the plain way to decode."""
    if scene.tokens > 256 or any(slot < 0 for slot in scene.batch.slot_of_token.tolist()):
        return None
    slots = scene.batch.slot_of_token.to(scene.x.device).long()

    def run():
        for i, out in enumerate(scene.outs):
            inner = torch.bmm(scene.a[i][slots], scene.x.unsqueeze(2))
            found = torch.bmm(scene.b[i][slots], inner).squeeze(2)
            scene.y[:, scene.column_of[i]:scene.column_of[i] + out] += found
    return run


def segment_product(scene):
    """A torch product a segment and slice: the plain way of prefill."""
    def run():
        for slot, rows in scene.batch.users:
            x = scene.x[rows]
            for i, out in enumerate(scene.outs):
                rank, column = scene.ranks[i][slot], scene.column_of[i]
                found = (x @ scene.a[i][slot, :rank].T) @ scene.b[i][slot, :, :rank].T
                scene.y[rows, column:column + out] += found
    return run if scene.tokens > 256 else None


# ---- cuBLAS ----------------------------------------------------------------------------------------------

def stream_here():
    return ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)


def addresses(of, device):
    return torch.tensor(of, dtype=torch.int64, device=device)


def checked(status):
    if status != 0:
        raise RuntimeError(f"cuBLAS refused: status {status}")


def batched_product(cublas, scene):
    """cublasGemmBatchedEx: products of one shape, one a token, at the slots' rank; one call for all A, one
    for the B of each width."""
    if scene.tokens > 256:
        return None
    kind, rank, device, size = TYPES[scene.dtype], scene.max_rank, scene.x.device, 2
    live = [(t, s) for t, s in enumerate(scene.batch.slot_of_token.tolist()) if s >= 0]
    slices = range(len(scene.outs))
    inner = torch.empty(len(scene.outs), scene.tokens, rank, dtype=scene.dtype, device=device)
    y_row = sum(scene.outs)

    def at_x(t):
        return scene.x.data_ptr() + t * scene.in_ * size

    def at_inner(i, t):
        return inner.data_ptr() + (i * scene.tokens + t) * rank * size

    keep = [inner]
    calls = []

    def add(n, k, each, c_pitch, beta):
        arrays = [addresses([row[j] for row in each], device) for j in range(3)]
        keep.extend(arrays)
        calls.append((1, n, k, *[ctypes.c_void_p(array.data_ptr()) for array in arrays], c_pitch,
                      ctypes.c_float(beta), len(each)))

    add(rank, scene.in_, [(at_x(t), scene.a[i].data_ptr() + s * rank * scene.in_ * size, at_inner(i, t))
                          for i in slices for t, s in live], rank, 0)
    for out in sorted(set(scene.outs)):
        add(out, rank, [(at_inner(i, t), scene.b[i].data_ptr() + s * rank * out * size,
                         scene.y.data_ptr() + (t * y_row + scene.column_of[i]) * size)
                        for i in slices if scene.outs[i] == out for t, s in live], y_row, 1)

    def run():
        for call in calls:
            checked(cublas.cublas_batched(kind, *call, stream_here()))
    run.keep = keep
    return run


def grouped_product(cublas, scene):
    """cublasGemmGroupedBatchedEx: a product a segment and slice, at its own rank, over tokens that are put
    into the segments' order and back, as whoever uses it has to."""
    if not hasattr(cublas, "cublas_grouped"):
        return None
    kind, rank, device, size = TYPES[scene.dtype], scene.max_rank, scene.x.device, 2
    rows = torch.cat([tokens for _, tokens in scene.batch.users]).long()
    y_row = sum(scene.outs)
    inner = torch.empty(len(scene.outs), len(rows), rank, dtype=scene.dtype, device=device)
    x, y = scene.x[rows], scene.y[rows]
    shrinks, expands, begin = [], [], 0
    for slot, tokens in scene.batch.users:
        for i, out in enumerate(scene.outs):
            own, m = scene.ranks[i][slot], len(tokens)
            at_inner = inner.data_ptr() + (i * len(rows) + begin) * rank * size
            shrinks.append((m, own, scene.in_, x.data_ptr() + begin * scene.in_ * size, scene.in_,
                            scene.a[i].data_ptr() + slot * rank * scene.in_ * size, scene.in_,
                            at_inner, rank))
            expands.append((m, out, own, at_inner, rank,
                            scene.b[i].data_ptr() + slot * rank * out * size, rank,
                            y.data_ptr() + (begin * y_row + scene.column_of[i]) * size, y_row))
        begin += len(tokens)
    keep = [inner, x, y, rows]
    calls = []
    for groups, beta in ((shrinks, 0), (expands, 1)):
        ints = ctypes.c_int * len(groups)
        column = list(zip(*groups))
        m, n, k, a_pitch, b_pitch, c_pitch = (ints(*column[j]) for j in (0, 1, 2, 4, 6, 8))
        a, b, c = (addresses(column[j], device) for j in (3, 5, 7))
        keep.extend((a, b, c))
        calls.append((len(groups), m, n, k, ctypes.c_void_p(a.data_ptr()), a_pitch,
                      ctypes.c_void_p(b.data_ptr()), b_pitch, ctypes.c_void_p(c.data_ptr()), c_pitch,
                      ctypes.c_float(beta)))

    def run():
        torch.index_select(scene.x, 0, rows, out=x)
        torch.index_select(scene.y, 0, rows, out=y)
        for call in calls:
            checked(cublas.cublas_grouped(kind, *call, stream_here()))
        scene.y.index_copy_(0, rows, y)
    run.keep = keep
    return run
