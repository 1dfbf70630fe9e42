"""Whether a definition's own reference gives what is measured here: run, confined, on one small workload.

Entry points: `check_reference`, and `main` for the process that runs it (`python -m bakeoff.build.reference REQUEST`).
A reference that is this project's, to the letter, is not run: that is the usual case, and costs nothing. Side effect:
a file in the cache. The process may write no file, and is ended with all that it starts.
"""

import contextlib
import json
import os
import resource
import selectors
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from bakeoff import closure
from bakeoff.core.confine import adopt_orphans, confine, limit_memory
from bakeoff.core.environment import environment
from bakeoff.core.moe.geometry import Geometry
from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT, canonical_json, read_bytes, sha256_bytes
from bakeoff.processes.children import children_of, end_below
from bakeoff.processes.groups import group
from bakeoff.schema.base import visible
from bakeoff.traces.definitions import REFERENCE, WIDTHS
from bakeoff.traces.models import Definition

if TYPE_CHECKING:
    import torch

# Relative L2 distance. The same formula in float64 is 8e-8 away, seven experts in place of eight 0.19, an output that
# is 1 % too large 0.01.
BOUND = 1e-3
LIMIT_S = 600.0  # the narrow width takes 3 s of CPU time, importing torch included, the full one 75 s
LOOK_S = 0.05  # between two looks at whether it has ended
SHARED_EXPERTS = 4  # experts with weights of their own, which the others repeat: drawing takes longer than the layer
# First byte of what is said of a reference: its output follows, what it raised, or what else became of it.
OUTPUT, RAISED, FAILED = b"=", b"!", b"?"
CACHE = PROJECT_ROOT / ".cache" / "references"  # an empty file for each that was found right
MOST_WORDS = 4000


@dataclass(frozen=True)
class SmallWorkload:
    """64 tokens, about half of them with local experts, and a factor that no other input has."""

    seq_len: int = 64
    offset: int = 96
    seed: int = 0
    factor: float = 1.5
    routing: None = None


def check_reference(definition: Definition, where: Path) -> None:
    """InputError unless a definition's reference gives, on one small workload, what this project's gives.

    The workload has the narrow width; where the reference fails there, since it names its sizes, it has the
    definition's own, which takes 12 GB of memory at the full width. where: the definition's file.
    """
    if definition.reference == read_bytes(REFERENCE).decode():
        return
    own = Geometry.of(definition)
    known = CACHE / sha256_bytes(canonical_json([closure.digest(__name__), definition.reference, own.name]))
    if known.exists():
        return
    narrow = replace(own, hidden=WIDTHS[-1][0], intermediate=WIDTHS[-1][1])
    for geometry in dict.fromkeys((narrow, own)):
        said = _said(definition.reference, geometry)
        if said[:1] != RAISED:
            break
    found = _difference(said, geometry)
    if found:
        raise InputError(
            f"{where}: field reference",
            found=found,
            expected=f"this project's result, within {BOUND:g} (relative L2): outputs are judged by that one",
            hint="correct the reference, or take that of traces/definitions/, which `bakeoff generate` writes",
        )
    with contextlib.suppress(OSError):  # a checkout that can only be read is checked each time
        known.parent.mkdir(parents=True, exist_ok=True)
        known.touch()


def _said(reference: str, geometry: Geometry) -> bytes:
    """What the process says of a reference: see OUTPUT."""
    expected = 2 * SmallWorkload.seq_len * geometry.hidden
    request = canonical_json({"reference": reference, "geometry": asdict(geometry)})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "request.json").write_bytes(request)
        variables = environment(len(os.sched_getaffinity(0)), folder, folder, None) | {"CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, "-m", __name__, str(folder / "request.json")]
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        adopt_orphans()  # so that what leaves the process's group is found
        before = children_of(os.getpid())
        try:
            with group(command, cwd=folder, env=variables, **streams) as child:
                said = _read(child, max(expected, MOST_WORDS) + 1)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=1)
        finally:
            end_below(os.getpid(), before)
    if said[:1] == OUTPUT and len(said) != expected + 1:
        return FAILED + f"more or less than the {expected} bytes of its output".encode()
    return said or FAILED + f"a process that ended with exit code {child.returncode} and without a result".encode()


def _read(child: subprocess.Popen[bytes], most: int) -> bytes:
    """What a process writes to its standard output until it ends: at most one byte more than `most`."""
    said, deadline = b"", time.monotonic() + LIMIT_S
    assert child.stdout is not None
    with child.stdout, selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while len(said) <= most:
            ended = child.poll() is not None  # looked at first: what it wrote before is there
            if selector.select(0 if ended else LOOK_S):
                data = os.read(child.stdout.fileno(), most + 1 - len(said))
                if not data:
                    break
                said += data
            elif ended:  # something that it has started holds the other end
                break
            if time.monotonic() >= deadline:
                return FAILED + f"no result within {LIMIT_S:g} s".encode()
    return said


def _difference(said: bytes, geometry: Geometry) -> str | None:
    """What is wrong with a result; None if it is this project's."""
    if said[:1] != OUTPUT:
        return visible(said[1:].decode(errors="replace"), MOST_WORDS)
    import torch

    from bakeoff.core.moe.reference import run

    expected = run(*_inputs(geometry)).float()
    output = torch.frombuffer(bytearray(said[1:]), dtype=torch.bfloat16).view(expected.shape).float()
    distance = float((output - expected).norm() / expected.norm())
    if distance <= BOUND:
        return None
    return f"a result that is {distance:.3g} (relative L2) away on {SmallWorkload.seq_len} tokens"


def _inputs(geometry: Geometry) -> "list[torch.Tensor | int | float]":
    """The ten inputs of the small workload, in the definition's order."""
    from bakeoff.core.moe.values import draw_routing, in_order, make_activations, make_weights

    case, experts = SmallWorkload(), range(SHARED_EXPERTS)
    drawn = make_weights(geometry, "fib", case.seed, experts=experts)
    times = geometry.local_experts // SHARED_EXPERTS
    weights = {name: value.repeat(times, *[1] * (value.dim() - 1)) for name, value in drawn.items()}
    states = make_activations(geometry, case, "fib", case.seed)
    routing = draw_routing(geometry, case, case.seed)
    return [*in_order(routing, states, weights, case.offset, case.factor).values()]


def main(request_path: Path) -> NoReturn:
    """Run a reference and say what came out; the standard output is the way out, and nothing else leads there by
    chance."""
    request = json.loads(request_path.read_bytes())
    geometry = Geometry(**request["geometry"])
    inputs = _inputs(geometry)
    way_out = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    limit_memory()
    confine([])
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    try:
        said = OUTPUT + _output(request["reference"], inputs, (SmallWorkload.seq_len, geometry.hidden))
    except BaseException as error:  # noqa: BLE001 - whatever foreign code raises is its result
        said = RAISED + f"{type(error).__name__}: {error}"[:MOST_WORDS].encode(errors="backslashreplace")[:MOST_WORDS]
    with os.fdopen(way_out, "wb") as stream:
        stream.write(said)
    os._exit(0)  # threads that the reference has started are no part of its result


def _output(reference: str, inputs: list[Any], shape: tuple[int, int]) -> bytes:
    import torch

    names: dict[str, Any] = {"__name__": "reference"}
    exec(compile(reference, "reference", "exec"), names)
    output = names["run"](*inputs)
    if isinstance(output, (tuple, list, dict)) and len(output) == 1:  # a definition's outputs, of which this has one
        (output,) = output.values() if isinstance(output, dict) else output
    found = (tuple(output.shape), output.dtype) if isinstance(output, torch.Tensor) else type(output).__name__
    if found != (shape, torch.bfloat16):
        raise TypeError(f"it gives {found}, not a tensor {shape} of bfloat16")
    return bytes(output.detach().cpu().contiguous().view(torch.int16).numpy().tobytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
