"""How a cell can end: a closed list, each member with a sentence, and the reasons that narrow it down.

Entry points: `Outcome`, `Reason`, `SENTENCES`, `HINTS`, `fib_status`. Nothing is read or written.
"""

from enum import StrEnum

from bakeoff.traces.models import Status


class Outcome(StrEnum):
    """What became of one cell."""

    PASSED = "PASSED"
    INCORRECT_SHAPE = "INCORRECT_SHAPE"
    INCORRECT_DTYPE = "INCORRECT_DTYPE"
    INCORRECT_NUMERICAL = "INCORRECT_NUMERICAL"
    CRASHED = "CRASHED"
    RUNTIME_ERROR = "RUNTIME_ERROR"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    TIMEOUT = "TIMEOUT"
    COMPILE_ERROR = "COMPILE_ERROR"
    UNSUPPORTED = "UNSUPPORTED"
    REJECTED = "REJECTED"
    DISTURBED = "DISTURBED"
    NOT_RUN = "NOT_RUN"


SENTENCES = {
    Outcome.PASSED: "The output passed the published and the strict gate.",
    Outcome.INCORRECT_SHAPE: "The solution changed the shape of the output that it was given.",
    Outcome.INCORRECT_DTYPE: "The solution changed the element type of the output that it was given.",
    Outcome.INCORRECT_NUMERICAL: "The output failed a correctness gate.",
    Outcome.CRASHED: "The solution's process died.",
    Outcome.RUNTIME_ERROR: "The solution raised an exception.",
    Outcome.OUT_OF_MEMORY: "The solution asked for more memory than there is.",
    Outcome.TIMEOUT: "The solution did not finish within the time limit and was killed.",
    Outcome.COMPILE_ERROR: "The solution could not be imported or compiled.",
    Outcome.UNSUPPORTED: "The solution has no backend for this device, cannot be run in this way, or lacks a package.",
    Outcome.REJECTED: "The solution broke a rule of the measurement; the reason names the rule.",
    Outcome.DISTURBED: "The host disturbed the measurement more often than the retries allow.",
    Outcome.NOT_RUN: "The cell was not run; the reason says why.",
}

# A later run measures these again; every other outcome is final for its key.
UNFINISHED = frozenset({Outcome.DISTURBED, Outcome.NOT_RUN})


_FIB = {
    Outcome.PASSED: Status.PASSED,
    Outcome.INCORRECT_SHAPE: Status.INCORRECT_SHAPE,
    Outcome.INCORRECT_DTYPE: Status.INCORRECT_DTYPE,
    Outcome.INCORRECT_NUMERICAL: Status.INCORRECT_NUMERICAL,
    Outcome.TIMEOUT: Status.TIMEOUT,
    Outcome.COMPILE_ERROR: Status.COMPILE_ERROR,
}


def fib_status(outcome: Outcome) -> Status:
    """The status of FlashInfer-Bench 0.1.2 that comes nearest; what it has no word for is its RUNTIME_ERROR."""
    return _FIB.get(outcome, Status.RUNTIME_ERROR)


class Reason(StrEnum):
    """Why an outcome is not PASSED, as a code that tests and reports can match."""

    # COMPILE_ERROR
    NOT_PACKED = "not_packed"
    # INCORRECT_NUMERICAL
    PUBLISHED_GATE = "published_gate"
    STRICT_GATE = "strict_gate"
    UNWRITTEN_OUTPUT = "unwritten_output"
    # REJECTED: what the solution did
    CACHED_OUTPUT = "cached_output"
    STALE_INPUT = "stale_input"
    UNSTABLE_OUTPUT = "unstable_output"
    LATE_OUTPUT = "late_output"
    MODIFIED_INPUT = "modified_input"
    REPLACED_OUTPUT = "replaced_output"
    WROTE_OUTSIDE_OUTPUT = "wrote_outside_output"
    REPLACED_FUNCTION = "replaced_function"
    LEFT_HOOK = "left_hook"
    LEFT_PROCESS = "left_process"
    LEFT_THREAD = "left_thread"
    KEPT_ON_GPU = "kept_on_gpu"
    FORGED_MESSAGE = "forged_message"
    FORGED_TIME = "forged_time"
    SKIPPED_CALLS = "skipped_calls"
    EDITED_RUN = "edited_run"
    FORBIDDEN_IMPORT = "forbidden_import"
    READ_HARNESS = "read_harness"
    FILLED_DISK = "filled_disk"
    # CRASHED, OUT_OF_MEMORY, TIMEOUT
    SIGNAL = "signal"
    EXITED = "exited"
    OOM_KILLER = "oom_killer"
    ALLOCATION = "allocation"
    HANG = "hang"
    POISONED_CONTEXT = "poisoned_context"
    # UNSUPPORTED
    NO_BACKEND = "no_backend"
    MISSING_PACKAGE = "missing_package"
    NOT_CAPTURABLE = "not_capturable"
    # DISTURBED: what the host did
    FOREIGN_PROCESS = "foreign_process"
    THROTTLED = "throttled"
    ECC_ERROR = "ecc_error"
    XID_ERROR = "xid_error"
    CLOCK_LOCK_REFUSED = "clock_lock_refused"


HINTS = {
    Reason.NOT_PACKED: "correct what the detail names, see it with `bakeoff build NAME`, then the same command again",
    Reason.PUBLISHED_GATE: "run `bakeoff check SOLUTION` and compare with the reference; docs/numerics.md explains "
    "the gates",
    Reason.STRICT_GATE: "the published gate would let this pass: check the rounding that solution.yaml declares; see "
    "docs/numerics.md",
    Reason.UNWRITTEN_OUTPUT: "write every element of `output`, also the rows of tokens without a local expert (zeros)",
    Reason.CACHED_OUTPUT: "compute the output on every call: nothing derived from input values or addresses may "
    "outlive a call",
    Reason.STALE_INPUT: "read the weights on every call: nothing derived from input values or addresses may outlive a "
    "call",
    Reason.UNSTABLE_OUTPUT: "calls on equal inputs must agree; look for a race or for a dependence on the number of "
    "calls",
    Reason.LATE_OUTPUT: "enqueue all work on the current stream, and finish host work before the call returns",
    Reason.MODIFIED_INPUT: "copy an input before changing it",
    Reason.REPLACED_OUTPUT: "write into the given `output`; do not resize it or give it other storage",
    Reason.WROTE_OUTSIDE_OUTPUT: "check the bounds of stores: bytes around `output` were changed",
    Reason.REPLACED_FUNCTION: "do not assign to functions of torch, time or the interpreter",
    Reason.LEFT_HOOK: "undo before the call returns what runs code outside it: profile and trace functions, timers, "
    "torch modes, operators",
    Reason.LEFT_PROCESS: "end every process that the solution starts before the call returns",
    Reason.LEFT_THREAD: "end every thread that a call starts before the call returns",
    Reason.KEPT_ON_GPU: "undo before the call returns what lasts on the GPU: persisting cache lines, access windows, "
    "another current stream; let the current stream wait for work on others",
    Reason.FORGED_MESSAGE: "only the harness writes to the result channel",
    Reason.FORGED_TIME: "the reported times contradict the clock of the supervising process",
    Reason.SKIPPED_CALLS: "every call must do all its work: twice as many calls must take about twice as long",
    Reason.EDITED_RUN: "a solution may write to its scratch folder only",
    Reason.FORBIDDEN_IMPORT: "a solution must not import `bakeoff`; it runs packed, with its own files only",
    Reason.READ_HARNESS: "a solution sees its arguments and its own state only, not the harness or another process",
    Reason.FILLED_DISK: "write less to TMPDIR and HOME: a quarter of the disk's free space stays free for the others",
    Reason.SIGNAL: "run `bakeoff check SOLUTION --workload ID` and look at the traceback in the detail",
    Reason.EXITED: "a solution must return or raise; it must not end the process",
    Reason.OOM_KILLER: "free memory on the host, or lower the solution's need",
    Reason.ALLOCATION: "free memory on the device, or lower the solution's scratch buffers",
    Reason.HANG: "look at the stack in the detail, or raise the limit: `timeout_s` in the configuration, `--timeout` "
    "of `bakeoff check`",
    Reason.POISONED_CONTEXT: "run the cell under `compute-sanitizer` to find the illegal access",
    Reason.NO_BACKEND: "add a backend for this device to solution.yaml, or leave the solution out of `solutions`",
    Reason.MISSING_PACKAGE: "install the package that the detail names",
    Reason.NOT_CAPTURABLE: "enqueue all work on the current stream, without waiting for the GPU or reading back from "
    "it; other protocols time the solution as it is",
    Reason.FOREIGN_PROCESS: "stop the other processes on the GPU, then run the same command again",
    Reason.THROTTLED: "improve cooling or raise the power limit, then run the same command again",
    Reason.ECC_ERROR: "reset or replace the GPU (`nvidia-smi -q -d ECC`), then run again",
    Reason.XID_ERROR: "read the kernel log (`dmesg | grep Xid`), then run again",
    Reason.CLOCK_LOCK_REFUSED: "run as a user who may set clocks, or remove `lock_clocks_mhz` from the configuration",
}
