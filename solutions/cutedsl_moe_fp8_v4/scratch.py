"""Scratch memory of v4: one buffer for each device and stream, grown when a call needs more.

Nothing in it means anything between calls, but for the counters at its start, which every call leaves zero. An outgrown
buffer goes back to PyTorch's allocator, which hands memory to later work of the same stream only; one that a graph was
captured with is kept, because the graph still points at it.
"""

from __future__ import annotations

import torch

from . import geometry as geo

_buffers: dict[tuple[int, int], torch.Tensor] = {}
_in_graphs: dict[int, torch.Tensor] = {}  # by address: a buffer is listed once


def take(device: int, stream: int, size: int) -> torch.Tensor:
    """At least `size` bytes on GPU `device` for calls on `stream` (its handle), counters zero.

    Raises RuntimeError if a graph is being captured and no earlier call on the stream made the buffer.
    """
    key = (device, stream)
    held = _buffers.get(key)
    capturing = torch.cuda.is_current_stream_capturing()
    if held is None or held.numel() < size:
        if capturing:
            raise RuntimeError(
                "no scratch for this call on the stream that is captured; call once on it before the capture"
            )
        held = torch.empty(_rounded(size), dtype=torch.uint8, device=f"cuda:{device}")
        held[: geo.HEAD_BYTES].zero_()
        _buffers[key] = held
    if capturing:
        _in_graphs[held.data_ptr()] = held
    return held


def _rounded(size: int) -> int:
    """Up to 256 MiB a power of two, then a multiple of that: batches that grow do not allocate each time."""
    step = 256 << 20
    return 1 << (size - 1).bit_length() if size <= step else -(-size // step) * step
