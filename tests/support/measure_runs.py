"""Small run folders: the template solution, or one that misbehaves, packed and planned as the workflow does it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from bakeoff.build.pack import pack
from bakeoff.build.spec import read_spec
from bakeoff.cli import main
from bakeoff.config import DEFINITIONS, Config, resolve
from bakeoff.files import PROJECT_ROOT, pretty_json
from bakeoff.host import probe, write_host
from bakeoff.plan import make_plan
from bakeoff.planned import read_plan
from bakeoff.runs.journal import read_journal
from bakeoff.schema.plan import Plan
from bakeoff.schema.sample import Record
from bakeoff.traces.models import document
from support import fake_device as fake

SOLUTIONS, TRACES = PROJECT_ROOT / "solutions", PROJECT_ROOT / "traces"
PARTS = PROJECT_ROOT / "tests/hostile/parts/__init__.py"
NARROW = DEFINITIONS["narrow"]
SMALL = "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h256_i128"
SMALL_AXES = {
    "hidden_size": 256,
    "intermediate_size": 128,
    "gemm1_out_size": 256,
    "num_hidden_blocks": 2,
    "num_intermediate_blocks": 1,
    "num_gemm1_out_blocks": 2,
}
PARAMETERS = (
    "routing_logits, routing_bias, hidden_states, hidden_states_scale, gemm1_weights, gemm1_weights_scale, "
    "gemm2_weights, gemm2_weights_scale, local_expert_offset, routed_scaling_factor, output"
)
WRAPPER = (
    f"from .attack import run_with\nfrom .honest import run as honest\n\n\ndef run({PARAMETERS}):\n    "
    f"run_with(honest, {PARAMETERS})\n"
)

# What PASSED rests on.
PASSED_GATES = {
    "published": {"passed": True, "checks": {"matched_ratio": {"value": 0.93, "bound": 0.85, "passed": True}}},
    "strict": {"passed": True, "checks": {"relative_l2": {"value": 0.043, "bound": 0.06, "passed": True}}},
}


def write_solution(root: Path, name: str, attack: str | None = None, files: dict[str, str] | None = None) -> Path:
    """The template as a solution; `attack` is the source of a module with run_with(honest, *arguments), which then
    stands before it.

    files: further modules, name -> source.
    """
    folder = root / name
    shutil.copytree(SOLUTIONS / "_template", folder, ignore=shutil.ignore_patterns("__pycache__"))
    if not (root / "common").exists():
        (root / "common").symlink_to(SOLUTIONS / "common")
    text = (folder / "solution.yaml").read_text()
    for word, value in {"NAME": name, "ROLE": "contestant", "AUTHOR": "somebody"}.items():
        text = text.replace(word, value)
    (folder / "solution.yaml").write_text(yaml.safe_dump(yaml.safe_load(text), sort_keys=False))
    if attack is not None:
        put_before(folder, attack)
    for stem, source in (files or {}).items():
        (folder / f"{stem}.py").write_text(source)
    return folder


def put_before(folder: Path, attack: str) -> None:
    """Put an attack, and what attacks share, before the solution in a folder."""
    (folder / "solution.py").rename(folder / "honest.py")
    (folder / "attack.py").write_text(attack)
    (folder / "solution.py").write_text(WRAPPER)
    shutil.copy(PARTS, folder / "parts.py")


def small_traces(folder: Path) -> Path:
    """A traces folder whose one definition, SMALL, is a quarter of the narrow one: what is tested is the harness, not
    the layer."""
    definition = json.loads((TRACES / "definitions" / "moe" / f"{NARROW}.json").read_text())
    for axis, value in SMALL_AXES.items():
        definition["axes"][axis]["value"] = value
    lines = (TRACES / "workloads" / "moe" / f"{NARROW}.jsonl").read_text().replace(NARROW, SMALL)
    for file, content in (
        (f"definitions/moe/{SMALL}.json", json.dumps({**definition, "name": SMALL})),
        (f"workloads/moe/{SMALL}.jsonl", lines),
    ):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(content)
    return folder


def make_run(folder: Path, solutions: dict[str, str | None], **settings: Any) -> Path:
    """A run folder, ready for `measure`: host.json, config.json and build/. solutions: name -> attack or None."""
    root = folder / "solutions"
    for name, attack in solutions.items():
        write_solution(root, name, attack)
    return plan_run(folder / "run", root, **settings)


def plan_run(run: Path, root: Path, **settings: Any) -> Path:
    """(Re)plan and (re)pack a run from a solutions folder, on `small_traces` unless it names a definition."""
    small = (
        {}
        if "definition" in settings
        else {"traces_root": str(small_traces(root.parent / "traces")), "definition": SMALL}
    )
    chosen = {
        **small,
        "backend": "cpu",
        "solutions_root": str(root),
        "workloads": ["T1_o32", "T7_o192"],
        "families": ["fib"],
        "protocols": ["robust"],
        "threads": 1,
    }
    config = resolve(Config.model_validate({**chosen, **settings}))
    host = probe()
    write_host(run / "host.json", host)
    plan = make_plan(config, host.fingerprint)
    (run / "config.json").write_bytes(pretty_json(plan.model_dump(mode="json", by_alias=True)))
    for who in plan.participants:
        if who.build and not who.twin_of:
            (run / who.build).parent.mkdir(parents=True, exist_ok=True)
            (run / who.build).write_bytes(document(pack(read_spec(root / who.name), plan.definition)))
    return run


def fake_device(folder: Path, **description: Any) -> dict[str, str]:
    """Environment that makes workers and supervisor use a fake device."""
    return fake.variables(folder / "device.json", description)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "bakeoff", *words]


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    path = os.pathsep.join([str(PROJECT_ROOT / "workflow"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, **(extra or {})}


def bakeoff(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), env=environment(env), text=True, capture_output=True, timeout=800, check=False
    )


def bakeoff_here(*words: str) -> subprocess.CompletedProcess[str]:
    """The same in this process, for a verb that starts none: an interpreter and its imports cost a second."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as end:
            code = int(end.code or 0)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def measure(
    run: Path, block: int = 0, env: dict[str, str] | None = None, *options: str
) -> subprocess.CompletedProcess[str]:
    return bakeoff("measure", str(run), "--block", str(block), *options, env=env)


def records(run: Path, participant: str, block: int = 0) -> list[Record]:
    return read_journal(run / "samples" / f"block-{block:02d}" / f"{participant}.jsonl")


def only(run: Path, participant: str) -> Record:
    """The one record of a participant."""
    (record,) = records(run, participant)
    return record


def plan_of(run: Path) -> Plan:
    return read_plan(run)
