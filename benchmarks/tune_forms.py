"""Finds up to how many tokens each form of v3's and v3.2's GEMMs is the fastest on this GPU; about a minute.

  python benchmarks/tune_forms.py            # prints the times and the table's line
  python benchmarks/tune_forms.py --write    # and puts it into solutions/common/cute_forms.py

Both GEMMs of the layer at the full width, T pairs spread evenly at random over the 32 experts, as an average rank has
them;
cold L2, CUDA events, median of 7. Needs the GPU packages of the CuTeDSL solutions, nothing of bakeoff.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import json
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "solutions" / "common" / "cute_forms.py"
EXPERTS = 32
ARCHES = {(9, 0): "sm_90a", (10, 0): "sm_100a"}
GEMMS = (("gemm1", 4096, 7168, True), ("gemm2", 7168, 2048, False))  # label, N, K, e4m3 result
TOKENS = (16, 48, 96, 192, 256, 400, 640, 901, 1100, 1400, 2048, 2700, 3400, 4096, 6000)
SWAPPED = (16, 64, 128)  # rows of the token tiles to choose from; the plain form follows


def timed(call: Callable[[], Any], flush: torch.Tensor, repeats: int = 7) -> float:
    """Median microseconds on the GPU, the L2 cache cold."""
    times = []
    for i in range(repeats + 2):
        flush.fill_(i)
        torch.cuda._sleep(200_000)  # the host is ahead when the clock starts
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        end.synchronize()
        if i > 1:
            times.append(start.elapsed_time(end) * 1e3)
    return statistics.median(times)


def random_fp8(*shape: int) -> torch.Tensor:
    """Uniform random e4m3 of moderate size, as bytes."""
    return torch.randint(0, 0x48, shape, dtype=torch.uint8, device="cuda")


class Operands:
    """Both GEMMs' operands for one number of tokens."""

    def __init__(self, tokens: int, weights: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> None:
        generator = torch.Generator().manual_seed(tokens)
        counts = torch.bincount(torch.randint(0, EXPERTS, (tokens,), generator=generator), minlength=EXPERTS)
        first = torch.zeros(EXPERTS + 1, dtype=torch.int32)
        first[1:] = ((counts + 127) // 128 * 128).cumsum(0)
        self.rows, self.weights = int(first[-1]), weights
        self.first, self.counts = first.cuda(), counts.int().cuda()

    def arguments(self, label: str, n: int, k: int, fp8: bool) -> list[Any]:
        scale = torch.rand(k // 128, self.rows, device="cuda")
        out = torch.empty(self.rows, n, dtype=torch.uint8 if fp8 else torch.bfloat16, device="cuda")
        out_scale = torch.empty(n // 128, self.rows, device="cuda") if fp8 else scale
        return [random_fp8(self.rows, k), scale, *self.weights[label], out, out_scale, self.first, self.counts]


def measure(gemm: Any, arch: str) -> dict[int, dict[str, float]]:
    """Tokens -> form -> microseconds of both GEMMs together."""
    flush = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
    weights = {
        label: (random_fp8(EXPERTS, n, k), torch.rand(EXPERTS, n // 128, k // 128, device="cuda"))
        for label, n, k, _ in GEMMS
    }
    built = {
        (label, form.name): (form, gemm.compile_gemm(label, arch, form))
        for label, _, _, fp8 in GEMMS
        for form in gemm.all_forms(fp8, arch)
    }
    processors = torch.cuda.get_device_properties(0).multi_processor_count
    found: dict[int, dict[str, float]] = {}
    for tokens in TOKENS:
        operands, times = Operands(tokens, weights), {}
        for label, n, k, fp8 in GEMMS:
            arguments = operands.arguments(label, n, k, fp8)
            for form in gemm.all_forms(fp8, arch):
                launch, blocks = built[label, form.name][1], processors // form.cluster * form.cluster
                took = timed(lambda: launch(*arguments, blocks), flush)  # noqa: B023
                times[form.name] = times.get(form.name, 0.0) + took
        found[tokens] = times
        print(f"T = {tokens:5d}  " + "  ".join(f"{name} {us:7.1f}" for name, us in times.items()), flush=True)
    return found


def choose_plain(times: dict[int, dict[str, float]]) -> int:
    """Blocks of a cluster of the plain form, by the most tokens; the other plain forms leave the times."""
    last = times[max(times)]
    best = min((name for name in last if name.startswith("plain")), key=last.__getitem__)
    for row in times.values():
        row["plain"] = row[best]
        for name in [name for name in row if name.startswith("plain") and name != "plain"]:
            del row[name]
    return int(best.removeprefix("plain") or 2)


def best_limits(times: dict[int, dict[str, float]], overlap_limit: int) -> dict[int, int]:
    """Limits for which the geometric mean of the times is least; one of them is where a call's kernels stop
    overlapping."""
    tokens = sorted(times)

    def cost(limits: tuple[int, ...]) -> float:
        total = 1.0
        for t in tokens:
            name = next((f"swapped{rows}" for rows, limit in zip(SWAPPED, limits, strict=True) if t <= limit), "plain")
            total *= times[t][name] / min(times[t].values())
        return total

    steps = sorted({0, *tokens, overlap_limit})
    choices = [c for c in itertools.combinations_with_replacement(steps, len(SWAPPED)) if overlap_limit in c]
    best, table, last = min(choices, key=lambda limits: (cost(limits), limits)), {}, 0
    for rows, limit in zip(SWAPPED, best, strict=True):
        if limit > last:
            table[limit], last = rows, limit
    return table


def write_cluster(text: str, chip: str, cluster: int) -> str:
    """The module's text with the chip's clusters of the plain form, where they are not of two."""
    head, old, tail = re.split(r"(?m)^PLAIN_CLUSTER: dict\[str, int\] = (.*)$", text)
    clusters = {**ast.literal_eval(old), chip: cluster}
    kept = {name: blocks for name, blocks in clusters.items() if blocks != 2}
    return f"{head}PLAIN_CLUSTER: dict[str, int] = {json.dumps(kept)}{tail}"


def write_table(text: str, chip: str, table: dict[int, int]) -> str:
    """The module's text with the chip's line put in or replaced."""
    line = f'    "{chip}": {table},\n'
    old = re.compile(rf'^    "{re.escape(chip)}": .*\n', re.MULTILINE)
    return old.sub(line, text) if old.search(text) else text.replace("}\n# fmt: on", f"{line}}}\n# fmt: on")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the line into solutions/common/cute_forms.py")
    write = parser.parse_args().write
    arch = ARCHES.get(torch.cuda.get_device_capability())
    if arch is None:
        raise SystemExit(f"found {torch.cuda.get_device_name()}; expected a GPU of compute capability 9.0 or 10.0")
    sys.path.insert(0, str(ROOT / "solutions"))
    from common import cute_gemm

    times = measure(cute_gemm, arch)
    cluster, chip = choose_plain(times), torch.cuda.get_device_name()
    table = best_limits(times, cute_gemm.OVERLAP_LIMIT)
    print(f'    "{chip}": {table},  # the plain form in clusters of {cluster}')
    if write:
        TABLE.write_text(write_cluster(write_table(TABLE.read_text(), chip, table), chip, cluster))


if __name__ == "__main__":
    main()
