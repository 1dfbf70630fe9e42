"""Runs all kernels of v4's layer, as compiled, one after the other on the machine of `ptx_machine`, at the narrow
width."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from ptx.ptx_machine import Memory, TensorMap, parse
from ptx.ptx_units import run_cluster
from support.solution_support import Inputs, module_of

NAME = "cutedsl_moe_fp8_v4"
geometry = module_of(NAME, "geometry")
HIDDEN, INNER, EXPERTS = 512, 256, 32
KERNELS = ("route_tokens", "gemm1_swiglu", "gemm2", "combine_rows")


@functools.cache
def compiled(arch: str) -> dict[str, str]:
    """PTX of each kernel of the host function, by name."""
    text = module_of(NAME, "layer").compile_layer_function(arch).__ptx__
    _, *kernels = re.split(r"(?=\.visible \.entry)", text)
    return dict(zip(KERNELS, kernels, strict=True))


@dataclass
class LayerRun:
    """One call: inputs, scratch as separate arrays, output poisoned."""

    inputs: Inputs
    arch: str
    blocks: int = 4
    seed: int = 0
    changed: dict[str, str] = field(default_factory=dict)  # PTX that takes a kernel's place

    def __post_init__(self) -> None:
        self.tokens = len(self.inputs["routing_logits"])
        self.rows = geometry.row_bound(self.tokens)
        self.arrays = {name: raw(value) for name, value in self.inputs.items() if isinstance(value, torch.Tensor)}
        t, m = self.tokens, self.rows
        self.arrays |= {
            "output": np.full((t, HIDDEN), 0x7FC1, dtype="u2"),  # not a number
            "counters": np.zeros(geometry.HEAD_BYTES // 4, dtype="i4"),
            "partial": np.full(geometry.PARTIAL_BLOCKS * geometry.PARTIAL_FLOATS, np.nan, dtype="f4"),
            "starts": np.full(EXPERTS + 1, -1, dtype="i4"),
            "code": np.full((t, 8), 77, dtype="i4"),
            "weight": np.full((t, 8), np.nan, dtype="f4"),
            "index": np.full((EXPERTS, t), -1, dtype="i4"),
            "inner_scale": np.full((INNER // 128, m), np.nan, dtype="f4"),
            "inner": np.full((m, INNER), 0x7F, dtype="u1"),  # not a number
            "rows": np.full((m, HIDDEN), 0x7FC1, dtype="u2"),
        }

    def run(self) -> torch.Tensor:
        """The output; raises Fault where the machine objects."""
        for name in KERNELS:
            getattr(self, f"_{name}")(name)
        return torch.from_numpy(self.arrays["output"].view("i2").copy()).view(torch.bfloat16)

    def _launch(self, name: str, values: list[Any], grid: int, cluster: int, shared: int, late: set[str]) -> None:
        memory, program = Memory(), parse(self.changed.get(name) or compiled(self.arch)[name])
        address = {key: memory.add(array, key in late) for key, array in self.arrays.items()}
        found: list[Any] = []
        for value in values:
            if isinstance(value, TensorMap):
                found += [value, np.zeros(16, dtype="u1")]
            elif isinstance(value, str):
                found.append(np.array([address[value]], "u8").view("u1"))
            elif isinstance(value, tuple):  # a tensor: address, sizes; strides, which no kernel reads, are poison
                raw_tensor = np.full(64, 0x7F, dtype="u1")
                raw_tensor[:8] = np.array([address[value[0]]], "u8").view("u1")
                found.append(raw_tensor)
            else:
                found.append(np.array([value], "f4" if isinstance(value, float) else "i4").view("u1"))
        assert len(found) == len(program.parameters), (name, len(found), program.parameters)
        parameters = dict(zip(program.parameters, found, strict=True))
        with np.errstate(all="ignore"):
            for first in range(0, grid, cluster):
                run_cluster(
                    program,
                    memory,
                    parameters,
                    first=first,
                    grid=grid,
                    cluster=cluster,
                    shared=shared,
                    seed=self.seed + first,
                )

    def _route_tokens(self, name: str) -> None:
        i = self.inputs
        numbers = [self.tokens, HIDDEN, i["local_expert_offset"], float(i["routed_scaling_factor"])]
        places = ["counters", "code", "weight", "index"]
        values = ["routing_logits", "routing_bias", "output", *numbers, *places]
        self._launch(name, values, -(-self.tokens // 4), 1, 16, set())

    def _gemm(self, name: str, weights: str, rows: list[TensorMap], operands: list[Any], results: list[Any]) -> None:
        w = self.arrays[weights]
        maps = [TensorMap(w, 128), TensorMap(w, 128), *rows]
        tail = ["counters", "starts", "partial", w.shape[1], w.shape[2]]
        values = [*maps, *self.mma_parameters(), (f"{weights}_scale",), *operands, *results, *tail]
        late = {"counters", "index", "partial"} if name == "gemm1_swiglu" else {"inner", "inner_scale", "partial"}
        shared = geometry.shared_bytes() // 16 * 16
        self._launch(name, values, self.blocks, geometry.CLUSTER, shared, late)

    def mma_parameters(self) -> list[Any]:
        return []

    def _gemm1_swiglu(self, name: str) -> None:
        operands = ["hidden_states", "hidden_states_scale", self.tokens, "index", self.tokens]
        self._gemm(name, "gemm1_weights", [], operands, ["inner", "inner_scale", self.rows])

    def _gemm2(self, name: str) -> None:
        boxes = [TensorMap(self.arrays["inner"], height, late=True) for height in (128, 16)]
        operands = ["inner", "inner_scale", self.rows, "index", self.tokens]
        self._gemm(name, "gemm2_weights", boxes, operands, ["rows", "inner_scale", self.rows])

    def _combine_rows(self, name: str) -> None:
        values = ["output", HIDDEN, "counters", "starts", "code", "weight", "rows", "partial"]
        self._launch(name, values, self.tokens, 1, 16, {"rows", "counters", "partial"})


def raw(tensor: torch.Tensor) -> np.ndarray:
    """A tensor's bytes in its shape, as NumPy has types for them."""
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32}
    return tensor.contiguous().view(kinds[tensor.dtype.itemsize]).numpy().copy()
