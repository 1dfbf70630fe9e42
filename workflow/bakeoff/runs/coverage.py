"""Whether a run has the samples that its plan asks for: every block, with its manifest, every participant's journal and
every record.

Entry points: `gaps`, `tampered` (samples) and `stale` (the analysis beside them); `journal_digest` and `line_digests`,
by which a manifest is tied to the journals beside it, and `inputs`, which tie an analysis to what it was made of.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from bakeoff.files import canonical_json, read_bytes, read_json, sha256_bytes
from bakeoff.planned import block_cells, block_order
from bakeoff.runs.journal import COMPRESSED, block_folder, journal_bytes, journal_path
from bakeoff.schema.outcomes import UNFINISHED, Outcome
from bakeoff.schema.plan import Plan, PlannedCell
from bakeoff.schema.sample import Manifest

if TYPE_CHECKING:
    from bakeoff.runs.table import Journals  # imports pandas, for which `measure` does not wait


DIGEST = re.compile(rb'"digest":"([0-9a-f]{64})"')
# What an analysis reads of a run's folder, or of a published one.
ANALYSED = (
    *("config.json", "host.json", "gate_power.json", "profile/*.json", "build/**/build.json"),
    *("samples/block-*/*.json", "samples/block-*/*.jsonl*", "meta.yaml", "claims.yaml", "*.csv"),
)


def gaps(run: Path, journals: "Journals") -> list[str]:
    """What the run's samples lack, a sentence each."""
    plan, outcomes = journals.plan, {(one.block, one.key): one.outcome for one in journals.records}
    missing = [sentence for block in range(plan.blocks) for sentence in _gaps_of_block(run, plan, block, outcomes)]
    return missing or tampered(run, plan)


def tampered(run: Path, plan: Plan) -> list[str]:
    """What of the samples is not as `measure` left it, a sentence each: journals that changed after their block was
    complete, and files of nobody in the plan."""
    found = []
    for block in range(plan.blocks):
        names = {who.name for who in plan.present(block)}
        folder, path = block_folder(run, block), block_folder(run, block) / "manifest.json"
        place = folder.relative_to(run)
        for other in sorted(folder.glob("*.jsonl*")):
            if other.name.partition(".jsonl")[0] not in names:
                found.append(f"{place}/{other.name}: the journal of nobody in the plan")
        digests = read_json(path, Manifest).samples if path.is_file() else None
        for name in sorted(names) if digests is not None else ():
            data = journal_bytes(journal_path(run, block, name))
            if data is not None and sha256_bytes(data) != (digests or {}).get(name):
                why = "changed after the block was complete" if name in (digests or {}) else "no digest of it"
                lines = _changed_lines(data, read_json(path, Manifest).lines.get(name, []))
                found.append(f"{place}/manifest.json: journal of {name}: {why}{lines}")
    return found


def _changed_lines(data: bytes, sealed: list[str]) -> str:
    """Which lines of a journal are not those that its manifest sealed."""
    there = line_digests(data)
    foreign = [str(number) for number, digest in enumerate(there, 1) if digest not in sealed]
    missing = [str(number) for number, digest in enumerate(sealed, 1) if digest not in there]
    told = (("changed, sealed again or foreign: line", foreign), ("no longer there: line", missing))
    return "".join(f"; {what} {', '.join(numbers)}" for what, numbers in told if sealed and numbers)


def line_digests(data: bytes) -> list[str]:
    """The digest that each line of a journal says it has; of a damaged line, none."""
    return [next(iter(DIGEST.findall(line)), b"").decode() for line in data.splitlines()]


def inputs(folder: Path) -> dict[str, str]:
    """sha256 of every file in a run's or a published folder that an analysis rests on, by its path there; journals as
    they were written, compressed or not."""
    found = {}
    for path in sorted(path for pattern in ANALYSED for path in folder.glob(pattern)):
        journal = path.with_name(path.name.removesuffix(COMPRESSED))
        name = journal.relative_to(folder).as_posix()
        found[name] = sha256_bytes((journal_bytes(journal) if name.endswith(".jsonl") else read_bytes(path)) or b"")
    return found


def stale(run: Path) -> list[str]:
    """What the run's analysis.json, if there is one, says of its inputs that does not hold, a sentence each."""
    path = run / "analysis.json"
    if not path.is_file():
        return []
    said, there = read_json(path, _Inputs).inputs, inputs(run)
    if not said:
        return ["analysis.json: no digests of its inputs; run `bakeoff analyse` again"]
    kinds = {
        "changed since the analysis": [name for name in said if name in there and said[name] != there[name]],
        "missing, the analysis rests on it": [name for name in said if name not in there],
        "foreign, the analysis does not know it": [name for name in there if name not in said],
    }
    return [f"analysis.json: {name}: {what}" for what, names in kinds.items() for name in names]


class _Inputs(BaseModel):
    """Of an analysis, what is compared here."""

    inputs: dict[str, str] = {}


def journal_digest(cells: Sequence[PlannedCell], outcomes: Mapping[str, Outcome]) -> str:
    """sha256 of the keys and outcomes of one participant's cells. outcomes: by key."""
    return sha256_bytes(canonical_json([(cell.key, outcomes.get(cell.key)) for cell in cells]))


def _gaps_of_block(run: Path, plan: Plan, block: int, outcomes: Mapping[tuple[int, str], Outcome]) -> list[str]:
    folder = block_folder(run, block)
    name = folder.relative_to(run)
    if not folder.is_dir():
        return [f"{name}: missing"]
    found, digests = [], {}
    cells = block_cells(plan, block)
    for who in plan.present(block):
        path = journal_path(run, block, who.name)
        if not path.exists() and not path.with_name(path.name + COMPRESSED).exists():
            found.append(f"{name}/{path.name}: missing")
            continue
        due = [cell for cell in cells if cell.participant == who.name]
        there = {cell.key: outcomes[block, cell.key] for cell in due if (block, cell.key) in outcomes}
        absent = [cell for cell in due if cell.key not in there]
        unfinished = [cell for cell in due if there.get(cell.key) in UNFINISHED]
        for what, some in (("no record", absent), ("no measurement", unfinished)):
            if some:
                found.append(
                    f"{name}/{path.name}: {what} of {who.name}/{some[0].workload} in block {block} "
                    f"({len(some)} of {len(due)} cells are missing)"
                )
        if not absent:
            digests[who.name] = journal_digest(due, there)
    return found + _flaws_of_manifest(folder / "manifest.json", name, digests, block_order(plan, block))


def _flaws_of_manifest(path: Path, name: Path, digests: dict[str, str], order: list[str]) -> list[str]:
    """digests: of the journals that are whole."""
    if not path.is_file():
        return [f"{name}/manifest.json: missing"]
    manifest = read_json(path, Manifest)
    if manifest.order != order:
        return [f"{name}/manifest.json: of {', '.join(manifest.order)}; planned are, in this order, {', '.join(order)}"]
    return [
        f"{name}/manifest.json: written for another journal of {who}"
        for who, digest in digests.items()
        if manifest.journals.get(who) != digest
    ]
