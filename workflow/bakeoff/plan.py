"""The plan of a run: which cells it must have, each with the key of everything that its result depends on.

Entry points: `make_plan` (pure, given the configuration and the host), `checked_plan`, and the verb `bakeoff plan`,
which writes config.json. A result in the journal belongs to a cell exactly if their keys are equal; so changing one
byte of one input re-runs the cells that depend on it and no others. Limits: a key covers what this checkout can see,
not the state of the GPU during a measurement.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bakeoff import closure
from bakeoff import config as configuration
from bakeoff.build.pack import Flaw, pack_or_flaw
from bakeoff.build.reference import check_reference
from bakeoff.build.spec import SolutionSpec
from bakeoff.candidates import anchors, chosen, deal, require_screened, selection_of
from bakeoff.config import Config
from bakeoff.core import protocols
from bakeoff.core.loader import digest
from bakeoff.files import (
    PROJECT_ROOT,
    canonical_json,
    json_document,
    model_json,
    read_json,
    sha256_bytes,
    write_atomic,
)
from bakeoff.options import output
from bakeoff.planned import twin_digest
from bakeoff.schema.host import Host
from bakeoff.schema.plan import Participant, Plan, PlannedCell, PlannedWorkload
from bakeoff.schema.solution import Backend
from bakeoff.traces.dataset import PublicDataset
from bakeoff.traces.models import Definition, Solution, Workload
from bakeoff.traces.store import Case, RoutingStats, TraceRoot


def checked_plan(config: Config, host_fingerprint: str) -> Plan:
    """The plan of a run that is to be measured: a definition whose own reference, run confined, gives another result
    than this project's is an InputError."""
    root = TraceRoot(configuration.under_root(config.traces_root))
    made = make_plan(config, host_fingerprint)
    check_reference(root.definition(config.definition), root.definition_path(config.definition))
    return made


def make_plan(config: Config, host_fingerprint: str) -> Plan:
    """The plan of a resolved configuration on a host; runs nothing."""
    definition = TraceRoot(configuration.under_root(config.traces_root)).definition(config.definition)
    specs, cases = chosen(config)
    harness = closure.digest(*closure.DECIDES_A_SAMPLE)
    packed = {spec.name: pack_or_flaw(spec, config.definition) for spec in specs}
    entered = {spec.name: _participant(spec, packed[spec.name], config) for spec in specs}
    twins = [_twin(entered[name]) for name in config.twins]
    participants = [_reference(definition), *entered.values(), *twins]
    selection, held = selection_of(config), anchors(config, participants)
    if selection:
        require_screened(selection, participants)
    dataset = None if config.dataset == "synthetic" else PublicDataset(configuration.under_root(config.dataset))
    workloads = [_workload(case, dataset, definition) for case in cases]
    blocks = int(config.blocks) * config.shards
    made = Plan(
        run=config.run,
        title=_title(config),
        backend=_backend(config),
        definition=config.definition,
        dataset=config.dataset,
        protocols=list(config.protocol_blocks),
        protocol_blocks={
            name: count * config.shards
            for name, count in config.protocol_blocks.items()
            if count * config.shards < blocks
        },
        families=list(config.families),
        seeds=list(config.seeds),
        blocks=blocks,
        balanced=True,
        mix=config.mix,
        shards=config.shards,
        anchors=held,
        selection=selection,
        leading=config.leading,
        timeout_s=config.timeout_s,
        threads=int(config.threads),
        gpus=config.gpus,
        profile=config.profile,
        lock_clocks_mhz=config.lock_clocks_mhz,
        image=config.image,
        traces_root=config.traces_root,
        host_fingerprint=host_fingerprint,
        harness=harness,
        commit=closure.commit(),
        participants=deal(participants, held, config.shards),
        unpacked={name: one.why for name, one in packed.items() if isinstance(one, Flaw)},
        workloads=workloads,
        cells=[],
    )
    return made.model_copy(update={"cells": planned_cells(made)})


def planned_cells(plan: Plan) -> list[PlannedCell]:
    """The cells that follow from everything else in a plan."""
    common = {
        "definition": next((who.digest for who in plan.participants if who.role == "reference"), None),
        "host": plan.host_fingerprint,
        "image": plan.image,
        "harness": plan.harness,
        "backend": plan.backend,
        "clock_mhz": plan.lock_clocks_mhz,
    }
    return [cell for who in plan.participants for what in plan.workloads for cell in _cells(who, what, plan, common)]


def cell_key(**inputs: Any) -> str:
    """sha256 over everything that a cell's result depends on."""
    return sha256_bytes(canonical_json(inputs))


def _cells(who: Participant, what: PlannedWorkload, plan: Plan, common: dict[str, Any]) -> list[PlannedCell]:
    timings = [(name, protocols.PROTOCOLS[name]) for name in plan.protocols]
    timed = [
        ("measure", name, timing.family or plan.families[0], plan.seeds[0])
        for name, timing in timings
        if what.seq_len >= timing.least_tokens and not (timing.in_place and who.role == "reference")
    ]
    # The timed values are verified in the measure cell; the other families and seeds get a cell of their own.
    verified = [
        ("verify", None, family, seed)
        for family in plan.families
        for seed in plan.seeds
        if (family, seed) != (plan.families[0], plan.seeds[0])
    ]
    cells = []
    for values in timed + ([] if who.role == "reference" else verified):
        about: dict[str, Any] = dict(zip(("kind", "protocol", "family", "seed"), values, strict=True))
        key = cell_key(participant=who.digest, workload=what.digest, **about, **common)
        cells.append(PlannedCell(participant=who.name, workload=what.id, **about, key=key))
    return cells


def _reference(definition: Definition) -> Participant:
    return Participant(
        name="reference",
        role="reference",
        label="reference",
        description="The definition's own PyTorch reference, in float32.",
        digest=_definition_digest(definition),
    )


def _participant(spec: SolutionSpec, packed: Solution | Flaw, config: Config) -> Participant:
    backend = spec.backends.get(_backend(config))
    return Participant(
        name=spec.name,
        role=spec.role,
        label=spec.label or spec.name,
        description=spec.description,
        design=backend.design if backend else None,
        digest=packed.digest if isinstance(packed, Flaw) else digest(packed),
        build=None if isinstance(packed, Flaw) else f"build/{spec.name}/solution.json",
        supported=backend is not None,
        rounding=backend.rounding if backend else None,
        stages=list(spec.stages),
    )


def _twin(who: Participant) -> Participant:
    """The same packed solution under a second name; it is no contestant, since it cannot win against itself."""
    return who.model_copy(
        update={
            "name": f"{who.name}.twin",
            "label": f"{who.label} (twin)",
            "role": "peer",
            "twin_of": who.name,
            "digest": twin_digest(str(who.digest)),
        }
    )


def _workload(case: Case, dataset: PublicDataset | None, definition: Definition) -> PlannedWorkload:
    """A case as it is planned; no data set has the routing of one that names its own."""
    source: Workload | None = None
    origin: str | dict[str, Any] = "synthetic"
    seed = case.seed
    if dataset is None or case.routing:
        stats = case.stats or _computed_stats(case, definition, None)  # a line added by hand may lack them
    else:
        source, origin = _sourced(case, definition, dataset)
        seed, stats = None, _computed_stats(case, definition, dataset)
    identity = {"trace": case.trace.model_dump(mode="json"), "dataset": origin, "stats": asdict(stats)}
    return PlannedWorkload(
        id=case.id,
        seq_len=case.seq_len,
        offset=case.offset,
        factor=case.factor,
        uuid=source.uuid if source else case.uuid,
        seed=seed,
        source=source,
        stats=stats,
        digest=sha256_bytes(canonical_json(identity)),
    )


def _computed_stats(case: Case, definition: Definition, dataset: PublicDataset | None) -> RoutingStats:
    from bakeoff.core.moe.geometry import Geometry
    from bakeoff.core.moe.inputs import routing_stats

    return routing_stats(Geometry.of(definition), case, dataset)


def _sourced(case: Case, definition: Definition, dataset: PublicDataset) -> tuple[Workload, dict[str, Any]]:
    """The data set's workload, and what tells it from another revision's, wherever the checkout lies."""
    import torch

    from bakeoff.core.moe.geometry import Geometry
    from bakeoff.core.moe.inputs import dataset_name

    where = (dataset_name(Geometry.of(definition)), case.seq_len, case.offset)
    source, tensors = dataset.workload(*where), dataset.routing_inputs(*where)
    values = [sha256_bytes(one.contiguous().view(torch.uint8).numpy().tobytes()) for one in tensors]
    return source, {"workload": source.model_dump(mode="json"), "values": values}


def _definition_digest(definition: Definition) -> str:
    return sha256_bytes(canonical_json(definition.model_dump(mode="json")))


def _backend(config: Config) -> Backend:
    if config.backend == "auto":
        raise ValueError("the configuration is not resolved")
    return config.backend


def _title(config: Config) -> str:
    if config.backend == "cpu":
        return "CPU run: correctness only"
    return f"FP8 mixture-of-experts kernels on {'Hopper' if config.backend == 'sm_90a' else 'Blackwell'}"


def plan_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--config",
        type=Path,
        default=PROJECT_ROOT / "config/config.yaml",
        metavar="FILE",
        help="YAML configuration (default: config/config.yaml)",
    )
    source.add_argument("--settings", metavar="JSON", help="the configuration as one JSON object, instead of a file")
    parser.add_argument(
        "--host", type=Path, required=True, metavar="FILE", help="host.json, as `bakeoff probe` writes it"
    )
    output(parser, "FILE", "where to write config.json")


def plan(args: argparse.Namespace) -> int:
    config = (
        configuration.parse(json_document(args.settings.encode(), "--settings"), "--settings")
        if args.settings is not None
        else configuration.load(args.config)
    )
    host = read_json(args.host, Host)
    made = checked_plan(configuration.resolve(config, measures=host), host.fingerprint)
    write_atomic(args.output, model_json(made))
    solutions = len(made.participants) - 1
    for why in made.unpacked.values():
        print(f"bakeoff: cannot be packed, the others go on: {why}", file=sys.stderr)
    what = f"{solutions} solutions on {len(made.workloads)} workloads, {made.blocks} blocks on {made.backend}"
    print(f"written: {args.output}: {what}", file=sys.stderr)
    return 0
