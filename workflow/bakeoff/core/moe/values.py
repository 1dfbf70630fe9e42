"""Everything that a seed decides: the values of weights, activations and routing, the same bits on every device.

Entry points: `make_weights`, `make_activations`, `draw_routing`. Value families: `fib` as FlashInfer-Bench draws them
(e4m3 of N(0, 1) clamped to +-2, scales N(0, 1)) and `realistic` (N(0, 1) activations and N(0, 0.02) weights, quantized
with scales of amax / 448). Which seed a workload has, and what comes from a data set instead, is for `inputs` to say.
"""

from collections.abc import Iterator
from typing import Literal, Protocol

import torch

from bakeoff.core.moe import generator
from bakeoff.core.moe.generator import UNIT, draw, draw_flat, stream_key, table
from bakeoff.core.moe.geometry import Geometry
from bakeoff.errors import InputError

Family = Literal["fib", "realistic"]
Steering = Literal["even", "local8"]
FAMILIES: tuple[Family, ...] = ("fib", "realistic")
Tensors = dict[str, torch.Tensor]

BIAS_LOW, BIAS_HIGH, HIGH_BIASES = 4.9375, 4.96875, 102
# Tokens whose choice hangs on less than this, in exact arithmetic, are drawn again. 2e-6 is the ambiguity bound; the
# rest covers the rounding of float32 group scores near 10 (half a unit, 4.8e-7, for each of two sums and their four
# terms).
REDRAW_GAP = 5e-6
# Elements drawn at once: on a CPU what its caches hold, on a GPU < 1 GB of temporaries.
CHUNK = {"cpu": 1 << 17, "cuda": 1 << 23}


class Place(Protocol):
    """What the values of a workload hang on, beside their seed."""

    @property
    def seq_len(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def routing(self) -> Steering | None: ...


def make_weights(
    geometry: Geometry, family: Family, seed: int, device: torch.device | str = "cpu", experts: range | None = None
) -> Tensors:
    """The four weight tensors, for all local experts or for `experts` alone (their values do not depend on the
    others)."""
    experts = range(geometry.local_experts) if experts is None else experts
    _check_family(family)
    made: Tensors = {}
    for name, rows, columns in (
        ("gemm1_weights", 2 * geometry.intermediate, geometry.hidden),
        ("gemm2_weights", geometry.hidden, geometry.intermediate),
    ):
        stacked = range(experts.start * rows, experts.stop * rows)
        data, scale = _fp8_matrix((seed, name), family, stacked, columns, geometry.block, device)
        made[name] = data.view(len(experts), rows, columns)
        made[f"{name}_scale"] = scale.view(len(experts), rows // geometry.block, columns // geometry.block)
    return made


def make_activations(
    geometry: Geometry, case: Place, family: Family, seed: int, device: torch.device | str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """hidden_states (T, H) e4m3 and hidden_states_scale (H/128, T) float32."""
    _check_family(family)
    name = (seed, "hidden_states", case.seq_len, case.offset)
    data, scale = _fp8_matrix(name, family, range(case.seq_len), geometry.hidden, 1, device)
    return data, scale.t().contiguous()


def draw_routing(
    geometry: Geometry, case: Place, seed: int, device: torch.device | str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Synthetic routing_logits (T, 256) float32 and routing_bias (256,) bfloat16 of one routing seed.

    A case's `routing` is None, or `even` (all experts of the model get the same number of tokens, where T is a multiple
    of 64), or `local8` (all eight experts of every token are local, with the same number where T is a multiple of 4).
    """
    high = _high_biases(geometry, case, seed).to(device)
    drawn = _unambiguous_draws(geometry, case, seed, high, device)
    bias = torch.where(high, BIAS_HIGH, BIAS_LOW).to(torch.bfloat16)
    return table("logit", str(drawn.device))[drawn], bias


def in_order(
    routing: tuple[torch.Tensor, torch.Tensor],
    states: tuple[torch.Tensor, torch.Tensor],
    weights: Tensors,
    offset: int,
    factor: float,
) -> dict[str, torch.Tensor | int | float]:
    """The ten inputs in the definition's order. routing: logits and bias; states: hidden states and their scale."""
    return {
        "routing_logits": routing[0],
        "routing_bias": routing[1],
        "hidden_states": states[0],
        "hidden_states_scale": states[1],
        **weights,
        "local_expert_offset": int(offset),
        "routed_scaling_factor": float(factor),
    }


def _check_family(family: str) -> None:
    if family not in FAMILIES:
        raise InputError(
            "value family",
            found=repr(family),
            expected=" or ".join(FAMILIES),
            hint="correct `families` in the configuration, or the option --family",
        )


def _high_biases(geometry: Geometry, case: Place, seed: int) -> torch.Tensor:
    """Which experts have the higher bias: those with the 102 smallest draws (of 256). Returns (256,) bool."""
    drawn = draw_flat(stream_key("routing_bias", seed, case.seq_len, case.offset), geometry.experts, "cpu")
    ranked = (drawn * geometry.experts + torch.arange(geometry.experts)).argsort()  # distinct, so the order is unique
    high = torch.zeros(geometry.experts, dtype=torch.bool)
    high[ranked[: HIGH_BIASES * geometry.experts // 256]] = True
    return high


def _unambiguous_draws(
    geometry: Geometry, case: Place, seed: int, high: torch.Tensor, device: torch.device | str
) -> torch.Tensor:
    """16-bit numbers for the logits, (T, 256); tokens whose choice is too close are drawn again, each by itself."""
    per_token = geometry.experts // UNIT
    drawn = torch.empty(case.seq_len, geometry.experts, dtype=torch.int64, device=device)
    pending = torch.arange(case.seq_len, device=device)
    attempt = 0
    while len(pending):
        key = stream_key("routing_logits", seed, case.seq_len, case.offset, attempt)
        units = (pending.unsqueeze(1) * per_token + torch.arange(per_token, device=device)).flatten()
        fresh = draw(key, units).view(len(pending), geometry.experts)
        if case.routing:
            fresh = _steered(fresh, _wanted(geometry, case, pending))
        drawn[pending] = fresh
        pending = pending[_too_close(geometry, fresh, high)]
        attempt += 1
    return drawn


def _wanted(geometry: Geometry, case: Place, tokens: torch.Tensor) -> torch.Tensor:
    """The experts (n, 8) that the given tokens are to choose."""
    choice = torch.arange(geometry.top_k, device=tokens.device)
    if case.routing == "local8":
        return case.offset + (tokens[:, None] * geometry.top_k + choice) % geometry.local_experts
    a_group = geometry.top_k // geometry.top_groups
    turn = choice // a_group
    group = (tokens[:, None] + turn) % geometry.groups
    within = (
        tokens[:, None] // geometry.groups * a_group
        + choice % a_group
        + turn * (geometry.group_size // geometry.top_groups)
    )
    within = within % geometry.group_size
    return group * geometry.group_size + within


def _steered(drawn: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """The draws, with those of the wanted experts in the largest sixteenth of the positive normals and all others among
    the negative ones: no bias closes that gap."""
    chosen = torch.zeros_like(drawn, dtype=torch.bool).scatter_(1, wanted, True)
    return torch.where(chosen, 2**15 - 2**11 + drawn % 2**11, 2**15 + drawn % 2**15)


def _too_close(geometry: Geometry, drawn: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Whether the last kept and the first dropped group, or expert, of each token are within REDRAW_GAP. Returns (T,)
    bool."""
    gap = round(REDRAW_GAP * 2**generator.FIXED)
    bias = torch.where(high, round(BIAS_HIGH * 2**generator.FIXED), round(BIAS_LOW * 2**generator.FIXED))
    choice = table("fixed_score", str(drawn.device))[drawn].add_(bias)
    in_groups = choice.view(len(choice), geometry.groups, geometry.group_size)
    group_score = in_groups.topk(2, dim=2).values.sum(dim=2)
    groups = group_score.topk(geometry.top_groups + 1, dim=1).values
    kept = group_score >= groups[:, -2:-1]
    experts = in_groups.masked_fill(~kept.unsqueeze(2), 0).flatten(1).topk(geometry.top_k + 1, dim=1).values
    return (groups[:, -2] - groups[:, -1] <= gap) | (experts[:, -2] - experts[:, -1] <= gap)


def _fp8_matrix(
    name: tuple[object, ...], family: str, rows: range, columns: int, block_rows: int, device: torch.device | str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw rows of a matrix that has one scale for block_rows x 128 values; a stack of matrices counts as one tall
    matrix.

    Returns data (len(rows), columns) e4m3 and scale (len(rows) / block_rows, columns / 128) float32.
    """
    blocks = columns // UNIT
    bands = range(rows.start // block_rows, rows.stop // block_rows)
    data = torch.empty(len(rows), columns, dtype=torch.uint8, device=device)
    scale = torch.empty(len(bands), blocks, dtype=torch.float32, device=device)
    on = str(data.device)
    for part in _chunks(bands, block_rows * columns, data.device.type):
        units = torch.arange(part.start * block_rows * blocks, part.stop * block_rows * blocks, device=device)
        drawn = draw(stream_key(family, *name), units).view(len(part), block_rows, blocks, UNIT)
        if family == "fib":
            codes = table("fp8_normal", on)[drawn]
        else:
            codes, largest = _quantize(drawn)
            scale_table = "state_scale" if block_rows == 1 else "weight_scale"
            scale[part.start - bands.start : part.stop - bands.start] = table(scale_table, on)[largest]
        first = part.start * block_rows - rows.start
        data[first : first + len(part) * block_rows] = codes.view(-1, columns)
    if family == "fib":
        drawn = draw_flat(stream_key(family, *name, "scale"), bands.stop * blocks, device)
        scale.view(-1).copy_(table("normal", on)[drawn[bands.start * blocks :]])
    return data.view(torch.float8_e4m3fn), scale


def _quantize(drawn: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """drawn: (bands, block_rows, blocks, 128) 16-bit numbers, taken as normal values in blocks over axes 1 and 3.

    Returns their e4m3 codes after division by amax / 448, (same shape) uint8, and the 15-bit magnitude of each block's
    largest value, (bands, blocks) int64.
    """
    on = str(drawn.device)
    magnitude = drawn & 0x7FFF
    largest = magnitude.amax(dim=(1, 3), keepdim=True)
    # 448 * |z| / amax in units of 2**-10, to nearest: below 2**49 before the shift.
    shift = generator.RECIPROCAL_BITS - generator.CODE_BITS
    ratio = (table("z_fixed", on)[magnitude] * table("reciprocal", on)[largest]).add_(1 << (shift - 1)) >> shift
    codes = table("fp8_code", on)[ratio] | (drawn >> 15 << 7).to(torch.uint8)
    return codes, largest.squeeze(3).squeeze(1)


def _chunks(bands: range, elements_per_band: int, device_type: str) -> Iterator[range]:
    step = max(1, CHUNK.get(device_type, CHUNK["cpu"]) // elements_per_band)
    for start in range(bands.start, bands.stop, step):
        yield range(start, min(start + step, bands.stop))
