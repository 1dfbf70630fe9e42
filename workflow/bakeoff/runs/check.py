"""`bakeoff check SOLUTION`: is it correct, and by how much? For whoever writes a kernel; nothing is timed or kept.

Entry points: `check_solution` (the verb) and `run_solution`. The solution runs as in a run: packed, in a confined
child, judged outside by both gates, with changed values on some cells.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bakeoff.build.pack import pack
from bakeoff.build.spec import COMMON, SPEC_FILE, read_spec
from bakeoff.config import Config, resolve, under_root
from bakeoff.errors import InputError
from bakeoff.files import validate
from bakeoff.plan import make_plan
from bakeoff.runs.block_run import say, setting_of
from bakeoff.schema.outcomes import SENTENCES, Outcome
from bakeoff.schema.sample import Record
from bakeoff.supervisor.block import Block
from bakeoff.supervisor.sessions import Task
from bakeoff.traces.models import document

COLUMNS = ("matched_ratio_active", "relative_l2", "worst_row_l2", "calc_diff", "scale")
HEAD = (
    f"{'workload':<12} {'outcome':<20} {'published':>9} {'strict':>7} {'matched':>8} {'rel. L2':>8} "
    f"{'worst row':>9} {'calc_diff':>9} {'scale':>7} {'seconds':>8}"
)


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
    rows: list[str] = [HEAD]

    def show(record: Record) -> None:
        rows.append(_row(record))
        print("\n".join(rows[-2:] if len(rows) == 2 else rows[-1:]), flush=True)

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
        setting = setting_of(plan, place, 0)
        setting.timeout_s, setting.tell = timeout_s, say
        collector = Collector(show)
        Block(setting, [Task(who, packed, cells)], collector).run()
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


def _row(record: Record) -> str:
    gates = [{True: "pass", False: "FAIL", None: "-"}[_passed(record, gate)] for gate in ("published", "strict")]
    figures = ["-" if (found := getattr(record.numerics, name, None)) is None else f"{found:.4f}" for name in COLUMNS]
    return (
        f"{record.workload:<12} {record.outcome:<20} {gates[0]:>9} {gates[1]:>7} "
        f"{figures[0]:>8} {figures[1]:>8} {figures[2]:>9} {figures[3]:>9} {figures[4]:>7} {record.seconds:>8.2f}"
    )


def _passed(record: Record, gate: str) -> bool | None:
    return record.gates[gate].passed if gate in record.gates else None
