"""`bakeoff check SOLUTION`: is it correct, and by how much? For whoever writes a kernel; nothing is timed or kept.

Entry points: `check_solution` (the verb) and `run_solution`. The solution runs as in a run: packed, in a confined
child, judged outside by both gates, with changed values on some cells.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import tempfile
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bakeoff import locks
from bakeoff.build.names import solution_folder, workload_id
from bakeoff.build.pack import pack
from bakeoff.build.spec import COMMON, read_spec, require_backend
from bakeoff.config import Config, resolve, under_root
from bakeoff.errors import InputError
from bakeoff.files import validate
from bakeoff.plan import checked_plan
from bakeoff.runs.block_run import say, settings_of
from bakeoff.schema.gates import EXACT, Numerics, Rounding
from bakeoff.schema.outcomes import SENTENCES, Outcome, Reason
from bakeoff.schema.sample import Record, finite
from bakeoff.supervisor.block import run_block
from bakeoff.supervisor.settings import BlockSettings, Task
from bakeoff.tables import formats, shared, text
from bakeoff.tables.table import Column, Row, flat, number
from bakeoff.traces.dataset import PublicDataset
from bakeoff.traces.models import document
from bakeoff.traces.store import TraceRoot

COLUMNS = (
    *("workload", "outcome", "family", "published_gate", "strict_gate"),
    *("matched_ratio_active", "relative_l2", "worst_row_l2", "calc_diff", "scale", "seconds"),
)
WIDTHS = {
    "workload": 16,
    "family": 9,
    "outcome": 19,
    "relative_l2": 8,
    "worst_row_l2": 8,
    "calc_diff": 9,
    "scale": 8,
    "seconds": 7,
}


# With so many tokens all mistakes differ, and the mutants take less than a second; at the full width on a CPU minutes.
TELLING_TOKENS = 128


class Collector:
    """Takes records and hands each to `show`; there is no run folder to guard. wrong: the output that tells most of
    what a gate has failed."""

    def __init__(self, show: Callable[[Record], None], block: BlockSettings) -> None:
        self.records: list[Record] = []
        self.wrong: tuple[Record, bytes] | None = None
        self._show, self._tokens = show, block.tokens
        self._up_to = TELLING_TOKENS if block.gpu or block.emulates else 0

    def add(self, record: Record) -> None:
        self.records.append(record)
        self._show(record)

    def keep(self, record: Record, output: bytes) -> None:
        """Keep an output if it tells more: the most tokens up to a limit, else the fewest."""
        if _told_by_values(record) and (self.wrong is None or self._tells(record) > self._tells(self.wrong[0])):
            self.wrong = record, output

    def _tells(self, record: Record) -> int:
        tokens = self._tokens[record.workload]
        return tokens if tokens <= self._up_to else -tokens

    def tampered(self) -> str | None:
        return None


def check_solution(args: argparse.Namespace) -> int:
    """Run the check and print a table, or a line of JSON per cell; returns 0 if every cell passed, else 1."""
    settings = {
        "backend": args.backend,
        "definition": args.definition,
        **({} if args.family is None else {"families": [args.family]}),
        **({} if args.seed is None else {"seeds": [args.seed]}),
        **({} if args.dataset is None else {"dataset": args.dataset}),
    }
    folder = solution_folder(args.solution, under_root("solutions"))
    config = resolve(validate(settings, Config, "options"))
    if args.workload:
        ids = [case.id for case in TraceRoot(under_root(config.traces_root)).workloads(config.definition, further=True)]
        settings["workloads"] = list(dict.fromkeys(workload_id(name, ids) for name in args.workload))
    table = text.Stream(text.chosen(_columns(), COLUMNS), WIDTHS)
    heads = iter([table.heads()])
    values = f"{formats.listed(list(config.families))} values"

    def show(record: Record) -> None:
        row = _row(record)
        if not args.json:
            print("\n".join([*next(heads, []), table.line(row)]), flush=True)
        elif not _told_by_values(record):
            _print_json(row, None)

    if not args.json:
        print(f"{folder.name} on {config.backend}, {config.definition}, {values}")
    records, like = run_solution(folder, settings, args.timeout, show)
    failed = [record for record in records if record.outcome != Outcome.PASSED]
    if not args.json:
        total = f"{folder.name}: {len(records) - len(failed)} of {len(records)} cells PASSED ({values})"
        print(*_causes(failed, folder), *_likeness(like), "", total, sep="\n")
    for record in failed if args.json else []:
        if _told_by_values(record):
            _print_json(_row(record), like)
    return 1 if failed else 0


def _print_json(row: Row, like: dict[str, Any] | None) -> None:
    facts = {key: row[key] for key in (*COLUMNS, "reason", "detail", "hint")}
    print(json.dumps({**facts, "resembles": like}), flush=True)


def _told_by_values(record: Record) -> bool:
    """Whether a gate failed the output on the workload's own values, all of which the solution wrote."""
    return record.reason in (Reason.PUBLISHED_GATE, Reason.STRICT_GATE) and not all(
        gate.passed for gate in record.gates.values()
    )


def _likeness(like: dict[str, Any] | None) -> Iterator[str]:
    at = f"at {like['workload']} {like['family']}" if like else ""
    if like and like["mistakes"]:
        named = " or ".join(f"{one['mistake']} ({one['name']})" for one in like["mistakes"])
        yield (
            f"\nresembles: {named}; relative L2 {like['relative_l2']:.2g} against the output of that mistake, "
            f"{like['from_right']:.2g} against the right one, {at}"
        )
    elif like:
        far = "not finite" if like["from_right"] is None else f"{like['from_right']:.2g}"
        yield f"\nresembles no known mistake; relative L2 {far} against the right output, {at}"


def _causes(failed: list[Record], folder: Path) -> Iterator[str]:
    """Each cause once, with where it was seen, in words of the user's own files."""
    causes: dict[tuple[str, ...], list[tuple[Record, str]]] = {}
    for record in failed:
        detail = in_own_files(record.detail or "", folder)
        alike = re.sub(r"\d[\d.e+-]*", "0", detail.strip().splitlines()[-1] if detail.strip() else "")
        causes.setdefault((record.outcome, record.reason or "", alike), []).append((record, detail))
    for found in causes.values():
        record, detail = found[0]
        reason = f" ({record.reason})" if record.reason else ""
        places = shared.some([f"{one.workload} {one.family}" for one, _ in found])
        yield f"\n{places}: {SENTENCES[record.outcome]}{reason}"
        yield detail.strip()
        if record.hint and "bakeoff check" not in record.hint:
            yield f"to do: {record.hint}"


def in_own_files(detail: str, folder: Path) -> str:
    """A traceback without the harness's frames, and with the paths of the solution's own folder instead of the packed
    copy's, which is gone by then."""
    own = re.sub(r'  File "[^"]*/bakeoff/[^"]*\.py", line .*\n(?:    .*\n)*', "", detail)
    own = re.sub(rf"[^\s\"']*/package/{re.escape(folder.name)}_\w+/{COMMON}/", f"{folder.parent / COMMON}/", own)
    return re.sub(rf"[^\s\"']*/package/{re.escape(folder.name)}_\w+/", f"{folder}/", own)


def run_solution(
    folder: Path, settings: dict[str, Any], timeout_s: float, show: Callable[[Record], None]
) -> tuple[list[Record], dict[str, Any] | None]:
    """Verify the solution in `folder` on the workloads of a configuration's `settings`; returns a record per workload,
    and what a wrong output resembles, if there is one."""
    with tempfile.TemporaryDirectory(prefix="bakeoff-check-") as name, _named(folder, name):
        place = Path(name)
        root = alone([folder], place / "solutions")
        config = resolve(
            validate({**settings, "solutions": [folder.name], "solutions_root": str(root)}, Config, "options")
        )
        spec = read_spec(root / folder.name)
        require_backend(spec, config.backend, folder)
        plan = checked_plan(config, host_fingerprint="")
        who = next(participant for participant in plan.participants if participant.name == folder.name)
        due = [cell for cell in plan.cells if cell.participant == who.name]
        cells = deque(cell.model_copy(update={"kind": "verify", "protocol": None}) for cell in due)
        packed = place / "solution.json"
        packed.write_bytes(document(pack(spec, config.definition)))
        block = settings_of(plan, place, 0)
        collector = Collector(show, block)
        block = replace(block, timeout_s=timeout_s, tell=say, wrong=collector.keep)
        run_block(block, [Task(who, packed, cells)], collector)
    return collector.records, collector.wrong and _resembles(block, who.rounding or EXACT, *collector.wrong)


def _resembles(block: BlockSettings, rounding: Rounding, record: Record, output: bytes) -> dict[str, Any]:
    """What a wrong output resembles, computed on the device that the solution ran on."""
    if block.gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = block.gpu
    import torch  # takes seconds, which only a wrong output is worth

    from bakeoff.core.moe.inputs import make_inputs
    from bakeoff.verify.resemble import resemblance

    device = "cpu" if block.gpu is None else "cuda"
    cases = TraceRoot(block.traces_root).workloads(block.definition, further=True)
    case = next(case for case in cases if case.id == record.workload)
    dataset = None if block.dataset == "synthetic" else PublicDataset(Path(block.dataset))
    rows = torch.frombuffer(bytearray(output), dtype=torch.bfloat16).view(case.seq_len, -1)
    with locks.hold_gpu(block.gpu, f"GPU {block.gpu}", say) if block.gpu else contextlib.nullcontext():
        inputs = make_inputs(block.geometry, case, record.family, record.seed, device, dataset)  # type: ignore[arg-type]
        found = resemblance(block.geometry, inputs, rounding, rows.to(device))
    return {
        "mistakes": [{"name": name, "mistake": mistake} for name, mistake in found.mutants],
        **finite({"relative_l2": found.distance, "from_right": found.from_right}),
        **{"workload": record.workload, "family": record.family},
    }


@contextlib.contextmanager
def _named(folder: Path, place: str) -> Iterator[None]:
    """Errors name the user's file, not the link to it below `place`."""
    try:
        yield
    except InputError as error:
        where = error.where.replace(f"{place}/solutions/{folder.name}", str(folder))
        raise InputError(where, error.found, error.expected, error.hint) from error


def alone(folders: Iterable[Path], root: Path) -> Path:
    """A solutions folder that holds some and the shared files: a flaw in a neighbour is not theirs."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for folder in folders:
        (root / folder.name).symlink_to(folder)
        if (folder.parent / COMMON).is_dir() and not (root / COMMON).exists():
            (root / COMMON).symlink_to(folder.parent / COMMON)
    return root


def _columns() -> list[Column]:
    """Those of judged outputs, and what a record has besides."""
    return [
        *shared.numerics(),
        Column("family", "Values"),
        Column("outcome", "Outcome", tone=lambda row: "good" if row["outcome"] == Outcome.PASSED else "bad"),
        number("seconds", "Seconds", formats.fixed),
    ]


def _row(record: Record) -> Row:
    gates = {f"{name}_gate": gate.passed for name, gate in record.gates.items()}
    return defaultdict(lambda: None, {**flat(record), **flat(record.numerics or Numerics()), **gates})
