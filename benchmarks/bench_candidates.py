"""CPU time, memory and sizes of `bakeoff plan`, `analyse` and `report` for many candidates: 50 to 500 peers beside four
contestants, 19 workloads, ten blocks. The plan is of as many copies of the template.

Run it after `make setup-dev`: `.venv/bin/python benchmarks/bench_candidates.py [NUMBER …]`. The runs are those that the
tests construct (tests/support/make.py). Each verb runs in a process of its own; imports are included, writing the run
is not. CPU seconds, since other work on the machine does not count there.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SIZES = (50, 100, 200, 500)


def spent(*words: str) -> tuple[float, float]:
    """CPU seconds and peak MiB of a verb."""
    process = subprocess.Popen([sys.executable, "-m", "bakeoff", *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"bakeoff {words[0]} failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def planned(size: int, place: Path) -> tuple[float, float]:
    """CPU seconds and peak MiB of the plan of as many copies of the template, on the cpu backend."""
    solutions = Path(__file__).parents[1] / "solutions"
    shutil.copytree(solutions / "common", place / "solutions/common")
    for number in range(size):
        folder = place / f"solutions/candidate_{number:03}"
        shutil.copytree(solutions / "_template", folder)
        spec = (folder / "solution.yaml").read_text()
        spec = spec.replace("name: NAME", f"name: {folder.name}").replace("role: ROLE", "role: peer")
        (folder / "solution.yaml").write_text(spec)
    spent("probe", "-o", str(place / "host.json"))
    settings = json.dumps({"backend": "cpu", "blocks": 10, "solutions_root": str(place / "solutions")})
    words = ("--settings", settings, "--host", str(place / "host.json"), "-o", str(place / "config.json"))
    return spent("plan", *words)


def main(sizes: list[int]) -> None:
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    from support.make import FOUR, Made, write

    heads = (
        "candidates",
        "plan s",
        "MiB",
        "analyse s",
        "MiB",
        "analysis.json MiB",
        "report s",
        "MiB",
        "report.html MiB",
    )
    print("  ".join(heads), flush=True)
    for size in sizes:
        draw = random.Random(size)
        peers = {f"candidate_{number:03}": (draw.uniform(2, 12), draw.uniform(2, 11)) for number in range(size)}
        with tempfile.TemporaryDirectory() as place:
            made = Made(name="bench", speed={**FOUR, **peers}, peers=list(peers), gate_power=False)
            plan = planned(size, Path(place))
            folder = write(made, Path(place) / "bench")
            analysed = spent("analyse", str(folder))
            shown = spent("report", str(folder))
            files = [folder / "analysis.json", folder / "report/report.html"]
            sizes_mib = [file.stat().st_size / 2**20 for file in files]
        row = (size, *plan, *analysed, sizes_mib[0], *shown, sizes_mib[1])
        print("  ".join(f"{value:>{len(head)}.4g}" for value, head in zip(row, heads, strict=True)), flush=True)


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or list(SIZES))
