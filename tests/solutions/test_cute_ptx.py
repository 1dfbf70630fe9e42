"""The grouped GEMMs' PTX, both chips', run on a CPU: the machine of `ptx_machine` against float64.

This is what stands in for a GPU that is not at hand: the whole kernel runs as it was compiled, descriptors, barriers,
tensor memory and all. What is not in the PTX stays open: the tensor maps that the host encodes, ptxas, and the chip
itself. The Hopper kernels, which do run on a GPU, show that the machine is right about what they share.
"""

from __future__ import annotations

import functools
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.cute_support import built_form, module, starts
from support.triton_product import triton_product

maps = module("cute_maps")
gemm = module("cute_gemm")

pytest.importorskip("cutlass", reason="needs nvidia-cutlass-dsl: make setup")
from ptx.ptx_machine import E4M3, WAIT, Fault, Memory, TensorMap, parse  # noqa: E402
from ptx.ptx_units import instruction_word, run_cluster  # noqa: E402

ARCHES = ("sm_90a", "sm_100a")
BUILT = [(arch, form) for arch in ARCHES for fp8 in (False, True) for form in gemm.forms(arch, fp8).values()]
(PLAIN4,) = (form for form in gemm.all_forms(False, "sm_100a") if form.cluster == 4)
N, SEED = 512, 5
UNTOUCHED = 0x55  # in results: no kernel writes it by chance to a whole row, and it is no number's absence either
# Rows of each expert, by the rows of Y in a tile: several tiles, a lone last one, an expert without rows, padding in
# every group.
COUNTS = {16: [3, 0, 17, 1], 64: [65, 0, 3, 0], 128: [129, 0, 40, 0], 256: [129, 0, 200, 1]}


def built_id(value):
    return f"{value.name}-{'e4m3' if value.fp8_out else 'bf16'}" if isinstance(value, maps.Form) else value


@functools.cache
def compiled(arch, form):
    return built_form(arch, form).ptx if (arch, form) in BUILT else gemm.compile_gemm("gemm1", arch, form).__ptx__


class Problem:
    """Random operands of one small grouped GEMM; padding is not a number, so that a use of it shows."""

    def __init__(self, form, k, seed=SEED, counts=None, n=N):
        random = np.random.default_rng(seed)
        self.form, self.k, self.n, self.counts = form, k, n, counts or COUNTS[form.tile_y]
        self.first = starts(self.counts)
        self.rows, experts = self.first[-1], len(self.counts)
        # Small values of both signs, none of them not a number, so that float32 sums are nearly exact.
        self.a, self.b = (
            random.integers(0, 0x48, shape, np.uint8) | random.integers(0, 2, shape, np.uint8) << 7
            for shape in ((self.rows, k), (experts, n, k))
        )
        self.a_scale = random.standard_normal((k // 128, self.rows)).astype("f4")
        self.b_scale = random.standard_normal((experts, n // 128, k // 128)).astype("f4")
        self.true = np.zeros(self.rows, dtype=bool)
        for start, count in zip(self.first, self.counts, strict=False):
            self.true[start : start + count] = True
        self.a[~self.true], self.a_scale[:, ~self.true] = 0xFF, np.nan
        self.out = np.full((self.rows, n), UNTOUCHED, dtype="u1" if form.fp8_out else "i2")
        self.out_scale = np.full((n // 128, self.rows), UNTOUCHED, dtype="f4")

    def expected(self):
        """float64 result of all rows; not a number for padding."""
        result = np.full((self.rows, self.n), np.nan)
        for e, (start, count) in enumerate(zip(self.first, self.counts, strict=False)):
            rows = slice(start, start + count)
            a = E4M3[self.a[rows]] * np.repeat(self.a_scale[:, rows].T.astype("f8"), 128, 1)
            scale = np.repeat(np.repeat(self.b_scale[e].astype("f8"), 128, 0), 128, 1)
            result[rows] = a @ (E4M3[self.b[e]] * scale).T
        return result

    def parameters(self, program, memory):
        """The kernel's parameters in the order of `GroupedGemmBase.kernel`: descriptors, scalars of the product,
        tensors, K."""
        form = self.form
        x, y = (self.b, self.a) if form.swapped else (self.a, self.b)
        shared = form.cluster if form.cluster > 1 else 1
        loads = [
            TensorMap(data, rows // part, late=form.overlap and data is self.a)
            for part in (1, shared)
            for data, rows in ((x, 128), (y, form.tile_y))
        ]
        indptr, count = np.array(self.first, "i4"), np.array(self.counts, "i4")
        # Tokens come from the kernel before, and what was in the results' place may still be read by it.
        late = dict.fromkeys(map(id, (self.a_scale, self.out, self.out_scale)), form.overlap)
        tensors = (self.a_scale, self.b_scale, self.out, self.out_scale, indptr, count)
        values = [part for load in loads for part in (load, np.zeros(16, "u1"))]
        values.append(np.zeros(64, "u1"))  # nothing is negated, no lane is switched off
        values += [self.tensor(array, memory, late.get(id(array), False)) for array in tensors]
        values.append(np.array([self.k], "i4").view("u1"))
        assert len(program.parameters) == len(values)
        return dict(zip(program.parameters, values, strict=True))

    @staticmethod
    def tensor(array, memory, late):
        """A tensor argument: address, then sizes; strides, which the kernels do not read, are poison."""
        raw = np.full(64, 0x7F, dtype=np.uint8)
        raw[:8] = np.array([memory.add(array, late)], "u8").view("u1")
        raw[8 : 8 + 4 * array.ndim] = np.array(array.shape, "i4").view("u1")
        return raw

    def run(self, ptx, blocks, seed=SEED, favoured=None):
        program, memory = parse(ptx), Memory()
        parameters = self.parameters(program, memory)
        with np.errstate(all="ignore"):
            for first in range(0, blocks, self.form.cluster):
                run_cluster(
                    program,
                    memory,
                    parameters,
                    first=first,
                    grid=blocks,
                    cluster=self.form.cluster,
                    shared=maps.shared_bytes(self.form) // 4 * 4,
                    seed=seed + first,
                    favoured=favoured,
                )

    def value(self):
        if self.form.fp8_out:
            return E4M3[self.out] * np.repeat(self.out_scale.T.astype("f8"), 128, 1)
        return torch.from_numpy(self.out.copy()).view(torch.bfloat16).double().numpy()

    def check(self):
        got, want, true = self.value(), self.expected(), self.true
        error = np.linalg.norm(got[true] - want[true], axis=1) / np.linalg.norm(want[true], axis=1)
        # bfloat16 keeps 8 bits, e4m3 4 bits with one scale for 128 columns.
        assert error.max() < (0.04 if self.form.fp8_out else 0.004), f"rows {np.flatnonzero(~(error < 0.04))} are off"
        if self.form.fp8_out:
            amax = np.abs(want[true]).reshape(-1, self.n // 128, 128).max(2)
            np.testing.assert_allclose(self.out_scale.T[true] * maps.FP8_MAX, amax, rtol=1e-5)
        assert (self.out[~true] == UNTOUCHED).all(), "padding was written"
        where = ~true if self.form.fp8_out else slice(None)
        assert (self.out_scale.T[where] == UNTOUCHED).all(), "scales of padding were written"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "form", "k"),
    [(arch, form, k) for arch, form in BUILT for k in ((384,) if form.fp8_out else (128, 384))],
    ids=built_id,
)
def test_the_compiled_kernel_computes_the_grouped_product(arch, form, k):
    problem = Problem(form, k)
    problem.run(compiled(arch, form), blocks=2)
    problem.check()


@pytest.mark.slow
def test_clusters_of_four_share_a_weight_tile_and_what_is_left_a_token_tile():
    """Five row tiles: a cluster of four that shares weights, one row that four columns share; and rows alone."""
    problem = Problem(PLAIN4, 128, counts=[513, 0, 129], n=1024)
    problem.run(compiled("sm_100a", PLAIN4), blocks=4)
    problem.check()


# --- the machine objects ----------------------------------------------------------------------------------------------

PLAIN, SWAPPED = (next(form for _, form in BUILT if form.name == name) for name in ("plain", "swapped16"))
SHALLOW = replace(SWAPPED, stages=2)  # the loader refills a slot at once
BLACKWELL_BITS = (
    1 << 62 | 1 << 46 | (1024 >> 4) << 32 | 1 << 16
)  # descriptor: swizzle, version, stride of 8 rows, unused
# Chip, form, what is broken in the machine code (a pattern and what takes its place), and what the machine says;
# None: nothing, but the result is wrong.
BROKEN = {
    "no fence after the barriers are made": ("sm_90a", SWAPPED, r"fence\.mbarrier_init\S+;", "", "without its fence"),
    "one byte count too large": (
        "sm_90a",
        SWAPPED,
        rf"\b{SWAPPED.stage_bytes};",
        f"{SWAPPED.stage_bytes + 16};",
        "deadlock",
    ),
    "products before their registers are ordered": ("sm_90a", SWAPPED, r"wgmma\.fence\S+;", "", "without wgmma.fence"),
    "results read before the products are done": ("sm_90a", SWAPPED, r"wgmma\.wait_group\S+\s+0;", "", "under way"),
    "a slot given back before its products are done": (
        "sm_90a",
        SHALLOW,
        r"(wgmma\.wait_group\S+\s+0;)(.*?mbarrier\.arrive\.shared\.b64[^;]*;\s*\$\w+:)",
        r"\2\1",
        "changed while",
    ),
    "no fence before tensor memory is read": ("sm_100a", SWAPPED, r"tcgen05\.fence::after\S+;", "", "no fence::after"),
    "no fence before a signal": ("sm_100a", SWAPPED, r"tcgen05\.fence::before\S+;", "", "without fence::before"),
    "tensor memory read without a wait": ("sm_100a", SWAPPED, r"tcgen05\.wait::ld\S+;", "", None),
    "products never signalled": ("sm_100a", SWAPPED, r"tcgen05\.commit\S+\s+\[[^\]]*\];", "", "deadlock"),
    "tensor memory never freed": ("sm_100a", SWAPPED, r"tcgen05\.dealloc[^;]*;", "", "was not freed"),
    "fewer columns of tensor memory than are used": (
        "sm_100a",
        SWAPPED,
        r"(mov\.b32\s+%r\d+), 64;",
        r"\1, 32;",
        "not allocated",
    ),
    "another swizzle": ("sm_100a", SWAPPED, str(BLACKWELL_BITS), str(BLACKWELL_BITS ^ 6 << 61), "swizzle"),
    "blocks that do not wait for their partner": (
        "sm_100a",
        PLAIN,
        r"barrier\.cluster\.wait;",
        "",
        "no barrier was|has left",
    ),
    "tokens read before the kernel before has ended": (
        "sm_90a",
        SWAPPED,
        r"griddepcontrol\.wait;",
        "",
        "touched while the kernel before",
    ),
    "signals to one block of two": ("sm_100a", PLAIN, r"(mapa\S+\s+\S+\s+\S+) 1;", r"\1 0;", "more arrivals|deadlock"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_the_machine_objects_to_a_broken_kernel(name):
    arch, form, pattern, instead, complaint = BROKEN[name]
    ptx, changes = re.subn(pattern, instead, compiled(arch, form), flags=re.DOTALL)
    assert changes, "the pattern no longer occurs in the PTX"
    if complaint:
        with pytest.raises(Fault, match=complaint):  # a missing wait shows where one block runs ahead
            Problem(form, k=384).run(ptx, blocks=2, favoured=0 if "partner" in name else None)
        return
    problem = Problem(form, k=384)
    problem.run(ptx, blocks=2)
    with pytest.raises(AssertionError, match="are off"):
        problem.check()


@pytest.mark.slow
@pytest.mark.parametrize("columns", [16, 256])
def test_another_compiler_makes_the_same_descriptors(columns):
    """Triton's products of the same operands: 128 rows of e4m3, K-major in rows of 128 swizzled bytes."""
    ptx = triton_product(columns)
    (word,) = set(re.findall(r"tcgen05\.mma\.cta_group::1\.kind::f8f6f4 \[[^]]*\], %rd\d+, %rd\d+, (%r\d+),", ptx))
    assert re.findall(rf"mov\.b32\s+{word}, (\d+);", ptx) == [str(instruction_word(128, columns))]
    operands = {int(number) for number in re.findall(r"(?:or\.b64|add\.s64)\s+%rd\d+, %rd\d+, (\d{19});", ptx)}
    leading = 1 << 16  # leading offset, which counts without a swizzle only: CuTeDSL writes 1, Triton 0
    assert operands == {BLACKWELL_BITS - leading + 2 * step for step in range(4)}, "32 bytes further for each 32 of K"
    assert str(BLACKWELL_BITS) in compiled("sm_100a", SWAPPED)


def without_ends(ptx, loader_wait, release):
    """The kernel without the loader's last wait for its slots, or with a relaxed arrival at its last barrier."""
    waits = [found.span() for found in WAIT.finditer(ptx)]
    if not loader_wait:
        start, end = waits[LOADERS_LAST_WAIT]
        ptx = ptx[:start] + ptx[end:]
    if not release:
        ptx, changes = re.subn(r"barrier\.cluster\.arrive;", "barrier.cluster.arrive.relaxed;", ptx)
        assert changes == 1
    return ptx


LOADERS_LAST_WAIT = 1  # of the waits in the order of the code: the loader's for a slot, this one, the consumers'


@pytest.mark.slow
def test_a_block_that_leaves_waits_for_its_partners_last_signals():
    """Either end is enough on Hopper; without both, late signals meet a block that has left, in some orders."""
    ptx, problem = compiled("sm_90a", PLAIN), functools.partial(Problem, PLAIN, k=128, n=256, counts=[129, 3])
    for loader_wait, release in ((True, False), (False, True)):
        for seed in range(4):
            problem().run(without_ends(ptx, loader_wait, release), blocks=2, seed=seed)
    with pytest.raises(Fault, match="has left"):
        for seed in range(12):
            problem().run(without_ends(ptx, False, False), blocks=2, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHES)
def test_row_counts_are_read_past_the_l1_cache(arch):
    """With overlap a GEMM reads them before it has waited for whoever wrote them; it loads nothing else by threads."""
    ptx = compiled(arch, SWAPPED)
    assert len(re.findall(r"ld\.relaxed\.gpu\.global", ptx)) == 2
    assert not re.findall(r"ld\.global", ptx)
