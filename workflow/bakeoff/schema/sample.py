"""What `measure` writes: journal lines, the manifest of a block, and the lines of verification.jsonl.

Entry points: `Record` (one journal line), `Manifest`, `Verification`, `CellResult` (the object `bakeoff` of a trace);
`seal` and `parse_line` make and check a line's digest. No document that says PASSED can be made without the figures of
both gates.
"""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import from_json

from bakeoff.errors import InputError
from bakeoff.files import canonical_json, sha256_bytes, validate
from bakeoff.schema.base import Part, Said
from bakeoff.schema.gates import Gate, Numerics
from bakeoff.schema.outcomes import Outcome, Reason

TIERS = ("wall_us", "event_us", "cupti_busy_us", "cupti_span_us")
SPENT = ("inputs", "checks", "calls", "outputs")


Time = Annotated[float, Field(gt=0)]
# Journals of recorded runs hold an empty mapping where nothing was judged.
Measured = Annotated[Numerics | None, BeforeValidator(lambda found: None if found == {} else found)]


class Judged(Part):
    """What became of one cell, and what the gates found. PASSED rests on the figures of both gates."""

    outcome: Outcome
    reason: Reason | None = None
    """Null where the outcome says all."""
    gates: dict[str, Gate] = Field(default_factory=dict)
    """`published` and `strict`; empty if there was no output to judge."""
    numerics: Measured = None
    """Null if there was no output to judge."""

    def passed_stands(self) -> Self:
        """The document itself; ValueError if it says PASSED without the figures of both gates, or against them."""
        if self.outcome == Outcome.PASSED:
            for name in ("published", "strict"):
                gate = self.gates.get(name)
                if gate is None or all(check.value is None for check in gate.checks.values()):
                    raise ValueError(f"PASSED without figures of the {name} gate")
                failed = [check for check, found in gate.checks.items() if not found.passed]
                if failed or not gate.passed:
                    raise ValueError(f"PASSED beside a failed {name} gate ({', '.join(failed) or 'no check named'})")
        return self

    _stands = model_validator(mode="after")(passed_stands)


class Record(Judged):
    """One line of a journal: what became of one cell in one block."""

    v: Literal[1] = 1
    key: str
    """Key of the cell in config.json: sha256 over everything that the result depends on."""
    kind: Literal["measure", "verify"]
    participant: str
    workload: str
    protocol: str | None
    """Null for a verify cell."""
    family: str
    seed: int
    block: int
    detail: Said | None = None
    """What was seen, for a person: a traceback, a stack, the values that disagree."""
    hint: str | None = None
    """What to do next."""
    tiers: dict[Literal["wall_us", "event_us", "cupti_busy_us", "cupti_span_us"], list[float]] = Field(
        default_factory=dict
    )
    """Raw times per call, microseconds, in call order; empty for a verify cell."""
    missing_tiers: dict[Said, Said] = Field(default_factory=dict)
    """Tiers that this host cannot give, and why."""
    gpu_state: dict[str, Any] | None = None
    """Clocks, temperature, power and event reasons, after the first batch of timed calls where that can be seen; null
    on the cpu backend."""
    discarded: int = 0
    """Calls that were timed and thrown away because the GPU was throttled or disturbed."""
    warnings: list[Said] = Field(default_factory=list)
    started: str
    """When, ISO 8601, UTC."""
    seconds: float
    """Time that the cell took in the supervisor, judging included."""
    spent_s: dict[Literal["inputs", "checks", "calls", "outputs"], float] = Field(default_factory=dict)
    """Where the worker's own share of that went, as the worker says: making inputs, guarded calls, timed calls, handing
    over outputs."""


# Seconds of a block: in all; holding the device's lock; a worker was running a cell; the referee was at work (answers
# and verdicts). Of the time under the lock: the share in which the GPU ran a kernel, by NVML's utilization; the seconds
# in which something was being verified; the share with neither. Null where nobody tells.
Spent = dict[str, float | None]


class Manifest(Part):
    """manifest.json of a block: written last, so that it exists exactly if the block is complete."""

    schema_: Literal["bakeoff/block/1"] = Field("bakeoff/block/1", alias="schema")
    block: int
    order: list[str]
    """Participants in the order in which they ran."""
    journals: dict[str, str]
    """Participant: sha256 of the keys and outcomes of its cells."""
    samples: dict[str, str] = Field(default_factory=dict)
    """Participant: sha256 of its journal's bytes, uncompressed."""
    lines: dict[str, list[str]] = Field(default_factory=dict)
    """Participant: the digest in each line of its journal, in order; empty in older runs."""
    added_later: bool = False
    """Whether `samples` was added to a run that had been recorded without it."""
    outcomes: dict[str, int]
    """How many cells ended how."""
    gpu: str | None = None
    """UUID of the GPU that the block had to itself; null on the cpu backend."""
    walls: list[str] | None = None
    """Walls that stood around its workers: Landlock, seccomp, user namespace; null in older runs."""
    spent: Spent


class Verification(Judged):
    """One line of verification.jsonl: correctness of a solution on one set of inputs."""

    solution: str
    workload: str
    family: str
    seed: int


class BlockTimes(Part):
    """One block of a cell: what the process gives, and the reference's in the same block and tier."""

    model_config = ConfigDict(strict=True)

    block: int
    latency_us: Time | None
    """Null where the cell was not timed."""
    reference_us: Time | None = None
    """Null where the reference was not timed."""


class CellResult(Judged):
    """The object "bakeoff" of a trace: what became of a cell, and what that rests on; what the flashinfer-trace format
    has no place for. Its outcome is PASSED if the cell passed in every block, else that of the first in which it did
    not."""

    detail: str | None = None
    hint: str | None = None
    tier: str | None = None
    """Which time the cell is timed by; null where it was not timed."""
    backend: str | None = None
    per_block: list[BlockTimes] = Field(default_factory=list)
    missing_tiers: dict[str, str] = Field(default_factory=dict)
    """Tiers that the host could not give, and why."""
    discarded: int = 0
    """Calls thrown away as disturbed, over all blocks."""
    warnings: list[str] = Field(default_factory=list)


def seal(record: Record) -> bytes:
    """A journal line with its digest, newline included. ValueError for a PASSED that does not stand: a record that was
    changed after it was made (`model_copy`) has not been validated."""
    body = record.passed_stands().model_dump(mode="json")
    return canonical_json({**body, "digest": sha256_bytes(canonical_json(body))}) + b"\n"


def parse_line(line: bytes, where: str) -> Record:
    """Check a line's digest and content; anything wrong is an InputError that starts with `where` (file:line). A line
    is as `seal` spells it, to the byte: so no number is beyond what JSON can hold, and no key stands twice."""
    try:
        body = from_json(line)
        digest = body.pop("digest")
        spelled = canonical_json(body)
        rest = line.removesuffix(b"\n").replace(b'"digest":"%b",' % digest.encode(), b"", 1)
        right = spelled == rest and digest == sha256_bytes(spelled)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _broken(where, f"no complete record ({type(error).__name__}): {line[:60]!r}") from error
    if not right:
        raise _broken(where, "a record whose content does not fit its digest")
    return validate(body, Record, where)


def finite(value: Any) -> Any:
    """The value with numbers that JSON cannot hold (not a number, infinite) replaced by null, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def _broken(where: str, found: str) -> InputError:
    return InputError(
        where,
        found=found,
        expected="one journal record as `bakeoff measure` writes it",
        hint="delete that line (only its cell is measured again), then run `bakeoff measure` for the block again",
    )
