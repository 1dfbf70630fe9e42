"""What a solution with declared roundings computes: the reference in float32 with casts at three points.

Entry points: `emulate`, and `Emulator` where several roundings or altered steps share work. Only tokens with a local
expert and experts with tokens cost anything. Works on any device; at the full width an expert is dequantized when it is
needed.
"""

from collections.abc import Mapping
from typing import Protocol

import torch

from bakeoff.core.moe import routing
from bakeoff.core.moe.geometry import Geometry
from bakeoff.schema.gates import Cast, Rounding

__all__ = ["DequantizedWeights", "Emulator", "Inputs", "Rounding", "Weights", "cast", "emulate", "swiglu"]

Inputs = dict[str, torch.Tensor | int | float]
FP8_MAX = 448.0  # largest finite e4m3
KEEP_BYTES = 2**28  # weights are kept in float32 if all of them take no more (50 MB at the narrow width)


def emulate(geometry: Geometry, inputs: Inputs, rounding: Rounding) -> torch.Tensor:
    """Output (T, H) bfloat16 of a solution that rounds as declared."""
    return Emulator(geometry, inputs).run(rounding)


class Weights(Protocol):
    """What the weights of a layer are asked for."""

    def multiply(self, name: str, expert: int, rows: torch.Tensor, out: torch.Tensor) -> None:
        """rows: (n, columns of a matrix) float32; out: (n, its rows), receives the product with the expert's
        `gemm1_weights` or `gemm2_weights`."""


class DequantizedWeights:
    """One expert's weights in float32 at a time; narrow ones are kept, so that workloads and roundings can share
    them."""

    def __init__(self, inputs: Inputs | Mapping[str, torch.Tensor], keep: bool | None = None) -> None:
        """inputs: anything with the four weight tensors. keep: every expert that was asked for; None: if all take
        little."""
        self._inputs: Inputs = dict(inputs)
        elements = sum(_tensor(self._inputs, name).numel() for name in ("gemm1_weights", "gemm2_weights"))
        self._kept: dict[tuple[str, int], torch.Tensor] | None = (
            {} if keep or (keep is None and 4 * elements <= KEEP_BYTES) else None
        )

    def gemm1(self, expert: int) -> torch.Tensor:
        """(2I, H) float32, rows :I are "up", rows I: are the gate."""
        return self.matrix("gemm1_weights", expert)

    def gemm2(self, expert: int) -> torch.Tensor:
        """(H, I) float32."""
        return self.matrix("gemm2_weights", expert)

    def multiply(self, name: str, expert: int, rows: torch.Tensor, out: torch.Tensor) -> None:
        """As `Weights` has it."""
        torch.mm(rows, self.matrix(name, expert).t(), out=out)

    def matrix(self, name: str, expert: int) -> torch.Tensor:
        """The expert's `name` in float32."""
        if self._kept is not None and (name, expert) in self._kept:
            return self._kept[name, expert]
        scale = _tensor(self._inputs, f"{name}_scale")[expert]
        blocks = _tensor(self._inputs, name)[expert].float().unflatten(0, (-1, 128)).unflatten(2, (-1, 128))
        matrix = (blocks * scale[:, None, :, None]).flatten(2).flatten(0, 1)
        if self._kept is not None:
            self._kept[name, expert] = matrix
        return matrix


class Emulator:
    """One workload's forward pass, step by step. P local pairs, ordered by expert and then by token."""

    def __init__(
        self,
        geometry: Geometry,
        inputs: Inputs,
        weights: Weights | None = None,
        pairs: routing.Pairs | None = None,
    ) -> None:
        """weights: shared with other workloads of the same values; pairs: what the workload's routing gives, if
        known."""
        self.geometry, self.inputs = geometry, inputs
        self.tokens = len(_tensor(inputs, "hidden_states"))
        self.weights: Weights = DequantizedWeights(inputs) if weights is None else weights
        self.pairs = pairs_of(geometry, inputs) if pairs is None else pairs
        self._gemm1: torch.Tensor | None = None

    def run(self, rounding: Rounding) -> torch.Tensor:
        """Output (T, H) bfloat16."""
        return self.combine(self.rows(rounding))

    def rows(self, rounding: Rounding) -> torch.Tensor:
        """What each pair contributes before its weight, (P, H) float32, rounded as gemm2_output says."""
        return self.gemm2(self.intermediate(rounding), rounding)

    def gemm1(self) -> torch.Tensor:
        """GEMM1's accumulators, (P, 2I) float32; computed once."""
        if self._gemm1 is None:
            out = self._empty(2 * self.geometry.intermediate)
            activations = self._activations(self.pairs.token)
            for expert, rows in self.pairs.spans:
                self.weights.multiply("gemm1_weights", expert, activations[rows], out[rows])
            self._gemm1 = out
        return self._gemm1

    def intermediate(self, rounding: Rounding) -> torch.Tensor:
        """SwiGLU of the rounded GEMM1 output, rounded for GEMM2: (P, I) float32."""
        return cast(swiglu(cast(self.gemm1(), rounding.gemm1_output)), rounding.intermediate)

    def gemm2(self, intermediate: torch.Tensor, rounding: Rounding) -> torch.Tensor:
        """intermediate: (P, I) float32. Returns (P, H) float32."""
        out = self._empty(self.geometry.hidden)
        for expert, rows in self.pairs.spans:
            self.weights.multiply("gemm2_weights", expert, intermediate[rows], out[rows])
        return cast(out, rounding.gemm2_output)

    def combine(self, rows: torch.Tensor, pairs: routing.Pairs | None = None) -> torch.Tensor:
        """The weighted sum of the pairs' rows, (T, H) bfloat16; zero where a token has none."""
        pairs = self.pairs if pairs is None else pairs
        total = torch.zeros(self.tokens, self.geometry.hidden, dtype=torch.float32, device=rows.device)
        # Expert by expert, as the reference adds: a token occurs once in each, so that a GPU's order of adding is fixed
        # too.
        for _, span in pairs.spans:
            total.index_add_(0, pairs.token[span], rows[span] * pairs.weight[span].unsqueeze(1))
        return total.to(torch.bfloat16)

    def _activations(self, tokens: torch.Tensor) -> torch.Tensor:
        data, scale = _tensor(self.inputs, "hidden_states"), _tensor(self.inputs, "hidden_states_scale")
        # fp8 tensors cannot be indexed on every device and version; their bytes can.
        values = data.view(torch.uint8)[tokens].view(data.dtype).float().unflatten(1, (-1, self.geometry.block))
        return (values * scale[:, tokens].t().unsqueeze(2)).flatten(1)

    def _empty(self, columns: int) -> torch.Tensor:
        device = self.pairs.token.device
        return torch.empty(len(self.pairs.token), columns, dtype=torch.float32, device=device)


def pairs_of(geometry: Geometry, inputs: Inputs) -> routing.Pairs:
    """The local pairs that the inputs' own routing gives."""
    routed = routing.route(
        _tensor(inputs, "routing_logits"),
        _tensor(inputs, "routing_bias"),
        float(inputs["routed_scaling_factor"]),
        geometry,
    )
    return routing.local_pairs(routed, int(inputs["local_expert_offset"]), geometry)


def swiglu(h: torch.Tensor) -> torch.Tensor:
    """h: (P, 2I) float32, the gate is the second half. Returns silu(gate) * up, (P, I)."""
    up, gate = h.chunk(2, dim=1)
    return torch.nn.functional.silu(gate) * up


def cast(x: torch.Tensor, casts: tuple[Cast, ...]) -> torch.Tensor:
    """x: (P, columns) float32. Returns it rounded by each cast in turn, in float32 again."""
    for name in casts:
        if name == "bfloat16":
            x = x.to(torch.bfloat16).float()
        elif name == "fp8_block128":
            x = _through_fp8(x)
    return x


def _through_fp8(x: torch.Tensor) -> torch.Tensor:
    blocks = x.unflatten(1, (-1, 128))
    amax = blocks.abs().amax(dim=2, keepdim=True)
    scale = torch.where(amax > 0, amax / FP8_MAX, 1.0)
    # The quotient may exceed 448 by its rounding, and a value beyond the range would become NaN.
    return ((blocks / scale).clamp_(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn).float() * scale).flatten(1)


def _tensor(inputs: Inputs, name: str) -> torch.Tensor:
    value = inputs[name]
    assert isinstance(value, torch.Tensor)
    return value
