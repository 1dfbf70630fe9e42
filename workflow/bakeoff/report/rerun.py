"""The commands that re-run a cell.

Entry points: `rerun` (the table of every cell's commands), `check_command`, `measure_command`. A test runs what the
page shows.
"""

import shlex

from bakeoff.config import DEFINITIONS, Config
from bakeoff.report.view import RunView
from bakeoff.schema.analysis_run import RunHeader
from bakeoff.tables.table import Column, Table, frame

# The data set's place on the run's host is not recorded: it says nothing on another.
PUBLIC_DATASET = "PATH_OF_flashinfer-trace"


def rerun(view: RunView) -> Table:
    """The commands that judge one cell again and measure it again, for every cell."""
    run = view.a.run
    columns = [
        view.who(head=True, marked=False),
        Column("workload", "Workload"),
        Column("command", "Command", style="code"),
        Column("measure"),
    ]
    rows = (
        {
            **{"solution": person.name, "workload": w.id},
            **{"command": check_command(run, person.name, w.id), "measure": measure_command(run, person.name, w.id)},
        }
        for person in view.people
        for w in view.a.workloads
    )
    return Table("rerun", frame(rows), columns)


def check_command(run: RunHeader, solution: str, workload: str) -> str:
    """Gates and numerics of one cell on this run's inputs; what the verb takes by itself is left out."""
    words = [f"bakeoff check {solution} --workload {workload} --backend {run.backend}"]
    if run.definition != DEFINITIONS["narrow" if run.backend == "cpu" else "full"]:
        words.append(f"--definition {run.definition}")
    if run.seeds and run.seeds[0] != Config.model_fields["seeds"].default[0]:
        words.append(f"--seed {run.seeds[0]}")
    if run.kind == "run" and run.dataset == "public":
        words.append(f"--dataset {PUBLIC_DATASET}")
    return " ".join(words)


def measure_command(run: RunHeader, solution: str, workload: str) -> str:
    """The whole workflow on one cell, under this run's conditions, into a run of its own."""
    protocols = ",".join([run.protocol or "robust", *run.other_protocols])
    settings = {
        "run": "one_cell",
        "backend": run.backend,
        "definition": run.definition,
        "solutions": f"[{solution}]",
        "workloads": f"[{workload}]",
        "protocols": f"[{protocols}]",
        "families": f"[{','.join(run.families)}]",
        "seeds": f"[{','.join(map(str, run.seeds))}]",
        "blocks": run.blocks,
        "compile": "[]",
        "profile": "{tier: none}",
    } | ({"dataset": PUBLIC_DATASET} if run.dataset == "public" else {})
    return shlex.join(
        ["snakemake", "--cores", "all", "--config", *(f"{key}={value}" for key, value in settings.items())]
    )
