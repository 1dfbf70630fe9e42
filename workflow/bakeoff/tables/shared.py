"""The tables that a page and a verb both print, and columns that several tables share.

Entry points: `numerics` (`check`), `stages`, `kernels` and `ceilings` (`explain`), `comparison` (`compare`), `claims`
(`audit`). solution: how the table names a solution; a page has labels and marks.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from bakeoff.schema.analysis_outside import ClaimVerdict
from bakeoff.schema.profile import CellProfile, ProfileSection
from bakeoff.tables import formats as f
from bakeoff.tables import words
from bakeoff.tables.table import Column, Row, flat, number

SOLUTION = Column("solution", "Solution")
_TONES = {"REPRODUCED": "good", "SAME": "good", "FASTER": "good", "DIFFERS": "bad", "SLOWER": "bad"}

speedup = partial(number, format=f.fixed, unit=f.TIMES)
ratio = partial(number, format=partial(f.fixed, digits=3))
share = partial(number, format=partial(f.percent, digits=0))
percent = partial(number, format=f.percent)
duration = partial(number, format=f.duration)
count = partial(number, format=f.count)
size = partial(number, format=f.data_size)
figure = partial(number, format=f.significant)


def some(names: list[str], most: int = 6, more: int = 0) -> str:
    """The first of many names and how many others there are, `more` of them not among the names."""
    others = max(0, len(names) - most) + more
    return ", ".join(names[:most]) + (f", +{others}" if others else "") or "–"


def names(key: str, heading: str, most: int = 6, **rest: Any) -> Column:
    """Names, of which people see the first; the CSV has all."""
    return Column(key, heading, partial(some, most=most), export=" ".join, **rest)


def worded(key: str, heading: str, by_code: Mapping[Any, str], **rest: Any) -> Column:
    """A code by its word; a code without a word is an error."""
    return Column(key, heading, by_code.__getitem__, **rest)


def out_of(key: str, heading: str, due: str = "due", **rest: Any) -> Column:
    """A count of those that were due, "18/19"."""
    return number(key, heading, text=lambda row: f"{row[key]}/{row[due]}", **rest)


def _place(solution: Column) -> list[Column]:
    return [Column("workload", "Workload", head=True), solution]


def numerics(solution: Column = SOLUTION) -> list[Column]:
    """One row per judged output: both gates, and how far it is from the float32 reference."""
    return [
        Column("workload", "Workload", head=True),
        solution,
        *(
            _gate(key, heading)
            for key, heading in (("published_gate", "Published gate"), ("strict_gate", "Strict gate"))
        ),
        number("matched_ratio_active", "Matched (active)", partial(f.significant, digits=4)),
        number("matched_ratio", "Matched (all)", partial(f.significant, digits=4)),
        figure("relative_l2", "Relative L2"),
        figure("worst_row_l2", "Worst row L2"),
        number("cosine", "Cosine", partial(f.significant, digits=6)),
        figure("calc_diff", "calc_diff"),
        number("scale", "Best-fit scale", partial(f.significant, digits=5)),
        count("active_rows", "Active rows"),
        count("nonzero_inactive", "Non-zero inactive"),
        count("non_finite", "Non-finite"),
        count("ambiguous_rows", "Ambiguous rows"),
        Column("max_abs"),
        Column("max_rel"),
        Column("failed_checks"),
    ]


def _gate(key: str, heading: str) -> Column:
    tones = {None: "mute", True: "good", False: "bad"}
    return worded(key, heading, words.GATE, tone=lambda row: tones[row[key]])


def stages(solution: Column = SOLUTION) -> list[Column]:
    """One row per stage of a profiled cell: time, share, floor, and what bounds it."""
    return [
        *_place(solution),
        Column("stage", "Stage"),
        duration("us", "Time"),
        share("share", "Share"),
        duration("run_us", "Running"),
        duration("floor_us", "Floor, time"),
        share("floor_share", "Floor"),
        worded("limit", "Limited by", words.LIMITS),
        Column("limit_from"),
        number("launches", "Launches"),
        size("dram_bytes", "DRAM bytes"),
        share("dram_share", "Of peak bandwidth"),
        share("tensor_share", "Tensor cores busy"),
        share("occupancy", "Occupancy"),
        Column("local_accesses"),
    ]


def kernels(solution: Column = SOLUTION) -> list[Column]:
    """One row per kernel of a profiled cell, in launch order."""
    return [
        *_place(solution),
        Column("kernel", "Kernel", style="code"),
        Column("stage", "Stage"),
        Column("mapped"),
        number("launches", "Launches"),
        duration("us", "Time"),
        count("registers", "Registers"),
        count("shared_bytes", "Shared memory, bytes"),
        count("local_bytes", "Local memory, bytes"),
        Column("grid", format=_sizes, export=_sizes),
        Column("block", format=_sizes, export=_sizes),
    ]


def _sizes(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


def stage_rows(cells: Iterable[CellProfile]) -> Iterator[Row]:
    """Of every cell the stages that take time."""
    for cell in cells:
        place = {"workload": cell.workload, "solution": cell.solution}
        yield from ({**flat(stage), **place} for stage in cell.stages if stage.us)


def kernel_rows(cells: Iterable[CellProfile]) -> Iterator[Row]:
    """Of every cell its kernels."""
    for cell in cells:
        place = {"workload": cell.workload, "solution": cell.solution}
        yield from ({**flat(kernel), "kernel": kernel.name, **place} for kernel in cell.kernels)


def ceilings() -> list[Column]:
    """One row per rate of the GPU: its sourced peak beside what a simple program reached on the host."""
    peaks = (figure("peak", "Sourced peak"), figure("measured", "Measured here"))
    return [Column("rate", "Rate", head=True), *peaks, Column("unit", "Unit")]


def ceiling_rows(section: ProfileSection) -> Iterator[Row]:
    """The three rates."""
    found = section.ceilings
    for rate, peak, measured, unit in (
        ("bandwidth", section.peak_gbs, found and found.copy_gbs, "GB/s"),
        ("fp8", section.peak_tflops, found and found.fp8_tflops, "TFLOP/s"),
        ("launch", None, found and found.launch_us, "µs"),
    ):
        yield {"rate": rate, "peak": peak, "measured": measured, "unit": unit}


def comparison(rule: str, solution: Column = SOLUTION) -> list[Column]:
    """One row per cell of two runs: old, new, ratio with its interval, verdict. rule: `published` compares speedups,
    `runs` latencies."""
    value = speedup if rule == "published" else duration
    return [
        solution,
        Column("workload", "Workload"),
        Column("verdict", "Verdict", tone=lambda row: _TONES.get(row["verdict"], "mute")),
        value("old", "Old"),
        value("new", "New"),
        ratio("ratio", "Ratio", interval=True),
        Column("reasons", "Why not comparable", reasons, export=" ".join),
    ]


def reasons(codes: Sequence[str]) -> str:
    """Why two cells, or two runs, cannot be compared."""
    return "; ".join(words.REASONS.get(code, code) for code in codes) or "–"


def claims(verdict: ClaimVerdict) -> list[Column]:
    """One row per claim of that verdict: what was printed, what the values say, or what would test it."""
    testable = verdict is not ClaimVerdict.NOT_TESTABLE

    def tested(heading: str) -> str:
        return heading if testable else ""

    return [
        Column("claim", "Claim", head=True, note=lambda row: row["note"] or ""),
        Column("note"),
        number("printed", tested("Printed"), missing="–"),
        number(
            "computed",
            tested("Recomputed"),
            lambda found: " / ".join(found) or "–",
            export=" | ".join,
            tone=lambda row: "bad" if verdict is ClaimVerdict.CONTRADICTED else "",
        ),
        number("tolerance", tested("Tolerance"), missing="–"),
        Column(
            "changes",
            "Changes the conclusions" if verdict is ClaimVerdict.CONTRADICTED else "",
            lambda changed: ", ".join(changed) or "none",
            export=" ".join,
        ),
        Column("place", "Where"),
        Column("needs", "" if testable else "What would test it", style="ticked"),
        Column("verdict"),
        Column("id"),
        Column("expression"),
    ]
