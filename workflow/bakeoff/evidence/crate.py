"""A run as a Workflow Run RO-Crate: its files, the workflow that made them, and the action that ties the two.

Entry point: `write_crate`. Every time in it is the run's own, so that the same run and checkout give the same bytes.
The package `rocrate` writes the metadata, in RO-Crate 1.1, on which the profile Workflow Run Crate 0.5 rests.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bakeoff import __version__
from bakeoff.containers import lock as images
from bakeoff.errors import InputError
from bakeoff.evidence.contents import files, measured_period
from bakeoff.files import PROJECT_ROOT, read_json, sha256_file, unwritable
from bakeoff.planned import read_plan
from bakeoff.schema.host import Host
from bakeoff.schema.plan import Plan
from bakeoff.stats.environment import hardware

PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
LICENSE = "https://spdx.org/licenses/Apache-2.0"
WORKFLOW_TERMS = "https://w3id.org/ro/terms/workflow-run#"
# What a run is made from, and what it gives: by the beginning of a file's path.
INPUTS = {
    "config.json": "The plan: the resolved configuration, and every cell with its key",
    "host.json": "The host: GPU, driver, clocks, packages",
    "environment/": "Container images and package lists, locked by digest, of the checkout that made this crate",
}
OUTPUTS = {
    "samples/": "Raw times and judgements, a journal per participant and block, sealed by the block's manifest",
    "traces": "One FlashInfer-Bench trace per cell",
    "verification.jsonl": "Correctness of every solution on every set of values",
    "analysis.json": "Intervals, verdicts and summaries: what the pages show",
    "profile/": "Where the time goes, apart from timing",
    "build/": "Resources of the compiled kernels",
    "gate_power.json": "How many wrong outputs the correctness gates catch",
}
_FORMATS = {".json": "application/json", ".jsonl": "application/jsonl", ".gz": "application/gzip"}


@dataclass(frozen=True)
class _Source:
    """A file on this machine, and its place in the crate."""

    path: Path
    place: str

    def properties(self) -> dict[str, Any]:
        return {
            "name": self.place,
            "encodingFormat": _FORMATS.get(self.path.suffix, "text/plain"),
            "contentSize": str(self.path.stat().st_size),
            "sha256": sha256_file(self.path),
        }


def write_crate(run: Path, target: Path) -> int:
    """Write the run's crate to `target`, a new folder; returns how many files it describes. Without `rocrate`, or for a
    run without samples, an InputError."""
    try:
        from rocrate.rocrate import ROCrate
    except ImportError as error:
        raise InputError("the crate", f"no package {error.name}", "rocrate", "make setup-dev") from error
    if target.exists():
        raise InputError(target, "a folder that exists", "a new one", "choose another name, or delete it first")
    plan, host = read_plan(run), read_json(run / "host.json", Host)
    started, ended = measured_period(run, plan)
    crate = ROCrate(version="1.1")
    crate.metadata.extra_terms |= {
        term: WORKFLOW_TERMS + term for term in ("ContainerImage", "containerImage", "sha256")
    }
    gpu = hardware(host, plan.backend)
    crate.name = f"{plan.title}: run {plan.run} on {gpu}"
    crate.description = (
        f"A run of bakeoff: {len(plan.solutions)} solutions on {len(plan.workloads)} workloads in {plan.blocks} "
        f"blocks, protocol {', '.join(plan.protocols)}, code that decides a sample {plan.harness[:12]}. Every figure "
        "follows from samples/. The workflow and the locks are those of the checkout that made this crate."
    )
    crate.datePublished = ended
    root = crate.root_dataset
    root["conformsTo"] = [
        _add(crate, key, "CreativeWork", name=name, version=key.rsplit("/", 1)[1]) for key, name in PROFILES.items()
    ]
    root["license"] = _add(crate, LICENSE, "CreativeWork", name="Apache License 2.0")
    workflow = _workflow(crate)
    inputs = _files(crate, [*_run_files(run, INPUTS), *_environment(plan)], INPUTS, workflow, "input")
    outputs = _files(crate, _run_files(run, OUTPUTS), OUTPUTS, workflow, "output")
    action = _add(crate, "#run", "CreateAction", name=f"Run {plan.run}", description=f"Measured on {gpu}")
    action["instrument"], action["object"], action["result"] = workflow, inputs, outputs
    action["startTime"], action["endTime"] = started, ended
    action["actionStatus"] = "http://schema.org/CompletedActionStatus"
    if plan.image:
        action["containerImage"] = _add(crate, f"#{plan.image}", "ContainerImage", sha256=plan.image.partition(":")[2])
    root["mentions"] = action
    try:
        crate.write(target)
    except OSError as error:
        raise unwritable(target, error) from error
    return len(inputs) + len(outputs)


def _add(crate: Any, key: str, kind: str, **properties: Any) -> Any:
    """A contextual entity of the crate."""
    from rocrate.model import ContextEntity

    return crate.add(ContextEntity(crate, key, {"@type": kind, **properties}))


def _workflow(crate: Any) -> Any:
    """The main entity: the Snakefile, with the rules that it includes."""
    made = crate.add_workflow(
        PROJECT_ROOT / "workflow/Snakefile",
        "workflow/Snakefile",
        main=True,
        lang="snakemake",
        properties={"name": "bakeoff", "version": __version__, "license": {"@id": LICENSE}},
    )
    rules = [
        _Source(path, f"workflow/rules/{path.name}") for path in sorted((PROJECT_ROOT / "workflow/rules").glob("*.smk"))
    ]
    made["hasPart"] = [crate.add_file(one.path, one.place, properties=one.properties()) for one in rules]
    return made


def _run_files(run: Path, groups: dict[str, str]) -> list[_Source]:
    named = [_Source(path, path.relative_to(run).as_posix()) for path in files(run)]
    return [one for one in named if one.place.startswith(tuple(groups))]


def _environment(plan: Plan) -> Iterator[_Source]:
    image = images.load().image(images.image_for(plan.backend))
    for path in (images.LOCK_FILE, *(PROJECT_ROOT / name for name in image.locks)):
        yield _Source(path, f"environment/{path.relative_to(PROJECT_ROOT).as_posix()}")


def _files(crate: Any, sources: list[_Source], groups: dict[str, str], workflow: Any, way: str) -> list[Any]:
    """The sources as files of the crate, each an example of a parameter of the workflow."""
    found = []
    for start, text in groups.items():
        here = [one for one in sources if one.place.startswith(start)]
        if not here:
            continue
        name = start.strip("/").partition(".")[0]
        parameter = _add(crate, f"#{way}-{name}", "FormalParameter", name=name, description=text, additionalType="File")
        parameter["conformsTo"] = {"@id": "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"}
        workflow.append_to(way, parameter)
        for one in here:
            found.append(crate.add_file(one.path, one.place, properties=one.properties()))
            found[-1]["exampleOfWork"] = parameter
    return found
