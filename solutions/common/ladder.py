"""What a chip that is new to the grouped GEMMs is asked first: one tile and one K block, then more of each.

Entry points: `steps`, and `run_step`, which compares one of them with float64. No solution imports this;
`bakeoff first-contact` does. The operands' padding is not a number, so that a use of it shows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from . import cute_gemm as gemm
from . import cute_maps as maps

FULL_K = 7168
EXPERTS = (1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 300, 0, 0, 2, 7, 31, 32, 33, 256, 257, *(0, 5, 8, 9) * 3)
BOUND = {False: 0.004, True: 0.04}  # of a row's error: bfloat16 keeps 8 bits, e4m3 4 with one scale for 128 columns


class Step(NamedTuple):
    """One GEMM: N columns, K, rows of each expert."""

    name: str
    form: str
    n: int
    k: int
    counts: tuple[int, ...]
    fp8: bool = False
    overlap: bool = False
    runs: int = 1


STEPS = [
    Step("one tile, one K block", "swapped16", 128, 128, (1,)),
    Step("a whole tile of tokens", "swapped16", 128, 128, (16,)),
    Step("as many K blocks as the ring has slots, and more", "swapped16", 128, FULL_K, (16,)),
    Step("more column tiles than multiprocessors", "swapped16", 128 * 320, 512, (16,)),
    Step("all experts, at the tiles' boundaries", "swapped16", 512, 512, EXPERTS),
    Step("FP8 results and their scales", "swapped16", 512, 512, EXPERTS, fp8=True),
    Step("tiles of 64 tokens", "swapped64", 512, 512, EXPERTS),
    Step("tiles of 128 tokens", "swapped128", 512, 512, EXPERTS),
    Step("a cluster of two that shares tokens, one K block", "plain", 512, 128, (128,)),
    Step("a cluster of two that shares weights, one K block", "plain", 512, 128, (256,)),
    Step("a cluster of two, full K", "plain", 512, FULL_K, (256, 129)),
    Step("clusters, all experts", "plain", 512, 512, EXPERTS),
    Step("clusters, all experts, FP8 results", "plain", 512, 512, EXPERTS, fp8=True),
    Step("a cluster of four", "plain4", 1024, 512, (513, 129)),
    Step("clusters of four, all experts, FP8 results", "plain4", 1024, 512, EXPERTS, fp8=True),
    Step("kernels that overlap", "swapped16", 512, 512, EXPERTS, overlap=True, runs=3),
    Step("200 runs, bit by bit the same", "plain", 512, 512, EXPERTS, runs=200),
]


def steps(arch: str) -> list[Step]:
    """The steps of a chip, in their order."""
    return [step for step in STEPS if step.overlap or step.form in [form.name for form in gemm.all_forms(False, arch)]]


def run_step(step: Step, arch: str, device: str = "cuda") -> tuple[float, float]:
    """Run a step; returns (error of the worst row, its bound), an infinite error where padding was written or two runs
    differ."""
    form = _form(step, arch)
    launch, problem = launcher(arch, form), _Problem(step, device)
    outputs = []
    for _ in range(step.runs):
        out, out_scale = problem.outputs(step.fp8)
        launch(*problem.operands, out, out_scale, problem.indptr, problem.count, _blocks(form, device))
        outputs.append((out, out_scale))
    got, (first, _), true = problem.value(*outputs[0]), outputs[0], problem.true
    # The first run's bits are compared on the device; rows of padding are what they were.
    same = all(torch.equal(first[true].view(torch.uint8), out[true].view(torch.uint8)) for out, _ in outputs)
    untouched = bool((first[~true].view(torch.uint8) == UNTOUCHED).all())
    want = problem.expected()[true]
    error = float(((got[true] - want).norm(dim=1) / want.norm(dim=1)).nan_to_num(torch.inf).max())
    return (error if same and untouched else torch.inf), BOUND[step.fp8]


UNTOUCHED = 0x55  # in results: no kernel writes it to all of a row by chance


def _form(step: Step, arch: str) -> Any:
    found = gemm.forms(arch, step.fp8).values() if step.overlap else gemm.all_forms(step.fp8, arch)
    return next(form for form in found if form.name == step.form)


@functools.cache
def launcher(arch: str, form: Any) -> Callable[..., None]:
    """The compiled form."""
    return gemm.compile_gemm("gemm1", arch, form)


def _blocks(form: Any, device: str) -> int:
    if device == "cpu":
        return form.cluster
    return torch.cuda.get_device_properties(0).multi_processor_count // form.cluster * form.cluster


class _Problem:
    """Random operands of a step, and what they give in float64."""

    def __init__(self, step: Step, device: str) -> None:
        experts = len(step.counts)
        starts = [0]
        for count in step.counts:
            starts.append(starts[-1] + -(-count // maps.BLOCK) * maps.BLOCK)
        self.step, self.starts, self.rows, self.device = step, starts, starts[-1] + maps.BLOCK, device
        random = torch.Generator(device).manual_seed(7)
        normal = functools.partial(torch.randn, device=device, generator=random)
        self.a = normal(self.rows, step.k).clamp(-2, 2).to(torch.float8_e4m3fn)
        self.b = normal(experts, step.n, step.k).clamp(-2, 2).to(torch.float8_e4m3fn)
        blocks = step.k // maps.BLOCK
        self.a_scale, self.b_scale = normal(blocks, self.rows), normal(experts, step.n // maps.BLOCK, blocks)
        self.true = torch.zeros(self.rows, dtype=torch.bool, device=device)
        for start, count in zip(starts, step.counts, strict=False):
            self.true[start : start + count] = True
        self.a_scale[:, ~self.true] = float("nan")
        self.operands = (self.a.view(torch.uint8), self.a_scale, self.b.view(torch.uint8), self.b_scale)
        self.indptr = torch.tensor(starts, dtype=torch.int32, device=device)
        self.count = torch.tensor(step.counts, dtype=torch.int32, device=device)

    def outputs(self, fp8: bool) -> tuple[torch.Tensor, torch.Tensor]:
        kind = torch.uint8 if fp8 else torch.bfloat16
        out = torch.empty(self.rows, self.step.n, dtype=kind, device=self.device)
        out.view(torch.uint8).fill_(UNTOUCHED)
        return out, torch.ones(self.step.n // maps.BLOCK, self.rows, device=self.device)

    def value(self, out: torch.Tensor, out_scale: torch.Tensor) -> torch.Tensor:
        if not self.step.fp8:
            return out.double()
        return out.view(torch.float8_e4m3fn).double() * out_scale.t().repeat_interleave(maps.BLOCK, 1).double()

    def expected(self) -> torch.Tensor:
        result = torch.zeros(self.rows, self.step.n, dtype=torch.float64, device=self.device)
        for e, (start, count) in enumerate(zip(self.starts, self.step.counts, strict=False)):
            rows = slice(start, start + count)
            a = self.a[rows].double() * self.a_scale[:, rows].t().repeat_interleave(maps.BLOCK, 1)
            scale = self.b_scale[e].repeat_interleave(maps.BLOCK, 0).repeat_interleave(maps.BLOCK, 1)
            result[rows] = a @ (self.b[e].double() * scale).t()
        return result
