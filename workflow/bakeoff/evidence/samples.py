"""The journals of a submission, line by line: is each line of the cell that it says, does PASSED follow from its
figures under this checkout's bounds, and can its times be?

Entry points: `flaws`, `unplanned`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from bakeoff.core.bounds import Limit, bounds
from bakeoff.core.protocols import PROTOCOLS
from bakeoff.errors import InputError
from bakeoff.evidence.contents import period
from bakeoff.evidence.layout import AGAIN, refusal
from bakeoff.files import read_json
from bakeoff.runs.journal import block_folder, journal_bytes, journal_path, read_journal
from bakeoff.schema.evidence import Ground, Refusal
from bakeoff.schema.host import Host
from bakeoff.schema.outcomes import UNFINISHED, Outcome
from bakeoff.schema.plan import Plan
from bakeoff.schema.sample import Manifest, Record
from bakeoff.stats.environment import floor
from bakeoff.traces.models import Definition

_CELL = ("participant", "workload", "kind", "protocol", "family", "seed")
_KEY = re.compile(rb'"key":"([0-9a-f]*)"')
# Protocols whose calls find nothing in the caches, so that no call beats the memory.
_COLD = [name for name, timing in PROTOCOLS.items() if getattr(timing, "flush", True)]


def flaws(folder: Path, plan: Plan, host: Host, definition: Definition | None) -> Iterator[Refusal]:
    """What is wrong with the lines of the journals that are there: the first fault of each journal. definition: this
    checkout's."""
    model = host.gpus[0].name if host.gpus else None
    least = {what.id: us for what in plan.workloads if (us := floor(definition, what, model).get("floor_us"))}
    cells = {cell.key: tuple(getattr(cell, name) for name in _CELL) for cell in plan.cells}
    spans = []
    for block in range(plan.blocks):
        records: list[Record] = []
        for who in plan.present(block):
            path = journal_path(folder, block, who.name)
            here = _Place(path.relative_to(folder).as_posix(), who.name, block)
            records += (lines := read_journal(path))
            faults = (here.fault(number, line, cells, least) for number, line in enumerate(lines, 1))
            yield from [one for one in faults if one][:1]
        manifest = block_folder(folder, block) / "manifest.json"
        if records and manifest.is_file():
            spans.append((read_json(manifest, Manifest).gpu or "", *_period(records), block))
    for (gpu, _, ended, first), (same, started, _, then) in pairwise(sorted(spans)):
        if gpu == same and started < ended:
            text = f"started before block {first} had ended"
            yield refusal(Ground.IMPLAUSIBLE, f"samples/block-{then:02d}", text, "blocks of one GPU after each other")


def unplanned(folder: Path, plan: Plan) -> int:
    """How many lines of the journals are of no planned cell, as those that a changed plan leaves behind."""
    planned = {cell.key.encode() for cell in plan.cells}
    paths = [journal_path(folder, block, who.name) for block in range(plan.blocks) for who in plan.present(block)]
    return sum(key not in planned for path in paths for key in _KEY.findall(journal_bytes(path) or b""))


def _period(records: list[Record]) -> tuple[datetime, datetime]:
    try:
        return period(records)
    except ValueError as error:
        raise InputError("samples", f"a time that is none ({error})", "ISO 8601 with a zone", AGAIN) from error


@dataclass(frozen=True)
class _Place:
    """The journal of one participant in one block."""

    path: str
    who: str
    block: int

    def fault(
        self, number: int, record: Record, cells: Mapping[str, tuple[Any, ...]], least: Mapping[str, float]
    ) -> Refusal | None:
        """The first thing that is wrong with a line. cells: by key; least: microseconds by workload."""
        where, own = f"{self.path}:{number}", tuple(getattr(record, name) for name in _CELL)
        if (record.participant, record.block) != (self.who, self.block) or cells.get(record.key, own) != own:
            found = f"a line of {record.participant} {record.workload}, block {record.block}, key {record.key[:12]}"
            wanted = f"lines of {self.who} in block {self.block}, each of the cell that its key is planned for"
            return refusal(Ground.FOREIGN, where, found, wanted, "measure into a folder of its own, and record that")
        if record.key not in cells:
            return None  # of an earlier plan; nothing counts it (`unplanned`)
        if self.who == "reference" and record.outcome not in (Outcome.PASSED, *UNFINISHED):
            found = f"reference {record.workload}: {record.outcome}"
            return refusal(Ground.GATES, where, found, "a reference that passes")
        if record.outcome == Outcome.PASSED and (why := _unfounded(record)):
            return refusal(Ground.GATES, where, f"PASSED, but {why}", "PASSED by this checkout's core/bounds.yaml")
        if why := _impossible(record, least.get(record.workload, 0)):
            return refusal(Ground.IMPLAUSIBLE, where, f"{record.workload}: {why}", "times that a clock can have read")
        return None


def _impossible(record: Record, least_us: float) -> str | None:
    """Why the line's times cannot be."""
    counts, calls_s = {len(calls) for calls in record.tiers.values()}, sum(record.tiers.get("wall_us", ())) / 1e6
    if len(counts) > 1:
        return f"{sorted(counts)} calls, by tier"
    if calls_s > record.seconds:
        return f"{calls_s:.3f} s of calls in a cell of {record.seconds:.3f} s"
    for tier, calls in record.tiers.items() if record.protocol in _COLD else ():
        if tier != "wall_us" and calls and median(calls) < least_us:  # wall: the host, which waits for no kernel
            return f"{median(calls):.4g} us by {tier}; its bytes and FLOPs take {least_us:.4g} us at this GPU's peaks"
    return None


def _unfounded(record: Record) -> str | None:
    """Why PASSED does not follow from the line's own figures under this checkout's bounds."""
    figures = record.numerics
    if figures is None:
        return "no figures"
    limits = bounds()
    exact = {"non_finite": Limit(max=0)}
    wanted = {
        "published": {"matched_ratio": Limit(min=limits.published.required_matched_ratio), **exact},
        "strict": {**(limits.strict.full if figures.active_rows else {}), "nonzero_inactive": Limit(max=0), **exact},
    }
    for gate, conditions in wanted.items():
        for name, limit in conditions.items():
            value, check = getattr(figures, name), record.gates[gate].checks.get(name)
            if check is None or check.value != value:
                return f"the {gate} gate has no check of {name}, or of another value"
            low, high = limit.min, limit.max
            if value is None or (low is not None and value < low) or (high is not None and value > high):
                return f"{name} is {value}, outside {limit.min} to {limit.max}"
    return None
