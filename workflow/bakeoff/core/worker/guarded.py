"""One call under guard: the output is poisoned and fenced, inputs have a digest, functions must stay what they were.

Entry points: `OutputBuffer`, `Digest`, `Functions`, `Hooks`. Each `check` returns a finding (outcome, reason, sentence)
or None. The handles to torch are taken here, before a solution is imported; code in the same process can still find
them (docs/integrity.md).
"""

import builtins
import hashlib
import json
import os
import random
import secrets
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import library

from bakeoff.schema.outcomes import Outcome, Reason

Finding = tuple[Outcome, Reason | None, str]

FENCE = (
    2048  # elements before and after an output; a multiple of the 256 bytes that device code may assume as alignment
)
# Words that one kernel takes: few and large on a GPU, where each launch costs the host more than the sum; small ones
# fit a CPU's cache.
WORDS = {"cpu": 1 << 20, "cuda": 1 << 23}


class OutputBuffer:
    """Storage for an output (tokens, hidden) bf16 with a fence on both sides; solutions get a fresh view for each
    call."""

    def __init__(self, tokens: int, hidden: int, device: str) -> None:
        self.shape = (tokens, hidden)
        self._elements = tokens * hidden
        self._raw = torch.empty(2 * FENCE + self._elements, dtype=torch.int16, device=device)
        # A quiet NaN whose payload nobody can guess; 0x7FC0 alone is what arithmetic makes.
        self.poison_bits = 0x7FC0 + 1 + secrets.randbelow(0x3E)

    def poison(self) -> None:
        """Make every element, fences included, the poison."""
        self._raw.fill_(self.poison_bits)

    def view(self) -> torch.Tensor:
        """A fresh tensor over the output's place."""
        return self._raw[FENCE : FENCE + self._elements].view(torch.bfloat16).view(self.shape)

    def bits(self) -> torch.Tensor:
        """The output as (tokens * hidden,) int16, whatever became of the tensor that the solution was given."""
        return self._raw[FENCE : FENCE + self._elements]

    def fences(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What lies before and after the output, each (FENCE,) int16."""
        return self._raw[:FENCE], self._raw[FENCE + self._elements :]

    def check_tensor(self, given: torch.Tensor) -> Finding | None:
        """Whether the tensor that the solution was given is still the same view of the same storage."""
        if given.shape != self.shape:
            return Outcome.INCORRECT_SHAPE, None, f"output has shape {tuple(given.shape)}; expected {self.shape}"
        if given.dtype != torch.bfloat16:
            return Outcome.INCORRECT_DTYPE, None, f"output is {given.dtype}; expected torch.bfloat16"
        if given.data_ptr() != self.bits().data_ptr() or not given.is_contiguous():
            return Outcome.REJECTED, Reason.REPLACED_OUTPUT, "the solution gave `output` other storage or strides"
        return None

    def check_fence(self) -> Finding | None:
        changed = changed_fences([self])
        if changed:
            return (
                Outcome.REJECTED,
                Reason.WROTE_OUTSIDE_OUTPUT,
                f"{changed} of {2 * FENCE} elements around output were overwritten",
            )
        return None


def changed_fences(outputs: Sequence[OutputBuffer]) -> int:
    """How many fence elements of outputs are no longer poison; two waits for the device, whatever their number."""
    fences = torch.cat([fence for output in outputs for fence in output.fences()]).view(len(outputs), -1)
    poison = torch.tensor([[output.poison_bits] for output in outputs], dtype=torch.int16).to(fences.device)
    return int((fences != poison).sum())


class Digest:
    """A digest of tensors that depends on every bit and its place, with multipliers that nobody can know beforehand."""

    def __init__(self, device: str) -> None:
        generator = torch.Generator().manual_seed(secrets.randbits(63))
        self._words = WORDS[device]
        self._factors = (torch.randint(-(2**62), 2**62, (self._words,), generator=generator) | 1).to(device)

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """A scalar int64 on the tensor's device, without a synchronization."""
        data = tensor.reshape(-1).view(torch.uint8)
        whole = data.numel() // 8 * 8
        words = data[:whole].view(torch.int64)
        sums = [(part * self._factors[: len(part)]).sum() for part in words.split(self._words)]
        if whole < data.numel():
            sums.append((data[whole:].long() * self._factors[: data.numel() - whole]).sum())
        # Most tensors are one piece, whose digest is then two operations of the device.
        return sums[0] if len(sums) == 1 else (torch.stack(sums) * self._factors[: len(sums)]).sum()

    def of_all(self, values: list[Any]) -> torch.Tensor:
        """Digests of the tensors among `values`, (n,) int64."""
        return torch.stack([self.of(value) for value in values if isinstance(value, torch.Tensor)])


# What the harness in this process calls between taking a command and answering it. Not all of torch: importing parts of
# torch replaces some of its functions legitimately (torch._dynamo does torch.manual_seed).
RELIED_ON: dict[Any, tuple[str, ...]] = {
    time: ("perf_counter_ns", "perf_counter", "monotonic", "time"),
    os: ("read", "write", "kill", "_exit"),
    json: ("loads", "dumps"),
    random.Random: ("randrange", "_randbelow", "getrandbits", "random", "__init__"),
    secrets: ("randbits", "randbelow"),
    hashlib: ("blake2b", "shake_128"),
    builtins: tuple(name for name, value in vars(builtins).items() if callable(value)),
    threading: ("enumerate", "Thread"),
    torch: (
        *("empty", "zeros", "cat", "stack", "frombuffer", "randint", "empty_like", "tensor"),
        *("bitwise_xor", "index_select", "arange"),
    ),
    torch.Tensor: (
        "copy_",
        "clone",
        "view",
        "reshape",
        "fill_",
        "sum",
        "argsort",
        "split",
        "data_ptr",
        "is_contiguous",
        "tolist",
        "item",
        "__mul__",
        "__ne__",
        "__add__",
        "__getitem__",
        "__int__",
    ),
    torch.cuda: ("Event", "synchronize", "current_stream", "stream", "_sleep"),
    torch.cuda.Event: ("record", "elapsed_time", "synchronize"),
    torch.cuda.CUDAGraph: ("capture_begin", "capture_end", "replay"),
}


class Functions:
    """A snapshot of the functions that measuring rests on."""

    def __init__(self) -> None:
        self._known = [(place, name, getattr(place, name)) for place, names in RELIED_ON.items() for name in names]

    def check(self) -> Finding | None:
        for place, name, value in self._known:
            if getattr(place, name, None) is not value:
                return (
                    Outcome.REJECTED,
                    Reason.REPLACED_FUNCTION,
                    f"{place.__name__}.{name} is no longer the function it was",
                )
        return None


# Operators that inputs, digests and outputs go through; torch lets Python code be registered behind any of them.
OPERATORS = (
    "copy_",
    "clone",
    "fill_",
    "zero_",
    "sum",
    "mul",
    "add",
    "add_",
    "ne",
    "stack",
    "cat",
    "sort",
    "argsort",
    "view",
    "slice",
    "_to_copy",
    "bitwise_xor",
    "bitwise_and",
    "__lshift__",
    "__rshift__",
    "index_select",
    "empty",
)
# The dispatch keys that calls on plain tensors go through; parts of torch register others (Meta, FuncTorch, ...) when
# they are imported.
KEYS = (
    "CPU",
    "CUDA",
    "AutogradCPU",
    "AutogradCUDA",
    "Autograd",
    "ADInplaceOrView",
    "BackendSelect",
    "CompositeExplicitAutograd",
    "CompositeImplicitAutograd",
)


class Hooks:
    """A snapshot of what would run foreign code in the middle of the harness's own: a call must leave none behind."""

    def __init__(self) -> None:
        self._count, self._operators = -1, frozenset[str]()
        self._known = self._look()

    def check(self) -> Finding | None:
        for what, seen in self._look().items():
            if seen != self._known[what]:
                return Outcome.REJECTED, Reason.LEFT_HOOK, f"the call left behind what it set by {what}"
        return None

    def _look(self) -> dict[str, Any]:
        monitoring = getattr(sys, "monitoring", None)  # Python 3.12 and later
        timers = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
        return {
            "sys.setprofile": sys.getprofile(),
            "sys.settrace": sys.gettrace(),
            "sys.monitoring": [monitoring.get_tool(tool) for tool in range(6)] if monitoring else [],
            "signal.setitimer": [signal.getitimer(timer)[0] > 0 for timer in timers],
            "a torch function mode": torch._C._len_torch_function_stack(),
            "a torch dispatch mode": torch._C._len_torch_dispatch_stack(),
            "an overridden operator": self._overridden(),
        }

    def _overridden(self) -> frozenset[str]:
        """Operators of torch's own with an implementation from Python: "aten/<operator>[.<overload>]/<dispatch
        key>"."""
        # Libraries add operators of their own; thousands of names are looked through only where some have.
        if len(library._impls) != self._count:
            self._count = len(library._impls)
            parts = ((name, *name.split("/")) for name in library._impls if name.count("/") == 2)
            self._operators = frozenset(
                name
                for name, namespace, operator, key in parts
                if namespace == "aten" and key in KEYS and operator.split(".")[0] in OPERATORS
            )
        return self._operators


def check_threads(before: set[threading.Thread]) -> Finding | None:
    """Whether the call left threads behind."""
    left = [thread.name for thread in threading.enumerate() if thread not in before]
    if left:
        return Outcome.REJECTED, Reason.LEFT_THREAD, f"{len(left)} threads outlive the call: {', '.join(left[:5])}"
    return None
