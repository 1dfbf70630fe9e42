"""Chooses the routing seed of a workload: every workload gets work, and no more or less than its rank's share.

Entry point: `choose_seed`. Its answers are stored in the workload lines, so that the generator alone need not search.
"""

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bakeoff.core.moe import routing
from bakeoff.core.moe.emulate import emulate
from bakeoff.core.moe.geometry import Geometry
from bakeoff.core.moe.reference import run
from bakeoff.core.moe.values import Tensors, draw_routing, in_order, make_activations, make_weights
from bakeoff.errors import InputError
from bakeoff.schema.gates import Rounding

if TYPE_CHECKING:
    from bakeoff.traces.models import RoutingStats

SEED_LIMIT = 10_000
VALUE_SEEDS = (0, 1, 2)
FACTOR = 2.5
# The coarsest roundings of the benchmark's solutions: GEMM1's output and the intermediate in FP8.
COARSEST = tuple(
    Rounding(gemm1_output=casts, intermediate=("fp8_block128",), gemm2_output=("bfloat16",))
    for casts in (("bfloat16", "fp8_block128"), ("fp8_block128",))
)
# A row of 512 columns matches the reference in 0.866 +- 0.015 of its elements under them. Where one row is the whole
# output, the published gate (0.85) would reject two honest outputs of the twelve in docs/numerics.md; a row under this
# bound is not taken.
MATCHED_ROW = 0.855


@dataclass(frozen=True)
class _Probe:
    """A case that exists only to try a routing seed."""

    seq_len: int
    offset: int
    seed: int
    factor: float = FACTOR
    routing: None = None


@functools.lru_cache(maxsize=64)
def choose_seed(geometry: Geometry, seq_len: int, offset: int) -> int:
    """The smallest seed whose routing is typical. It does not depend on the geometry's width.

    More than one token: the share of active tokens is within 1/8 of what the kept groups give (a half), and the pairs
    per token are within 1/4 of theirs (one). One token: exactly two local experts, and an output row that is no outlier
    of the rounding noise (MATCHED_ROW). Raises InputError if no seed below 10,000 is typical.
    """
    for seed in range(SEED_LIMIT):
        probe = _Probe(seq_len, offset, seed)
        if _typical_single(geometry, probe) if seq_len == 1 else _typical(geometry, probe):
            return seed
    raise InputError(
        f"workload T{seq_len}_o{offset}",
        found=f"no typical routing under {SEED_LIMIT} seeds",
        expected="a sequence length and an offset whose rank gets about its share of work",
        hint="give the workload line a seed of its own: bakeoff.seed",
    )


def _typical(geometry: Geometry, probe: _Probe) -> bool:
    found = _stats(geometry, probe)
    share = geometry.top_groups / geometry.groups
    pairs = geometry.top_k * geometry.local_experts / geometry.experts
    close = abs(found.active_tokens / probe.seq_len - share) <= 1 / 8
    return close and abs(found.local_pairs / probe.seq_len - pairs) <= 1 / 4


def _stats(geometry: Geometry, probe: _Probe) -> "RoutingStats":
    logits, bias = draw_routing(geometry, probe, probe.seed)
    return routing.stats(routing.route(logits, bias, probe.factor, geometry), probe.offset, geometry)


def _typical_single(geometry: Geometry, probe: _Probe) -> bool:
    if _stats(geometry, probe).local_pairs != 2:
        return False
    # At the narrow width, where a row is noisiest.
    narrow = replace(geometry, hidden=512, intermediate=256)
    return all(_matched_ratio(narrow, probe, seed) >= MATCHED_ROW for seed in VALUE_SEEDS)


def _matched_ratio(geometry: Geometry, probe: _Probe, seed: int) -> float:
    """Least share of elements within 20 % of the reference under the coarsest roundings, on `fib` values."""
    states = make_activations(geometry, probe, "fib", seed)
    weights = _narrow_weights(geometry, seed)
    inputs = in_order(draw_routing(geometry, probe, probe.seed), states, weights, probe.offset, probe.factor)
    reference = run(**inputs).float()
    errors = ((emulate(geometry, inputs, rounding).float() - reference).abs() for rounding in COARSEST)
    return min(float((error <= 0.2 * reference.abs()).float().mean()) for error in errors)


@functools.lru_cache(maxsize=len(VALUE_SEEDS))
def _narrow_weights(geometry: Geometry, seed: int) -> Tensors:
    return make_weights(geometry, "fib", seed)
