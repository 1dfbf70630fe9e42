"""How a child and its supervisor speak, JSON lines over two pipes that nothing else holds, and what an untrusted worker
may say: its answers are validated before anything else looks at them.

Entry points: `Channel`, a child's end (the other is `processes.children`), `tie_to_parent`, by which a child ends with
its supervisor, and `understand`.

A worker reports failures of its own only. PASSED and whatever else is decided outside it (by the referee, the clock,
the state of the host) is no word of this vocabulary.
"""

import ctypes
import json
import os
import select
import signal
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from bakeoff.schema.base import Part, Said
from bakeoff.schema.outcomes import Outcome, Reason

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class ChannelError(Exception):
    """The child sent something that is no message of the harness."""


class Channel:
    """The child's end: `send` to the supervisor, `receive` its next command."""

    def __init__(self, commands: int, results: int) -> None:
        self._commands, self._results = commands, results
        self._buffer = b""
        for descriptor in (commands, results):
            os.set_inheritable(descriptor, False)

    def send(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(self._results, data) :]

    def receive(self) -> dict[str, Any] | None:
        """The next command; None when the supervisor has closed the channel."""
        while b"\n" not in self._buffer:
            data = os.read(self._commands, 1 << 16)
            if not data:
                return None
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return dict(json.loads(line))

    def waiting(self) -> bool:
        """Whether a command has arrived, or the channel is closed."""
        return b"\n" in self._buffer or bool(select.select([self._commands], [], [], 0)[0])


def tie_to_parent(parent: int) -> None:
    """Die when the parent dies, also by SIGKILL; exits at once if it is already gone."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]  # of microseconds or seconds
Samples = Annotated[list[Amount], Field(max_length=1000)]
Texts = Annotated[list[Said], Field(max_length=20)]
Missing = Annotated[dict[Said, Said], Field(max_length=20)]
# What a worker can find out about its own solution.
Failure = Literal[
    Outcome.INCORRECT_SHAPE,
    Outcome.INCORRECT_DTYPE,
    Outcome.CRASHED,
    Outcome.RUNTIME_ERROR,
    Outcome.OUT_OF_MEMORY,
    Outcome.COMPILE_ERROR,
    Outcome.UNSUPPORTED,
    Outcome.REJECTED,
]
FailureReason = Literal[
    Reason.UNSTABLE_OUTPUT,
    Reason.LATE_OUTPUT,
    Reason.MODIFIED_INPUT,
    Reason.REPLACED_OUTPUT,
    Reason.WROTE_OUTSIDE_OUTPUT,
    Reason.REPLACED_FUNCTION,
    Reason.LEFT_HOOK,
    Reason.LEFT_THREAD,
    Reason.KEPT_ON_GPU,
    Reason.SKIPPED_CALLS,
    Reason.EDITED_RUN,
    Reason.FORBIDDEN_IMPORT,
    Reason.READ_HARNESS,
    Reason.EXITED,
    Reason.ALLOCATION,
    Reason.POISONED_CONTEXT,
    Reason.NO_BACKEND,
    Reason.MISSING_PACKAGE,
    Reason.NOT_CAPTURABLE,
]


class Confined(Part):
    """The walls are raised; said once, before foreign code comes."""

    say: Literal["confined"]
    missing: Texts  # a sentence for each wall that does not stand


class Ready(Part):
    """The solution is imported; the worker waits for its first cell."""

    say: Literal["ready"]
    missing_tiers: Missing


class Failed(Part):
    """The solution could not be imported; the worker ends."""

    say: Literal["failed"]
    outcome: Failure
    reason: FailureReason | None
    detail: Said


class Batch(Part):
    """A batch of timed calls is over; the supervisor may ask for one of their outputs."""

    say: Literal["batch"]
    id: int
    token: str
    calls: Annotated[int, Field(ge=1, le=1000)]


@dataclass(frozen=True)
class Output:
    """Where an output lies, and whose it is: of the first call 0, else of the n-th timed call, or of a probe's n-th."""

    slot: int
    variant: int
    poison: int


class Done(Part):
    """The end of a cell. With an outcome the worker itself found a failure; without one the outputs are to be
    judged."""

    say: Literal["done"]
    id: int
    token: str
    outcome: Failure | None
    reason: FailureReason | None = None
    detail: Said | None = None
    outputs: Annotated[list[Output], Field(max_length=10)] = Field(default_factory=list)
    tiers: dict[Literal["wall_us", "event_us", "cupti_busy_us", "cupti_span_us"], Samples] = Field(default_factory=dict)
    missing_tiers: Missing = Field(default_factory=dict)
    spent_s: dict[Literal["inputs", "checks", "calls", "outputs"], Amount] = Field(default_factory=dict)
    warnings: Texts = Field(default_factory=list)


Message = Confined | Ready | Failed | Batch | Done
_KINDS: dict[str, type[Message]] = {
    "confined": Confined,
    "ready": Ready,
    "failed": Failed,
    "batch": Batch,
    "done": Done,
}


def understand(message: dict[str, Any]) -> Message:
    """The message as a model; ChannelError if it is none."""
    kind = _KINDS.get(str(message.get("say")))
    if kind is None:
        raise ChannelError(f"unexpected message: {str(message)[:200]}")
    try:
        return kind.model_validate(message)
    except ValidationError as error:
        flaw = error.errors()[0]
        raise ChannelError(
            f"malformed message {kind.__name__}: {flaw['loc']}: {str(flaw['input'])[:100]!r}: {flaw['msg']}"
        ) from error
