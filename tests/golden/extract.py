"""What the product computed, as tables of figures: the one place that knows the form of its files.

Reads `analysis.json`, `traces.jsonl` and `gate_power.json` with the standard library alone. A change of their form is a
change here and nowhere else in the comparison; a field that is gone is an error, never an empty figure.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

# One table: row -> column -> figure as text. A row's name is its key, words separated by blanks.
Table = dict[str, dict[str, str]]

CELL = ("outcome", "reason", "blocks", "latency_us", "speedup", "mde", "mde_against", "floor_share")
NUMERICS = ("matched_ratio", "matched_ratio_active", "relative_l2", "worst_row_l2", "calc_diff", "scale")
PAIR = ("workloads", "ratio", "a_ahead", "b_ahead")
# Today's verdicts in the frozen words: a difference below 2 % was SAME, whether it was shown which way or not.
COARSE = {
    **dict.fromkeys(("FASTER_2_PERCENT", "FASTER_OPEN"), "FASTER"),
    **dict.fromkeys(("SLOWER_2_PERCENT", "SLOWER_OPEN"), "SLOWER"),
    **dict.fromkeys(("SAME", "FASTER_BELOW_2_PERCENT", "SLOWER_BELOW_2_PERCENT"), "SAME"),
    "OPEN": "AMBIGUOUS",
    None: None,
}
VERDICT = ("verdict", "undecided", "blocks", "ratio", "sd", "mde", "p_difference", "p_equivalence")
WINNER = ("leader", "supported", "basis", "lead", "runner_up", "p_difference", "level", "same", "tied")
SUMMARY = (
    *("due", "cells", "passed", "arithmetic_mean", "geometric_mean", "median", "minimum", "minimum_at", "maximum"),
    *("maximum_at", "std_sample", "std_population", "cv_sample", "cv_population", "wins", "ties", "leads"),
    "total_latency_us",
)
VERIFICATION = ("due", "passed", "least_matched_active", "widest_scale", "worst_calc_diff", "worst_relative_l2")
COMPARED = ("verdict", "old", "new", "ratio", "p_difference", "reasons")
PROFILED = (
    *("busy_us", "span_us", "host_us", "floor_us", "floor_share", "gap_share", "launches", "mapped_share"),
    *("bound", "dram_bytes"),
)
STAGE = ("us", "launches", "floor_us", "limit")
SPREAD = ("cv_sample", "cv_population", "spread")
PREVIOUS = ("workloads", "ratio", "least", "greatest", "reproduced", "differs")
MUTANT = ("must_die", "cells", "excluded", "killed_published", "killed_strict")
HONEST = ("honest_cells", "honest_rejected_published", "honest_rejected_strict", "counted", "excluded")


def tables(results: Path, run: str) -> dict[str, Table]:
    """All tables of a run. results: the project's results/, where the pipeline has rendered every run.

    Raises FileNotFoundError for a file that the pipeline has not made, LookupError or TypeError for an unknown form.
    """
    if run == "cpu":
        return of_gate_power(_json(results / "runs/cpu/gate_power.json"))
    found = of_analysis(_json(results / f"rendered/{run}/analysis.json"))
    traces = results / f"recorded/{run}/traces.jsonl"
    if traces.is_file():
        found["traces"] = of_traces(traces)
    return found


def runs(results: Path) -> list[str]:
    """The names of the runs that are frozen: all committed ones, and `cpu`, the gates' power in the pipeline's own."""
    committed = [
        path.name for kind in ("recorded", "published") for path in (results / kind).iterdir() if path.is_dir()
    ]
    return ["cpu", *sorted(committed)]


def of_analysis(analysis: Any) -> dict[str, Table]:
    """The tables of an analysis.json; those that the run has nothing for are left out."""
    findings, profiles, audit = (analysis[name] or {} for name in ("findings", "profiles", "audit"))
    found = {
        "cells": _rows(analysis["cells"], ("workload", "solution"), CELL, _gates),
        "workloads": _rows(analysis["workloads"], ("id",), ("reference_us", "active_tokens", "local_pairs"), _floor),
        "verifications": _rows(analysis["verifications"], ("solution", "family", "seed"), VERIFICATION),
        "validity": _rows(analysis["validity"], ("code",), ("status", "found", "of")),
        "summaries": _rows(analysis["summaries"], ("solution",), SUMMARY),
        "winners": _rows(analysis["winners"], ("workload",), WINNER),
        "pairs": _rows(analysis["pairs"], ("a", "b"), PAIR, _counts),
        "verdicts": _joined(_coarse(analysis["pairs"]), ("a", "b"), "verdicts", ("workload",), VERDICT),
        "findings": _findings(findings),
        "rankings": _rankings(analysis["rank_stability"]),
        "stability": _stability(analysis["rank_stability"]),
        "comparisons": _rows(analysis["comparisons"], ("old", "new"), ("scatter", "counts", "not_comparable")),
        "compared": _joined(analysis["comparisons"], ("old", "new"), "cells", ("workload", "solution"), COMPARED),
        "claims": _rows(audit["claims"], ("id",), ("verdict", "printed", "computed", "tolerance")) if audit else {},
    }
    if analysis["gate_power"]:
        found |= of_gate_power(analysis["gate_power"])
    if profiles:
        found["profile"] = _rows(profiles["cells"], ("workload", "solution"), PROFILED)
        found["stages"] = _joined(profiles["cells"], ("workload", "solution"), "stages", ("stage",), STAGE)
        found["explanations"] = _long(
            _rows(profiles["explanations"], ("id",), ("verdict",), lambda one: one["numbers"])
        )
    return {name: table for name, table in found.items() if table}


def of_gate_power(power: Any) -> dict[str, Table]:
    """How many wrong outputs each gate killed, by mutant."""
    return {
        "mutants": _rows(power["mutants"], ("name",), MUTANT),
        "gates": _rows([power], ("definition",), HONEST),
    }


def of_traces(path: Path) -> Table:
    """The figures of traces.jsonl, whose rows are named by seq_len and offset as everywhere."""
    found: Table = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        trace = json.loads(line)
        inputs, performance = trace["workload"]["inputs"], trace["evaluation"]["performance"]
        workload = f"T{trace['workload']['axes']['seq_len']}_o{inputs['local_expert_offset']['value']}"
        names = ("latency_ms", "reference_latency_ms", "speedup_factor")
        found[f"{workload} {trace['solution']}"] = {
            "status": trace["evaluation"]["status"],
            **{name: _text(performance[name] if performance else None) for name in names},
        }
    return found


def _rows(
    items: list[Any], keys: tuple[str, ...], columns: tuple[str, ...], more: Callable[[Any], Any] = lambda item: {}
) -> Table:
    """One row per item. more: further columns of an item."""
    found: Table = {}
    for item in items:
        row: dict[str, str] = {}
        for column, value in [*((column, item[column]) for column in columns), *more(item).items()]:
            # An interval is three figures.
            interval = isinstance(value, dict) and set(value) == {"value", "low", "high"}
            parts = value if interval else {"value": value}
            row |= {column if name == "value" else f"{column}.{name}": _text(part) for name, part in parts.items()}
        name = " ".join(str(item[key]) for key in keys)
        if name in found:
            raise LookupError(f"{name!r} stands twice")
        found[name] = row
    return found


def _joined(
    items: list[Any], keys: tuple[str, ...], inner: str, inner_keys: tuple[str, ...], columns: tuple[str, ...]
) -> Table:
    """One row per entry of each item's list `inner`."""
    flat = [{**entry, **{f"{key} ": item[key] for key in keys}} for item in items for entry in item[inner]]
    return _rows(flat, (*(f"{key} " for key in keys), *inner_keys), columns)


def _coarse(pairs: Any) -> list[Any]:
    return [
        {**pair, "verdicts": [{**one, "verdict": COARSE[one["verdict"]]} for one in pair["verdicts"]]} for pair in pairs
    ]


def _counts(pair: Any) -> dict[str, int]:
    verdicts = [COARSE[one["verdict"]] for one in pair["verdicts"]]
    return {word.lower(): verdicts.count(word) for word in ("FASTER", "SLOWER", "SAME", "AMBIGUOUS")}


def _gates(cell: Any) -> dict[str, Any]:
    passed = {
        f"{gate}_gate": cell[f"{gate}_gate"] and cell[f"{gate}_gate"]["passed"] for gate in ("published", "strict")
    }
    return passed | {name: cell["numerics"] and cell["numerics"][name] for name in NUMERICS}


def _floor(workload: Any) -> dict[str, Any]:
    return {"floor_us": workload["floor_us"]}


def _findings(findings: Any) -> Table:
    """The generated findings, a row per figure, since each finding has columns of its own."""
    found: Table = {}
    if ranking := findings.get("ranking"):
        found |= _rows(ranking["order"], ("solution",), ("rank", "value"), lambda one: _wins(ranking, one["solution"]))
        steps = [{"step": f"step {number}", "ratio": step} for number, step in enumerate(ranking["steps"], 1)]
        found |= _rows(steps, ("step",), ("ratio",))
        found["ranking"] = {"undecided": _text(ranking["undecided"])}
    if version := findings.get("version"):
        found["version"] = _rows([version], ("new",), tuple(version))[version["new"]]
    spread = _rows(findings.get("consistency") or [], ("solution",), SPREAD)
    found |= {f"consistency {who}": row for who, row in spread.items()}
    if large := findings.get("large_batch"):
        kept = _rows(large["rows"], ("solution",), ("small", "large", "kept"))
        found |= {f"large_batch {who}": row for who, row in kept.items()}
        found["large_batch"] = {name: _text(large[name]) for name in ("leader_small", "leader_large", "small", "large")}
    for previous in findings.get("previous") or []:
        name = f"previous {previous['id']}"
        found[name] = {key: _text(previous[key]) for key in ("relation", "comparable", "flipped", "reasons")}
        found |= {f"{name} {who}": row for who, row in _rows(previous["rows"], ("solution",), PREVIOUS).items()}
    return _long(found)


def _wins(ranking: Any, solution: str) -> dict[str, Any]:
    return {name: ranking[name][solution] for name in ("leads", "wins")}


def _rankings(stability: Any) -> Table:
    orders = stability["rankings"] if stability else []
    return _joined(orders, ("aggregate", "baseline"), "order", ("solution",), ("rank", "value"))


def _stability(stability: Any) -> Table:
    names = ("orders", "always_first", "swaps", "workloads") if stability else ()
    return {name: {"figure": _text(stability[name])} for name in names}


def _long(table: Table) -> Table:
    """A row per figure."""
    return {f"{row} {name}": {"figure": text} for row, columns in table.items() for name, text in columns.items()}


def _text(value: Any) -> str:
    """A figure as it stands in the table: empty for none, lists and counts in one cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "; ".join(f"{name} {_text(part)}" for name, part in sorted(value.items()))
    if isinstance(value, list):
        return "; ".join(map(_text, value))
    return str(value)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
