"""Fills the tables of docs/numerics.md from the recorded files: `python -m bakeoff.verify.page` brings the page up to
date.

A table stands between `<!-- NAME -->` and `<!-- end NAME -->`; everything else on the page is written by hand.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from bakeoff.core.bounds import bounds
from bakeoff.files import PROJECT_ROOT, read_bytes, read_json, replace_marked, write_atomic
from bakeoff.schema.gates import GatePower
from bakeoff.tables.text import markdown
from bakeoff.verify.simulate import FILE, Simulation

PAGE = PROJECT_ROOT / "docs" / "numerics.md"
POWER_NARROW = FILE.with_name("power_narrow.json")
POWER_FULL = FILE.with_name("power_full.json")
# Words for the roundings of simulate.ROUNDINGS.
WORDS = {
    "gemm1_output_bfloat16_fp8": "BF16 then FP8; FP8; BF16",
    "gemm1_output_fp8": "FP8; FP8; BF16",
    "gemm1_output_bfloat16": "BF16; FP8; BF16",
}


def generated() -> tuple[Path, bytes]:
    """The page, and what it should hold."""
    text = read_bytes(PAGE).decode()
    simulation = read_json(FILE, Simulation)
    narrow, full = read_json(POWER_NARROW, GatePower), read_json(POWER_FULL, GatePower)
    for name, make in {
        "simulation": lambda: _simulation(simulation),
        "bounds": lambda: _bounds(simulation),
        "single rows": lambda: _single_rows(simulation),
        "power": lambda: _power(narrow, full),
        "survivors": lambda: _survivors(narrow, full),
    }.items():
        text = replace_marked(text, name, make(), PAGE)
    return PAGE, text.encode()


def _simulation(simulation: Simulation) -> str:
    head = ["workload, seed", "casts", "relative L2", "calc_diff", "matched", "scale"]
    rows = [
        [
            f"{o.workload}, {o.seed}",
            WORDS[o.rounding],
            f"{o.numerics.relative_l2:.4f}",
            f"{1e3 * (o.numerics.calc_diff or 0):.2f}e-3",
            f"{o.numerics.matched_ratio_active:.3f}",
            f"{o.numerics.scale:.4f}",
            f"{o.rows.relative_l2:.3f}",
            f"{1e3 * o.rows.calc_diff:.2f}e-3",
            f"{o.rows.matched_ratio:.3f}",
        ]
        for o in simulation.observations
        if o.family == "fib"
    ]
    return markdown([*head, "worst row: L2", "calc_diff", "matched"], rows)


def _bounds(simulation: Simulation) -> str:
    b, seen = bounds().strict.full, simulation.observations

    def worst(name: str, pick: Callable[[list[float]], float] = max) -> float:
        return pick([value for o in seen if (value := getattr(o.numerics, name)) is not None])

    scales = f"{worst('scale', min):.4f} to {worst('scale'):.4f}"
    rows = [
        *(
            [text, f"≤ {b[name].max}", f"{worst(name):.{digits}f}"]
            for text, name, digits in (
                ("relative L2 error of the active rows", "relative_l2", 4),
                ("relative L2 error of any single active row", "worst_row_l2", 4),
                ("calc_diff, 1 − 2⟨x,y⟩/(⟨x,x⟩+⟨y,y⟩)", "calc_diff", 5),
            )
        ),
        [
            "matched ratio of the active rows",
            f"≥ {b['matched_ratio_active'].min}",
            f"{worst('matched_ratio_active', min):.4f}",
        ],
        ["best-fit scale ⟨x,y⟩/⟨y,y⟩", f"{b['scale'].min} to {b['scale'].max}", scales],
        ["elements of inactive rows that are not exactly 0", "0", "0"],
        ["elements that are not finite", "0", "0"],
    ]
    return markdown(["measure", "bound", "worst correct output"], rows)


def _single_rows(simulation: Simulation) -> str:
    rows = sum(o.numerics.active_rows or 0 for o in simulation.observations)
    rejected = sum(o.rows.rejected for o in simulation.observations)
    return f"They would reject {rejected} of the {rows} simulated rows."


def _power(narrow: GatePower, full: GatePower) -> str:
    def killed(power: GatePower, name: str) -> list[str]:
        found = next(mutant for mutant in power.mutants if mutant.name == name)
        judged = found.cells - found.excluded
        return [f"{found.killed_strict}/{judged}", f"{found.killed_published}/{judged}"]

    def share(count: int, power: GatePower) -> str:
        return f"{count}/{power.counted} ({count / power.counted:.1%})"

    rows = [
        [f"{mutant.name}: {mutant.mistake}", *killed(narrow, mutant.name), *killed(full, mutant.name)]
        for mutant in narrow.mutants
    ]
    total = [share(count, power) for power in (narrow, full) for count in (power.killed_strict, power.killed_published)]
    return markdown(
        ["mistake", "narrow: strict", "published", "full: strict", "published"],
        [*rows, ["**all that must die**", *total]],
    )


def _survivors(narrow: GatePower, full: GatePower) -> str:
    lines = [
        f"{where}: {power.honest_cells} honest outputs, {power.honest_rejected_strict} rejected by the strict gate, "
        f"{power.honest_rejected_published} by the published one; {power.excluded} mutants equal the honest output. "
        f"Survivors: "
        + (", ".join("{mutant} on {workload} ({family})".format(**s) for s in power.survivors) or "none")
        + "."
        for where, power in (
            ("Narrow", narrow),
            (f"Full width, {full.rows or 'all'} rows of each workload, {' and '.join(full.families)} values", full),
        )
    ]
    return "\n".join(f"- {line}" for line in lines)


def main() -> int:
    """Bring the page up to date."""
    path, content = generated()
    write_atomic(path, content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
