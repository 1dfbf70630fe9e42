"""`bakeoff export`: a complete flashinfer-trace folder, which FlashInfer-Bench runs as it stands.

    DIR/definitions/<op_type>/<definition>.json
    DIR/workloads/<op_type>/<definition>.jsonl
    DIR/blob/workloads/<op_type>/<definition>/*.safetensors      routing_logits and routing_bias
    DIR/solutions/<author>/<op_type>/<definition>/<solution>.json

FlashInfer-Bench draws the other tensors itself. The routing is the synthetic one, because the public data set's may not
be redistributed; the folder is generated and never committed.
"""

import dataclasses
import re
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bakeoff.build.pack import pack
from bakeoff.build.spec import SolutionSpec
from bakeoff.core.moe.geometry import Geometry
from bakeoff.core.moe.inputs import make_routing, routing_seed, routing_stats
from bakeoff.errors import InputError
from bakeoff.files import write_atomic
from bakeoff.traces.dataset import ROUTING_INPUTS
from bakeoff.traces.models import Definition, Trace, document, line
from bakeoff.traces.store import Case


def export(
    into: Path, definition: Definition, cases: Sequence[Case], specs: Sequence[SolutionSpec], seed: int | None
) -> list[Path]:
    """Write the folder and return its files; seed: routing seed of all workloads instead of each one's own."""
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise InputError(
            into,
            found="it is not empty",
            expected="a new or an empty folder",
            hint="choose another folder, or empty this one",
        )
    group = f"{definition.op_type}/{definition.name}"
    files = {into / f"definitions/{group}.json": document(definition)}
    files |= {
        into / f"solutions/{_segment(spec.author)}/{group}/{spec.name}.json": document(pack(spec, definition.name))
        for spec in specs
    }
    geometry, lines = Geometry.of(definition), []
    for case in cases:
        trace, blob = _workload(geometry, _seeded(geometry, case, seed), group)
        lines.append(line(trace))
        write_atomic(into / str(trace.workload.inputs[ROUTING_INPUTS[0]].path), blob)
    files[into / f"workloads/{group}.jsonl"] = b"".join(lines)
    for path, content in files.items():
        write_atomic(path, content)
    return sorted(path for path in into.rglob("*") if path.is_file())


def _seeded(geometry: Geometry, case: Case, seed: int | None) -> Case:
    """The case with a routing seed; another seed than its own makes it another workload, with another uuid."""
    own = routing_seed(geometry, case)
    if seed is None or seed == own:
        return dataclasses.replace(case, seed=own)
    other = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{case.uuid}/{seed}"))
    return dataclasses.replace(case, seed=seed, uuid=other, stats=None)


def _workload(geometry: Geometry, case: Case, group: str) -> tuple[Trace, bytes]:
    """The workload line that names the blob, and the blob."""
    from safetensors.torch import save

    blob = save(dict(zip(ROUTING_INPUTS, make_routing(geometry, case), strict=True)))
    path = f"blob/workloads/{group}/{group.rpartition('/')[2]}_{case.uuid}.safetensors"
    made: dict[str, Any] = case.trace.model_dump(mode="json", exclude_unset=True)
    made["workload"]["uuid"] = case.uuid
    for name in ROUTING_INPUTS:
        made["workload"]["inputs"][name] = {"type": "safetensors", "path": path, "tensor_key": name}
    stats = case.stats or routing_stats(geometry, case)
    made["bakeoff"] = {"id": case.id, "seed": case.seed, **asdict(stats)}
    return Trace.model_validate(made), blob


def _segment(author: str) -> str:
    """The author as one folder name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", author).strip("_") or "unknown"
