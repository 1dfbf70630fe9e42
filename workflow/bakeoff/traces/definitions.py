"""Makes the files under traces/: both definitions, and the generated part of the workload lines.

`definition_files` and `workload_files` return what the files should hold; `bakeoff generate` writes or checks them. The
reference is read as text, and the routing figures come from a function that the caller gives, because both belong to a
later package.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT, read_bytes
from bakeoff.traces.models import Axis, Definition, DType, RoutingStats, TensorSpec, Trace, document, line
from bakeoff.traces.store import TOP_K, Case, TraceRoot

REFERENCE = PROJECT_ROOT / "workflow/bakeoff/core/moe/reference.py"
TRACES = PROJECT_ROOT / "traces"
OP_TYPE = "moe"
EXPERTS, LOCAL_EXPERTS, GROUPS, TOP_GROUPS, BLOCK = 256, 32, 8, 4, 128
# (hidden, intermediate): the benchmark's definition, and its sibling that a CPU computes in a fraction of a second.
WIDTHS = ((7168, 2048), (512, 256))


def definition_name(hidden: int, intermediate: int) -> str:
    routing = f"ds_routing_topk{TOP_K}_ng{GROUPS}_kg{TOP_GROUPS}"
    return f"moe_fp8_block_scale_{routing}_e{LOCAL_EXPERTS}_h{hidden}_i{intermediate}"


def definition_document(hidden: int, intermediate: int, reference: str) -> Definition:
    """The definition at one width; `reference` is the source of a self-contained `run`."""
    return Definition(
        name=definition_name(hidden, intermediate),
        op_type=OP_TYPE,
        description=(
            "FP8 mixture of experts with DeepSeek-V3 routing on one expert-parallel rank of eight: the top 8 of 256 "
            "experts within the best 4 of 8 groups; GEMM1, SwiGLU and GEMM2 for the rank's 32 local experts; "
            "weighted sum per token. "
            f"Scales are per {BLOCK} columns of a token and per {BLOCK} x {BLOCK} block of a weight."
        ),
        axes=_axes(hidden, intermediate),
        inputs=_inputs(),
        outputs={
            "output": TensorSpec(
                shape=["seq_len", "hidden_size"],
                dtype=DType.BFLOAT16,
                description="Exactly zero in the rows of tokens without a local expert.",
            )
        },
        reference=reference,
        tags=["moe", "fp8", "deepseek-v3"],
        constraints=["gemm1_out_size == 2 * intermediate_size", f"hidden_size == {BLOCK} * num_hidden_blocks"],
    )


def check_implemented(found: Definition, where: str | Path) -> None:
    """InputError unless a definition is, but for its sizes and its reference, the operation that is measured here."""
    hidden, inner = (getattr(found.axes.get(axis), "value", 0) for axis in ("hidden_size", "intermediate_size"))
    known = definition_document(hidden, inner, found.reference)
    for part in ("axes", "inputs", "outputs"):
        ours, theirs = getattr(known, part), getattr(found, part)
        if list(theirs) != list(ours):
            raise _not_this(where, part, ", ".join(theirs), ", ".join(ours))
        for name in ours:
            one, other = (tensor.model_dump(exclude={"description"}) for tensor in (theirs[name], ours[name]))
            if one != other:
                raise _not_this(where, f"{part}.{name}", str(one), str(other))


def _not_this(where: str | Path, field: str, found: str, expected: str) -> InputError:
    return InputError(
        f"{where}: field {field}",
        found[:300],
        f"{expected[:300]}: the one operation that is measured here",
        hint=f"name a definition of the family {definition_name(0, 0).rpartition('_e')[0]}_*",
    )


def _axes(hidden: int, intermediate: int) -> dict[str, Axis]:
    lengths = {
        "num_experts": (EXPERTS, "Experts of the model."),
        "num_local_experts": (LOCAL_EXPERTS, "Experts of this rank, consecutive from local_expert_offset."),
        "hidden_size": (hidden, "H."),
        "intermediate_size": (intermediate, "I."),
        "gemm1_out_size": (2 * intermediate, "2 I: rows [0, I) are the up half, rows [I, 2 I) the gate."),
        "num_hidden_blocks": (hidden // BLOCK, f"H / {BLOCK}."),
        "num_intermediate_blocks": (intermediate // BLOCK, f"I / {BLOCK}."),
        "num_gemm1_out_blocks": (2 * intermediate // BLOCK, f"2 I / {BLOCK}."),
    }
    constant = {name: Axis(type="const", value=value, description=text) for name, (value, text) in lengths.items()}
    return {"seq_len": Axis(type="var", description="T, number of tokens."), **constant}


def _inputs() -> dict[str, TensorSpec]:
    tensors: dict[str, tuple[list[str] | None, DType, str]] = {
        "routing_logits": (["seq_len", "num_experts"], DType.FLOAT32, "Router's logits."),
        "routing_bias": (["num_experts"], DType.BFLOAT16, "Added to sigmoid(logits) for the choice only."),
        "hidden_states": (["seq_len", "hidden_size"], DType.FLOAT8_E4M3FN, "Activations."),
        "hidden_states_scale": (["num_hidden_blocks", "seq_len"], DType.FLOAT32, "Their scales, block-major."),
        "gemm1_weights": (
            ["num_local_experts", "gemm1_out_size", "hidden_size"],
            DType.FLOAT8_E4M3FN,
            "Up and gate weights.",
        ),
        "gemm1_weights_scale": (
            ["num_local_experts", "num_gemm1_out_blocks", "num_hidden_blocks"],
            DType.FLOAT32,
            "Their scales.",
        ),
        "gemm2_weights": (
            ["num_local_experts", "hidden_size", "intermediate_size"],
            DType.FLOAT8_E4M3FN,
            "Down weights.",
        ),
        "gemm2_weights_scale": (
            ["num_local_experts", "num_hidden_blocks", "num_intermediate_blocks"],
            DType.FLOAT32,
            "Their scales.",
        ),
        "local_expert_offset": (None, DType.INT32, "Global id of the first local expert."),
        "routed_scaling_factor": (None, DType.FLOAT32, "Factor on the normalized weights of a token's experts."),
    }
    return {
        name: TensorSpec(shape=shape, dtype=dtype, description=text) for name, (shape, dtype, text) in tensors.items()
    }


def definition_files(reference: Path = REFERENCE) -> dict[str, bytes]:
    """Path under traces/ -> content, of every definition."""
    text = read_bytes(reference).decode()
    made = [definition_document(hidden, intermediate, text) for hidden, intermediate in WIDTHS]
    return {f"definitions/{made_one.op_type}/{made_one.name}.json": document(made_one) for made_one in made}


def workload_files(
    routing_of: Callable[[str, Case], tuple[int, RoutingStats]], root: Path = TRACES
) -> dict[str, bytes]:
    """Path under traces/ -> content: the lines that are there, with seed and routing figures filled in.

    routing_of(definition, case): the case's seed (its own where it sets one), and what routing with this seed gives.
    """
    store, lines = TraceRoot(root), dict[str, list[bytes]]()
    for name in store.definition_names():
        for case in store.workloads(name, further=True):
            path = store.workload_path(name, "grid" if case.further else "workloads").relative_to(root).as_posix()
            lines.setdefault(path, []).append(line(_with_note(case, *routing_of(name, case))))
    return {path: b"".join(found) for path, found in lines.items()}


def _with_note(case: Case, seed: int, stats: RoutingStats) -> Trace:
    how = {"routing": case.routing} if case.routing else {}
    note = {"id": case.id, **how, "seed": seed, **asdict(stats)}
    return Trace.model_validate(case.trace.model_dump(mode="json", exclude_unset=True) | {"bakeoff": note})
