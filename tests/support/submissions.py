"""A stranger's run for tests: blocks of two solutions on two workloads, with the samples of a recorded run under a
plan that this checkout makes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bakeoff.config import DEFINITIONS, Config
from bakeoff.files import PROJECT_ROOT, canonical_json, pretty_json, read_json, sha256_bytes
from bakeoff.plan import make_plan
from bakeoff.planned import block_cells, block_order, read_plan
from bakeoff.runs.assemble import assemble_run
from bakeoff.runs.coverage import journal_digest
from bakeoff.runs.journal import block_folder, journal_path, read_journal
from bakeoff.schema.host import Host
from bakeoff.schema.sample import Manifest, Record, seal

RECORDED = PROJECT_ROOT / "results/recorded/2026-11-24_h100"
ONE = ("participant", "workload", "kind", "protocol", "family", "seed")
VICTIM = "triton_fused_moe_v2"


def write_honest(target: Path, *, blocks: int = 5) -> Path:
    host = read_json(RECORDED / "host.json", Host)
    config = Config(
        run="stranger",
        backend="sm_90a",
        definition=DEFINITIONS["full"],
        solutions=[VICTIM, "deepgemm_moe"],
        workloads=["T1_o32", "T901_o96"],
        protocols=["robust"],
        threads=1,
        blocks=blocks,
    )
    plan = make_plan(config, host.fingerprint)
    target.mkdir(parents=True)
    (target / "host.json").write_bytes((RECORDED / "host.json").read_bytes())
    (target / "config.json").write_bytes(pretty_json(plan.model_dump(mode="json", by_alias=True)))
    keys = {tuple(getattr(cell, name) for name in ONE): cell.key for cell in plan.cells}
    for block in range(plan.blocks):
        samples, outcomes = {}, {}
        for who in plan.participants:
            old = read_journal(journal_path(RECORDED, block, who.name))
            kept = [(one, keys.get(tuple(getattr(one, name) for name in ONE))) for one in old]
            lines = [seal(one.model_copy(update={"key": key})) for one, key in kept if key]
            outcomes |= {key: one.outcome for one, key in kept if key}
            samples[who.name] = write_journal(target, block, who.name, b"".join(lines))
        cells = block_cells(plan, block)
        before = read_json(block_folder(RECORDED, block) / "manifest.json", Manifest)
        manifest = before.model_copy(
            update={
                "order": block_order(plan, block),
                "journals": {
                    who.name: journal_digest([one for one in cells if one.participant == who.name], outcomes)
                    for who in plan.participants
                },
                "samples": samples,
                "added_later": False,
                "outcomes": {"PASSED": len(cells)},
            }
        )
        path = block_folder(target, block) / "manifest.json"
        path.write_bytes(pretty_json(manifest.model_dump(mode="json", by_alias=True)))
    assemble_run(target)
    return target


def write_journal(run: Path, block: int, who: str, data: bytes) -> str:
    """Write the compressed journal; returns the sha256 of what is in it."""
    path = journal_path(run, block, who).with_suffix(".jsonl.gz")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, mtime=0))
    return sha256_bytes(data)


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a JSON document in place."""
    document = json.loads(path.read_text())
    change(document)
    path.write_bytes(pretty_json(document))


def edit_line(run: Path, change: Callable[[dict[str, Any]], Any], *, block: int = 2, sealed: bool = True) -> None:
    """Change the first line of the victim's journal: the line's own digest is made anew, unless not `sealed`; the
    manifest's is not."""
    data = gzip.decompress(journal_path(run, block, VICTIM).with_suffix(".jsonl.gz").read_bytes())
    first, _, rest = data.partition(b"\n")
    body = json.loads(first)
    digest = body.pop("digest")
    change(body)
    line = canonical_json({**body, "digest": sha256_bytes(canonical_json(body)) if sealed else digest})
    write_journal(run, block, VICTIM, line + b"\n" + rest)


def edit_journals(run: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change every line of every journal; lines and manifests get the digests that follow."""
    plan = read_plan(run)
    for block in range(plan.blocks):
        samples = {}
        for who in plan.participants:
            lines = []
            for record in read_journal(journal_path(run, block, who.name)):
                body = json.loads(seal(record))
                del body["digest"]
                change(body)
                lines.append(canonical_json({**body, "digest": sha256_bytes(canonical_json(body))}) + b"\n")
            samples[who.name] = write_journal(run, block, who.name, b"".join(lines))
        edit(block_folder(run, block) / "manifest.json", lambda m, s=samples: m.update(samples=s, lines={}))


def reseal(run: Path, block: int = 2) -> None:
    """Make the manifest's digest fit the victim's journal again."""
    data = gzip.decompress(journal_path(run, block, VICTIM).with_suffix(".jsonl.gz").read_bytes())
    edit(block_folder(run, block) / "manifest.json", lambda m: m["samples"].update({VICTIM: sha256_bytes(data)}))


def rekey(run: Path, change: Callable[[dict[str, Any]], Any], *, keep: bool = False) -> None:
    """Change config.json and give its cells, and the records, the keys that follow: a forger who knows the harness.
    keep: leave records of cells that are no longer planned as they are."""
    from bakeoff.plan import planned_cells

    before = {tuple(getattr(cell, name) for name in ONE): cell.key for cell in read_plan(run).cells}
    edit(run / "config.json", change)
    plan = read_plan(run)
    plan = plan.model_copy(update={"cells": planned_cells(plan)})
    (run / "config.json").write_bytes(pretty_json(plan.model_dump(mode="json", by_alias=True)))
    new = {before[tuple(getattr(cell, name) for name in ONE)]: cell.key for cell in plan.cells}
    for block in range(plan.blocks):
        outcomes, samples = {}, {}
        for who in plan.participants:
            records: list[Record] = read_journal(journal_path(run, block, who.name))
            records = [one.model_copy(update={"key": new.get(one.key, one.key if keep else "")}) for one in records]
            outcomes |= {one.key: one.outcome for one in records}
            samples[who.name] = write_journal(run, block, who.name, b"".join(map(seal, records)))
        cells = block_cells(plan, block)
        journals = {
            who.name: journal_digest([one for one in cells if one.participant == who.name], outcomes)
            for who in plan.participants
        }
        path = block_folder(run, block) / "manifest.json"
        edit(path, lambda m, s=samples, j=journals: m.update(samples=s, journals=j))
