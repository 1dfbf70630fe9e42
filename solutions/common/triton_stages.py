"""Host side of the Triton stages: scratch buffers, launches, and compilation without a GPU.

Entry points: `plan_call` gives the scratch of one call, then `route`, `permute`, `quantize`, `swiglu` and `combine`
enqueue one kernel each on the current stream, and `compile_stages` builds the same kernels ahead of time.

  plan = plan_call(call, align=128)              # groups start at multiples of `align` rows
  route(call, plan)                              # plan.code, plan.weight, plan.m_indptr, plan.m_count
  permute(call, plan, a, a_scale)                # a (M, H) e4m3
  swiglu(plan, h, None, c, c_scale)              # h (M, 2I) bf16, or e4m3 with its scales; c (M, I) e4m3
  combine(plan, rows, call.output)               # rows (M, H) bf16

M = plan.rows is a bound from T alone: no row count ever reaches the host. `layout` says how the activation scales lie:
'block' (K/128, M), 'row' (M, K/128), or 'group', for each group (K/128, the group's rows). Buffers come from
`plan.buffer`; they are zero when first made, so that padding rows, which nothing writes, stay finite.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from . import triton_kernels, triton_routing
from .checks import BLOCK, LOCAL_EXPERTS, TOP_K, MoeCall

COUNTER_INTS = (LOCAL_EXPERTS + 1) * 32  # one 128-byte line for each expert and for the ticket
COMBINE_CHUNK = 1024  # columns of a combining program
LAYOUTS = {"block": 0, "row": 1, "group": 2}  # as in triton_kernels


@dataclass
class Plan:
    """Scratch of one (device, stream, T); its content means nothing between calls."""

    tokens: int
    rows: int  # M, a multiple of `align`
    align: int
    device: torch.device
    stream: int  # handle
    code: torch.Tensor  # (T, 8) int32, the token's local pairs: expert << 26 | rank, then -1
    weight: torch.Tensor  # (T, 8) f32
    counters: torch.Tensor  # zero between calls
    m_indptr: torch.Tensor  # (33,) int32, first row of each group, multiples of `align`
    m_count: torch.Tensor  # (32,) int32, true rows of each group
    m_end: torch.Tensor  # (32,) int32, first row after each group's true rows
    problems: torch.Tensor  # (2, 32, 3) int32, (rows, N, K) of both GEMMs, where asked for
    store: Store
    overlap: bool  # kernels start before the end of the one before them, and wait where they need its results
    views: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    def cached(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """Return what `make` gave for `key` in the first call: tensors over scratch, whose making costs the host
        time."""
        if key not in self.views:
            self.views[key] = make()
        return self.views[key]

    def buffer(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return the scratch tensor `name`; the same storage at every call, grown in powers of two of its bytes."""
        return self.cached((name, shape, dtype), lambda: _take(self.store, name, shape, dtype, self.device, self))


def row_bound(tokens: int, align: int) -> int:
    """Most rows that T tokens can need: 8 pairs each, every group padded to a multiple of `align`."""
    pairs = tokens * TOP_K
    return (pairs + min(LOCAL_EXPERTS, pairs) * (align - 1)) // align * align


MAX_TOKENS = 1 << 17  # scratch of 36 GB (v3.2) to 52 GB (v3): more is better split into several calls


class Store(dict[str, torch.Tensor]):
    """Scratch tensors of one device and stream by name. Two streams never share scratch."""

    captured = False  # a graph may still point at what is in here


# Storage grows in powers of two. What is outgrown goes back to PyTorch's allocator, which hands it to later work of the
# same stream only, unless a graph was captured with it.
_stores: dict[tuple[int, int], Store] = {}
_plans: dict[tuple[int, int, int, int, bool], Plan] = {}
_outgrown: list[torch.Tensor] = []  # what a captured graph may point at


# The public function makes an object of the stream, which takes as long as a launch.
current_stream: Callable[[int], int] = getattr(
    torch._C, "_cuda_getCurrentRawStream", lambda index: torch.cuda.current_stream(index).cuda_stream
)


def plan_call(call: MoeCall, align: int, overlap: bool = False) -> Plan:
    """Return the scratch for this call's T on the current stream.

    `overlap`: kernels start before the end of the one before them (programmatic dependent launch), and wait where they
    need its results; the call's first one does not, so that calls follow each other. A function of T for each solution.

    Raises ValueError for more than MAX_TOKENS tokens.
    """
    index = call.device.index or 0
    stream = current_stream(index)
    key = (index, stream, call.tokens, align, overlap)
    plan = _plans.get(key)
    if plan is None:
        if call.tokens > MAX_TOKENS:
            raise ValueError(
                f"hidden_states has {call.tokens} tokens; expected at most {MAX_TOKENS}: split the batch, its scratch "
                "would not fit"
            )
        store = _stores.setdefault((index, stream), Store())
        plan = _plans[key] = _make_plan(call.tokens, align, call.device, stream, store, overlap)
    if torch.cuda.is_current_stream_capturing():
        plan.store.captured = True
    return plan


def _make_plan(tokens: int, align: int, device: torch.device, stream: int, store: Store, overlap: bool = False) -> Plan:
    take = functools.partial(_take, store, device=device)
    i32 = torch.int32
    return Plan(
        tokens=tokens,
        rows=row_bound(tokens, align),
        align=align,
        device=device,
        stream=stream,
        code=take("code", (tokens, TOP_K), i32),
        weight=take("weight", (tokens, TOP_K), torch.float32),
        counters=take("counters", (COUNTER_INTS,), i32),
        m_indptr=take("m_indptr", (LOCAL_EXPERTS + 1,), i32),
        m_count=take("m_count", (LOCAL_EXPERTS,), i32),
        m_end=take("m_end", (LOCAL_EXPERTS,), i32),
        problems=take("problems", (2, LOCAL_EXPERTS, 3), i32),
        store=store,
        overlap=overlap,
    )


def _take(
    store: Store, name: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, keep: Plan | None = None
) -> torch.Tensor:
    """The first bytes of storage `name`, grown where they do not suffice; plans other than `keep` that had the old are
    made anew."""
    size = dtype.itemsize
    for extent in shape:
        size *= extent
    if name not in store or store[name].numel() < size:
        old = store.pop(name, None)
        if old is not None and store.captured:
            _outgrown.append(old)
        elif old is not None:
            for key in [key for key, plan in _plans.items() if plan.store is store and plan is not keep]:
                del _plans[key]
        del old
        store[name] = torch.zeros(triton.next_power_of_2(size), dtype=torch.uint8, device=device)
    return store[name][:size].view(dtype).view(shape)


def route(call: MoeCall, plan: Plan, problems: bool = False) -> None:
    """Fill plan.code, weight, m_indptr, m_count and m_end, and plan.problems if asked for.

    Sets the rows of call.output to zero whose tokens have no local expert; `combine` writes the others.
    """
    arguments = (
        call.routing_logits,
        call.routing_bias,
        *(plan.code, plan.weight, plan.counters, plan.m_indptr, plan.m_count, plan.m_end, plan.problems),
        call.output,
        call.expert_offset,
        call.factor,
    )
    constants = _route_constants(call.hidden, call.intermediate, plan.align, problems, plan.overlap)
    _launch("route_tokens", plan, (plan.tokens, 1, 1), arguments, constants)


def route_pairs(call: MoeCall, plan: Plan, ids: torch.Tensor, values: torch.Tensor) -> None:
    """`route` for a choice that stands already: ids (T, 8) int32 global experts, values (T, 8) f32 weights."""
    arguments = (
        ids,
        values,
        *(plan.code, plan.weight, plan.counters, plan.m_indptr, plan.m_count, plan.m_end, plan.problems),
        call.output,
        call.expert_offset,
    )
    _launch("route_pairs", plan, (plan.tokens, 1, 1), arguments, _pairs_constants(call.hidden, plan.align))


def permute(call: MoeCall, plan: Plan, a: torch.Tensor, a_scale: torch.Tensor, layout: str = "block") -> None:
    """Copy tokens to a (M, H) e4m3 and their scales to a_scale."""
    arguments = (
        call.hidden_states.view(torch.int32),
        call.hidden_states_scale,
        *(plan.code, plan.m_indptr),
        a if a.dtype == torch.int32 else a.view(torch.int32),
        a_scale,
        plan.tokens,
        plan.rows,
    )
    _launch("permute_rows", plan, (plan.tokens, 1, 1), arguments, _permute_constants(call.hidden, layout, plan.overlap))


def quantize(plan: Plan, h: torch.Tensor, out: torch.Tensor, out_scale: torch.Tensor) -> None:
    """h (M, N) bf16 -> out (M, N) e4m3 and out_scale (N/128, M) f32, true rows only."""
    arguments = (h, out, out_scale, plan.m_indptr, plan.m_count, plan.rows)
    _launch(
        "quantize_rows", plan, (_row_programs(plan), 1, 1), arguments, _quantize_constants(h.shape[1], plan.overlap)
    )


def swiglu(
    plan: Plan,
    h: torch.Tensor,
    h_scale: torch.Tensor | None,
    out: torch.Tensor,
    out_scale: torch.Tensor,
    layout: str = "block",
) -> None:
    """h (M, 2I) bf16, or e4m3 with h_scale (2I/128, M) -> silu(gate) * up, quantized: out (M, I) e4m3, true rows
    only."""
    scale = plan.weight if h_scale is None else h_scale  # not read without FP8 input
    arguments = (h, scale, out, out_scale, plan.m_indptr, plan.m_count, plan.rows)
    constants = _swiglu_constants(out.shape[1], h_scale is not None, layout, plan.overlap)
    _launch("swiglu_rows", plan, (_row_programs(plan), 1, 1), arguments, constants)


def combine(plan: Plan, rows: torch.Tensor, output: torch.Tensor) -> None:
    """rows (M, H) bf16 -> the rows of output (T, H) bf16 whose tokens have a local expert; `route` wrote the others."""
    hidden = output.shape[1]
    grid = (plan.tokens, triton.cdiv(hidden, COMBINE_CHUNK), 1)
    arguments = (rows, plan.code, plan.weight, plan.m_indptr, output)
    _launch("combine_rows", plan, grid, arguments, _combine_constants(hidden, plan.overlap))


def _kernel(name: str) -> Any:
    return getattr(triton_routing if name.startswith("route_") else triton_kernels, name)


_compiled: dict[tuple[Any, ...], Callable[..., None]] = {}


def _launch(
    name: str, plan: Plan, grid: tuple[int, int, int], arguments: tuple[Any, ...], constants: dict[str, Any]
) -> None:
    """Launch a kernel by its name, compiled at its first use.

    Later launches skip Triton's argument binding, which costs the host more than a small T costs the GPU: no argument
    can change what is compiled, since integers are not specialized and all pointers are multiples of 16 bytes.
    """
    values = tuple(constants.values())
    key = (name, plan.device.index, values)
    launch = _compiled.get(key)
    if launch is None:
        built = _kernel(name)[grid](*arguments, **constants, launch_pdl=_starts_early(name, constants))
        if built is not None:  # Triton's interpreter, in which stages are tested, gives nothing
            _compiled[key] = launcher(built)
    else:
        launch(grid, plan.stream, arguments, values[:-1])  # the last value is num_warps, no argument


def launcher(built: Any) -> Callable[[tuple[int, int, int], int, tuple[Any, ...], tuple[Any, ...]], None]:
    """A compiled kernel's launch: (grid, stream handle, arguments, constants), without the objects that Triton makes.

    Tensors go as addresses: for a tensor the launcher would ask the driver where it is.
    """
    run, function, packed = built.run, built.function, built.packed_metadata

    def launch(grid: tuple[int, int, int], stream: int, arguments: tuple[Any, ...], constants: tuple[Any, ...]) -> None:
        passed = [value.data_ptr() if isinstance(value, torch.Tensor) else value for value in arguments]
        run(*grid, stream, function, packed, None, None, None, *passed, *constants)

    return launch


def _starts_early(name: str, constants: dict[str, Any]) -> bool:
    """Whether a kernel is launched before the end of the one before it: never the first of a call."""
    return bool(constants.get("OVERLAP")) and not name.startswith("route_")


@functools.cache
def _processors(index: int) -> int:
    return torch.cuda.get_device_properties(index).multi_processor_count


def _row_programs(plan: Plan) -> int:
    """Programs for a loop over true rows, whose number only the device knows: at most what the chip holds at once."""
    # Half of that, where the next kernel's blocks shall find room beside them.
    return min(plan.tokens * TOP_K, (8 if plan.overlap else 16) * _processors(plan.device.index or 0))


@functools.cache
def _route_constants(hidden: int, inner: int, align: int, problems: bool, overlap: bool = False) -> dict[str, Any]:
    sizes = {"N1": 2 * inner, "K1": hidden, "N2": hidden, "K2": inner}
    return {"COLUMNS": hidden, "ALIGN": align, **sizes, "PROBLEMS": problems, "OVERLAP": overlap, "num_warps": 1}


@functools.cache
def _pairs_constants(hidden: int, align: int) -> dict[str, Any]:
    return {"COLUMNS": hidden, "ALIGN": align, "num_warps": 1}


@functools.cache
def _permute_constants(hidden: int, layout: str, overlap: bool = False) -> dict[str, Any]:
    words, blocks = hidden // 4, hidden // BLOCK
    return {
        "WORDS": words,
        "WORDS_BLOCK": triton.next_power_of_2(words),
        "BLOCKS": blocks,
        "BLOCKS_BLOCK": triton.next_power_of_2(blocks),
        "LAYOUT": LAYOUTS[layout],
        "OVERLAP": overlap,
        "num_warps": 4,
    }


@functools.cache
def _quantize_constants(columns: int, overlap: bool = False) -> dict[str, Any]:
    blocks = columns // BLOCK
    return {"BLOCKS": blocks, "BLOCKS_BLOCK": triton.next_power_of_2(blocks), "OVERLAP": overlap, "num_warps": 4}


@functools.cache
def _swiglu_constants(inner: int, fp8_input: bool, layout: str, overlap: bool = False) -> dict[str, Any]:
    blocks = _quantize_constants(inner)
    own = {"FP8_INPUT": fp8_input, "LAYOUT": LAYOUTS[layout], "OVERLAP": overlap}
    return {"BLOCKS": blocks["BLOCKS"], "BLOCKS_BLOCK": blocks["BLOCKS_BLOCK"], **own, "num_warps": 4}


@functools.cache
def _combine_constants(hidden: int, overlap: bool = False) -> dict[str, Any]:
    return {"COLUMNS": hidden, "CHUNK": COMBINE_CHUNK, "OVERLAP": overlap, "num_warps": 4}


# Types of the run-time arguments, by kernel, in order. Pointers are multiples of 16 bytes (checks.ALIGNMENT).
TYPES = {
    "route_tokens": "*fp32 *bf16 *i32 *fp32 *i32 *i32 *i32 *i32 *i32 *bf16 i32 fp32",
    "route_pairs": "*i32 *fp32 *i32 *fp32 *i32 *i32 *i32 *i32 *i32 *bf16 i32",
    "permute_rows": "*i32 *fp32 *i32 *i32 *i32 *fp32 i32 i32",
    "quantize_rows": "*bf16 *fp8e4nv *fp32 *i32 *i32 i32",
    "swiglu_rows": "*bf16 *fp32 *fp8e4nv *fp32 *i32 *i32 i32",
    "combine_rows": "*bf16 *i32 *fp32 *i32 *bf16",
}
STAGES = {"route": "routing", "permute": "permute", "quantize": "activation_quant", "swiglu": "activation_quant"}


def compile_stages(
    arch: str,
    hidden: int,
    inner: int,
    align: int,
    *,
    routed: bool = True,
    problems: bool = False,
    layout: str = "block",
    quantize: bool = False,
    fp8_input: bool = False,
    overlap: bool = False,
) -> Iterator[dict[str, Any]]:
    """Compile the kernels that a solution with these options launches, without a GPU; `routed`: with its own routing.

    arch: 'sm_90a' or 'sm_100a'. Yields the dicts that solutions/README.md describes for `compile_kernels`.
    """
    wanted: list[tuple[str, dict[str, Any]]] = [("route_pairs", _pairs_constants(hidden, align))]
    if routed:
        wanted = [("route_tokens", _route_constants(hidden, inner, align, problems, overlap))]
    wanted.append(("permute_rows", _permute_constants(hidden, layout, overlap)))
    if quantize:
        wanted.append(("quantize_rows", _quantize_constants(2 * inner, overlap)))
    wanted.append(("swiglu_rows", _swiglu_constants(inner, fp8_input, layout, overlap)))
    wanted.append(("combine_rows", _combine_constants(hidden, overlap)))
    for name, constants in wanted:
        yield _compile(arch, name, constants)


def _compile(arch: str, name: str, constants: dict[str, Any]) -> dict[str, Any]:
    kernel = _kernel(name)
    types = TYPES[name].split()
    if constants.get("FP8_INPUT"):
        types[0] = "*fp8e4nv"
    warps = constants.get("num_warps", 4)
    constants = {key: value for key, value in constants.items() if key != "num_warps"}
    signature = dict(zip(kernel.arg_names, types, strict=False)) | dict.fromkeys(constants, "constexpr")
    attrs = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(types) if kind.startswith("*")}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attrs)
    target = GPUTarget("cuda", {"sm_90a": 90, "sm_100a": 100}[arch], 32)
    options = {"num_warps": warps, "launch_pdl": _starts_early(name, constants)}
    built = triton.compile(source, target=target, options=options)
    meta = {**constants, "threads": warps * 32, "dynamic_shared_bytes": built.metadata.shared, "mma": None}
    stage = STAGES.get(name.split("_")[0], "combine")
    name = f"{name}_overlap" if constants.get("OVERLAP") else name
    return {"name": name, "stage": stage, "cubin": built.asm["cubin"], "ptx": built.asm["ptx"], "meta": meta}
