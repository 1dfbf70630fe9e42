"""`bakeoff first-contact`: up the ladder on a chip that nothing has run on, until a step deviates, hangs or dies.

Entry point: the verb. The steps run in a child process (`child`), which is ended where a step takes too long; after the
last one the table of best forms by T is measured and written. Solutions are not confined: they are this checkout's own.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from bakeoff import host
from bakeoff.config import DEFINITIONS, backend_of
from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT, pretty_json
from bakeoff.options import folder, limit
from bakeoff.processes.groups import group

LAYERS = ("T1_o32", "T7_o192", "T80_o96", "T901_o96", "T14107_o32")
LONGEST_S = 180.0  # a step: the first of a kernel compiles it
START_S = 300.0  # until the child has imported everything
FORMS = "benchmarks/tune_forms.py"


def first_contact_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Climbs on this host's GPU from one tile and one K block to more K, more experts, clusters and the whole layer "
        "of every solution, each step against float64. Stops at the first step that deviates, hangs or dies, and says "
        "which; else measures the forms of the GEMMs by number of tokens and writes their table. Solutions run "
        "unconfined."
    )
    option = parser.add_argument
    option("--backend", choices=("cpu", "sm_90a", "sm_100a"), help="default: that of the first GPU")
    option("--solutions", nargs="+", default=[], metavar="NAME", help="layers of these only")
    option("--workloads", nargs="+", default=list(LAYERS), metavar="ID", help=f"default: {' '.join(LAYERS)}")
    limit(parser, "longest step (%(default)g s)", LONGEST_S, "--limit")
    option("--no-forms", action="store_true", help="leave the table of forms as it is")
    for name in ("solutions", "traces"):
        folder(parser, f"--{name}-root", PROJECT_ROOT / name, f"default: {name}/")


def first_contact(args: argparse.Namespace) -> int:
    """Climb; 0 if every step holds, 1 at the first that does not."""
    backend = args.backend or _backend()
    request = {
        "backend": backend,
        "definition": DEFINITIONS["narrow" if backend == "cpu" else "full"],
        "solutions_root": str(args.solutions_root.resolve()),
        "traces_root": str(args.traces_root.resolve()),
        "workloads": args.workloads,
        "solutions": args.solutions,
    }
    with tempfile.TemporaryDirectory(prefix="bakeoff-first-contact-") as scratch:
        if not climb({**request, "scratch": scratch}, args.limit):
            return 1
    if backend == "cpu" or args.no_forms:
        return 0
    print(f"first-contact  forms by number of tokens: {FORMS} --write", flush=True)
    return subprocess.run([sys.executable, str(PROJECT_ROOT / FORMS), "--write"], check=False).returncode


def _backend() -> str:
    found = next((one for gpu in host.gpus() if (one := backend_of(gpu))), None)
    if found is None:
        raise InputError(
            "first-contact",
            found="no visible GPU that has a backend",
            expected="a Hopper or Blackwell GPU that `nvidia-smi` lists",
            hint="run on such a host; `--backend cpu` climbs with the cpu backends",
        )
    return found


def climb(request: dict[str, Any], limit_s: float, tell: Callable[[str], None] = print) -> bool:
    """Run the steps; True if each holds. Each is told in a line as soon as it ends."""
    path, log = Path(request["scratch"]) / "request.json", Path(request["scratch"]) / "log"
    package = os.pathsep.join([str(PROJECT_ROOT / "workflow"), *filter(None, [os.environ.get("PYTHONPATH")])])
    path.write_bytes(pretty_json(request))
    with log.open("wb") as errors:
        command, variables = [sys.executable, "-m", "bakeoff.contact.child", str(path)], {"PYTHONPATH": package}
        streams = {"stdout": subprocess.PIPE, "stderr": errors}
        with group(command, env=os.environ | variables, **streams) as child:
            return _watch(child, limit_s, log, tell)


def _watch(child: subprocess.Popen[bytes], limit_s: float, log: Path, tell: Callable[[str], None]) -> bool:
    assert child.stdout is not None
    number, name, begun = 0, "before the first step", time.monotonic()
    for said in _lines(child.stdout, limit_s):
        head = f"first-contact  {number:2}  {name:<62}"
        took = f"{time.monotonic() - begun:6.1f} s"
        if said is None:
            tell(f"{head} HANGS: no end after {limit_s:g} s; it was killed")
            return _deviates(number, name, "a hang", tell)
        if "begins" in said:
            number, name, begun = number + 1, str(said["begins"]), time.monotonic()
        elif "raised" in said:
            tell(f"{head} RAISED {said['raised']}")
            return _deviates(number, name, "an error", tell)
        elif not said["error"] <= said["bound"]:
            tell(f"{head} {said['error']:.2g}, at most {said['bound']:g}  {took}  DEVIATES")
            return _deviates(number, name, "another result than float64", tell)
        else:
            tell(f"{head} {said['error']:.2g}, at most {said['bound']:g}  {took}")
    status = child.wait()
    if status:
        tail = log.read_text(errors="replace").strip().splitlines()[-1:]
        tell(f"first-contact  {number:2}  {name:<62} DIED (exit status {status}){': ' if tail else ''}{''.join(tail)}")
        return _deviates(number, name, "a crash", tell)
    tell(f"first-contact  all {number} steps hold")
    return True


def _deviates(number: int, name: str, how: str, tell: Callable[[str], None]) -> bool:
    tell(
        f"first-contact: step {number}\n  found:    {how} in {name!r}; every step before it holds\n"
        "  expected: float64's result within the bound\n"
        "  to do:    look at what this step adds to the one before it; docs/b200.md says what was never executed"
    )
    return False


def _lines(stream: IO[bytes], limit_s: float) -> Iterator[dict[str, Any] | None]:
    """The child's messages; None, and nothing after it, where none comes for `limit_s`."""
    messages: queue.Queue[bytes] = queue.Queue()

    def read() -> None:
        for line in stream:
            messages.put(line)
        messages.put(b"")

    threading.Thread(target=read, daemon=True).start()
    wait_s = max(limit_s, START_S)
    while True:
        try:
            line = messages.get(timeout=wait_s)
        except queue.Empty:
            yield None
            return
        if not line:
            return
        wait_s = limit_s
        yield dict(json.loads(line))
