"""CPU time of a whole run of many template solutions on the cpu backend, step by step, through Snakemake.

Run it after `make setup-dev`: `.venv/bin/python benchmarks/bench_screening.py [NUMBER …]` (default: 50). Each run is
made in a copy of the checkout: copies of the template, one workload, one value family, one block, to the report. A
step's CPU seconds are its own and those of all processes below it, imports included; what is left is Snakemake's, with
the shells that it starts. CPU seconds, since other work on the machine does not count there. docs/candidates.md has the
figures.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUN = "results/runs/screening"
# Takes the place of Python in a step's command line, and writes down what the step took.
CLOCK = f"""\
#!{sys.executable}
import os, subprocess, sys
process = subprocess.Popen([{sys.executable!r}, *sys.argv[1:]])
_, status, used = os.wait4(process.pid, 0)
with open(os.environ["BENCH_STEPS"], "a") as file:
    file.write(f"{{sys.argv[3]}} {{used.ru_utime + used.ru_stime:.2f}} {{used.ru_maxrss / 1024:.0f}}\\n")
sys.exit(os.waitstatus_to_exitcode(status))
"""


def copied(number: int, place: Path) -> None:
    """The checkout, and a folder `found` with as many copies of the template, each with a line of its own."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("results/recorded/"):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
    shutil.copytree(place / "solutions/common", place / "found/common")
    for one in range(number):
        folder = place / f"found/candidate_{one:03}"
        shutil.copytree(place / "solutions/_template", folder)
        spec = (folder / "solution.yaml").read_text()
        spec = spec.replace("name: NAME", f"name: {folder.name}").replace("role: ROLE", "role: peer")
        (folder / "solution.yaml").write_text(spec)
        with (folder / "solution.py").open("a") as file:
            file.write(f"# candidate {one}\n")


def spent(number: int, place: Path) -> tuple[float, list[list[str]]]:
    """CPU seconds of the run, and a line of words for each step: its verb, CPU seconds, peak MiB."""
    copied(number, place)
    steps, clock = place / "steps", place / "clock"
    clock.write_text(CLOCK)
    clock.chmod(0o755)
    settings = ["run=screening", "solutions_root=[found]", "workloads=[T1_o32]", "families=[fib]", "blocks=1"]
    words = ["--cores", "2", "--config", *settings, "compile=[]", "backend=cpu", "protocols=[robust]"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "snakemake", f"{RUN}/report/report.html", *words],
        cwd=place,
        env={
            **os.environ,
            "PYTHONPATH": str(place / "workflow"),
            "BAKEOFF_PYTHON": str(clock),
            "BENCH_STEPS": str(steps),
        },
        stdout=subprocess.DEVNULL,
        check=True,
    )
    cells = json.loads((place / RUN / "analysis.json").read_bytes())["cells"]
    if [cell["outcome"] for cell in cells] != ["PASSED"] * number:
        raise SystemExit("not every cell passed: what was measured is no run of the template")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return total, [line.split() for line in steps.read_text().splitlines()]


def main(numbers: list[int]) -> None:
    for number in numbers:
        with tempfile.TemporaryDirectory() as place:
            total, steps = spent(number, Path(place))
        own = total - sum(float(seconds) for _, seconds, _ in steps)
        print(f"{number} solutions: {total:.1f} CPU s, of which Snakemake {own:.1f} s, {own / total:.1%}", flush=True)
        for verb, seconds, peak in steps:
            print(f"  {verb:<12} {float(seconds):>6.1f} s  {peak:>5} MiB", flush=True)


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [50])
