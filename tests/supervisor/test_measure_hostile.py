"""Every hostile solution gets its own reason, and its honest near-neighbour passes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bakeoff.build.spec import discover
from bakeoff.files import PROJECT_ROOT
from support.hostile import HOSTILE, facts
from support.measure_runs import fake_device, measure, only, plan_run, records, write_solution
from support.once import once

# Each neighbour runs on one of these; a workload with two runs them one after the other.
WORKLOADS = [
    "T7_o192",
    "T14_o0",
    "T15_o32",
    "T16_o224",
    "T32_o32",
    "T52_o160",
    "T53_o32",
    "T54_o128",
    "T55_o128",
    "T56_o64",
    "T57_o96",
]


def of_device(device: str) -> dict[str, str]:
    return {name: source for name, source in HOSTILE.items() if facts(source)["DEVICE"] == device}


def place_of(name: str) -> str:
    """The workload that a neighbour runs on."""
    return WORKLOADS[list(of_device(facts(HOSTILE[name])["DEVICE"])).index(name) % len(WORKLOADS)]


def run_all(folder: Path, device: str) -> Path:
    """One run with every attack of a device, on one workload, and one solution that is all the neighbours."""
    attacks = of_device(device)
    table: dict[int, list[str]] = {}
    for name in attacks:
        table.setdefault(int(place_of(name)[1:].split("_")[0]), []).append(name)
    dispatch = (
        "import importlib\n"
        f"TABLE = {table!r}\n"
        "MODULES = "
        "{name: importlib.import_module(f'{__package__}.{name}') for names in TABLE.values() for name in names}\n"
        "def run_with(honest, *arguments):\n"
        "    for name in TABLE.get(arguments[-1].shape[0], []):\n"
        "        MODULES[name].neighbour(honest, *arguments)\n"
    )
    write_solution(folder / "solutions", "neighbours", dispatch, files=attacks)
    for name, source in attacks.items():
        write_solution(folder / "solutions", name, f"{source}\n\nrun_with = hostile\n")
    places = sorted({place_of(name) for name in attacks} | {WORKLOADS[0]}, key=WORKLOADS.index)
    run = plan_run(folder / "run", folder / "solutions", workloads=places, timeout_s=200)
    drop_cells(run, keep=lambda cell: cell["participant"] == "neighbours" or cell["workload"] == WORKLOADS[0])
    done = measure(run, env=fake_device(folder, wait_s=0.02) if device == "fake" else None)
    assert done.returncode == 0, done.stderr
    return run


def drop_cells(run: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
    """Attacks need one workload; only the neighbours need all."""
    plan = json.loads((run / "config.json").read_text())
    plan["cells"] = [cell for cell in plan["cells"] if keep(cell)]
    (run / "config.json").write_text(json.dumps(plan))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        device: once(tmp_path_factory, f"hostile-{device}", lambda folder, device=device: run_all(folder, device))
        / "run"
        for device in ("cpu", "fake")
    }


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", [name for name, source in HOSTILE.items() if facts(source)["DEVICE"] != "gpu"])
def test_a_hostile_solution_is_rejected_with_its_reason_and_its_neighbour_passes(
    runs: dict[str, Path], name: str
) -> None:
    about = facts(HOSTILE[name])
    attack = only(runs[about["DEVICE"]], name)
    assert (attack.outcome, attack.reason or "") == about["EXPECTED"], attack.detail
    assert attack.hint or not attack.reason
    neighbours = {record.workload: record for record in records(runs[about["DEVICE"]], "neighbours")}
    assert neighbours[place_of(name)].outcome == "PASSED", neighbours[place_of(name)]


@pytest.mark.slow
def test_no_process_of_an_attack_is_left(runs: dict[str, Path]) -> None:
    del runs
    assert "sleep 4321" not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


def test_hostile_solutions_are_never_discovered_and_there_are_at_least_twenty() -> None:
    assert len(HOSTILE) >= 20
    assert not {spec.name for spec in discover(PROJECT_ROOT / "solutions")} & set(HOSTILE)
