"""`bakeoff check SOLUTION`: is it correct, and by how much? For whoever writes a kernel; nothing is timed or kept.

Entry points: `check_solution` (the verb) and `run_solution`. The solution runs as in a run: packed, in a confined
child, judged outside by both gates, with changed values on some cells.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bakeoff.build.pack import pack
from bakeoff.build.spec import COMMON, SPEC_FILE, read_spec
from bakeoff.config import Config, resolve, under_root
from bakeoff.errors import InputError
from bakeoff.files import validate
from bakeoff.plan import make_plan
from bakeoff.runs.block_run import say, settings_of
from bakeoff.schema.gates import Numerics
from bakeoff.schema.outcomes import SENTENCES, Outcome
from bakeoff.schema.sample import Record
from bakeoff.supervisor.block import run_block
from bakeoff.supervisor.settings import Task
from bakeoff.tables import formats, shared, text
from bakeoff.tables.table import Column, Row, flat, number
from bakeoff.traces.models import document

COLUMNS = (
    *("workload", "outcome", "published_gate", "strict_gate"),
    *("matched_ratio_active", "relative_l2", "worst_row_l2", "calc_diff", "scale", "seconds"),
)
WIDTHS = {"workload": 11, "outcome": 19, "relative_l2": 8, "worst_row_l2": 8, "calc_diff": 9, "scale": 8, "seconds": 7}


class Collector:
    """Takes records and hands each to `show`; there is no run folder to guard."""

    def __init__(self, show: Callable[[Record], None]) -> None:
        self.records: list[Record] = []
        self._show = show

    def add(self, record: Record) -> None:
        self.records.append(record)
        self._show(record)

    def tampered(self) -> str | None:
        return None


def check_solution(args: argparse.Namespace) -> int:
    """Run the check and print a table; returns 0 if every workload passed, else 1."""
    settings = {
        "backend": args.backend,
        "definition": args.definition,
        "families": [args.family],
        "workloads": args.workload or "all",
        **({} if args.seed is None else {"seeds": [args.seed]}),
        **({} if args.dataset is None else {"dataset": args.dataset}),
    }
    folder = _folder(args.solution)
    table = text.Stream(text.chosen(_columns(), COLUMNS), WIDTHS)
    heads = iter([table.heads()])

    def show(record: Record) -> None:
        print("\n".join([*next(heads, []), table.line(_row(record))]), flush=True)

    records = run_solution(folder, settings, args.timeout, show)
    failed = [record for record in records if record.outcome != Outcome.PASSED]
    for record in failed[:3]:
        print(f"\n{record.workload}: {SENTENCES[record.outcome]}{f' ({record.reason})' if record.reason else ''}")
        print(f"{record.detail or ''}\nto do: {record.hint or 'see the detail'}")
    print(f"\n{args.solution}: {len(records) - len(failed)} of {len(records)} workloads PASSED ({args.family} values)")
    return 1 if failed else 0


def run_solution(
    folder: Path, settings: dict[str, Any], timeout_s: float, show: Callable[[Record], None]
) -> list[Record]:
    """Verify the solution in `folder` on the workloads of a configuration's `settings`; returns a record per
    workload."""
    with tempfile.TemporaryDirectory(prefix="bakeoff-check-") as name, _named(folder, name):
        place = Path(name)
        root = _alone(folder, place / "solutions")
        config = resolve(
            validate({**settings, "solutions": [folder.name], "solutions_root": str(root)}, Config, "options")
        )
        spec = read_spec(root / folder.name)
        if config.backend not in spec.backends:
            raise InputError(
                f"{folder / SPEC_FILE}: field backends",
                found=", ".join(spec.backends),
                expected=str(config.backend),
                hint="add the backend, or choose one of those with --backend",
            )
        plan = make_plan(config, host_fingerprint="")
        who = next(participant for participant in plan.participants if participant.name == folder.name)
        due = [cell for cell in plan.cells if cell.participant == who.name and cell.kind == "measure"]
        cells = deque(cell.model_copy(update={"kind": "verify", "protocol": None}) for cell in due)
        packed = place / "solution.json"
        packed.write_bytes(document(pack(spec, config.definition)))
        block = replace(settings_of(plan, place, 0), timeout_s=timeout_s, tell=say)
        collector = Collector(show)
        run_block(block, [Task(who, packed, cells)], collector)
    return collector.records


@contextlib.contextmanager
def _named(folder: Path, place: str) -> Iterator[None]:
    """Errors name the user's file, not the link to it below `place`."""
    try:
        yield
    except InputError as error:
        where = error.where.replace(f"{place}/solutions/{folder.name}", str(folder))
        raise InputError(where, error.found, error.expected, error.hint) from error


def _alone(folder: Path, root: Path) -> Path:
    """A solutions folder that holds this one and the shared files: a flaw in a neighbour is not this solution's."""
    root.mkdir()
    (root / folder.name).symlink_to(folder)
    if (folder.parent / COMMON).is_dir():
        (root / COMMON).symlink_to(folder.parent / COMMON)
    return root


def _folder(solution: str) -> Path:
    """A solution by path, or by name under solutions/."""
    given = Path(solution)
    folder = given if (given / SPEC_FILE).is_file() else under_root("solutions") / solution
    if not (folder / SPEC_FILE).is_file():
        raise InputError(
            solution,
            found=f"no {folder / SPEC_FILE}",
            expected="the name of a folder under solutions/, or a path to a solution's folder",
            hint="correct the name, or make the folder with `bakeoff new-solution NAME`",
        )
    return folder.resolve()


def _columns() -> list[Column]:
    """Those of judged outputs, and what a record has besides."""
    return [
        *shared.numerics(),
        Column("outcome", "Outcome"),
        number("seconds", "Seconds", formats.fixed),
    ]


def _row(record: Record) -> Row:
    gates = {f"{name}_gate": gate.passed for name, gate in record.gates.items()}
    return defaultdict(lambda: None, {**flat(record), **flat(record.numerics or Numerics()), **gates})
