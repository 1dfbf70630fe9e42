"""Each guard taken out once, in a copy of the checkout: at least one of its tests must fail.

    make guards                                                                  all, an hour on two cores
    PYTHONPATH=workflow:tests .venv/bin/python tests/support/guards.py NAME...   some

Prints a table: guard, tests, how many failed. Ends with 1 if a guard is missed by its tests.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from support.patched import Edit, environment, patched

CORE, RUNS, SUPERVISOR = (f"workflow/bakeoff/{name}" for name in ("core", "runs", "supervisor"))
HOSTILE = "tests/supervisor/test_measure_hostile.py"


def attack(*names: str) -> list[str]:
    """The tests of some hostile solutions, in a run of these alone."""
    return [f"--attacks={','.join(names)}", HOSTILE, "-k", "is_rejected_with_its_reason"]


# Guard: the edit that takes it out, and the tests (arguments of pytest) that must miss it.
GUARDS: dict[str, tuple[Edit, list[str]]] = {
    "a digest of each journal": (
        (f"{RUNS}/coverage.py", "if data is not None and sha256_bytes(data) !=", "if False and sha256_bytes(data) !="),
        ["tests/runs/test_measure_coverage.py", "-k", "changed_are_named"],
    ),
    "digests of lines": (
        (f"{RUNS}/coverage.py", "if sealed and numbers)", "if False)"),
        ["tests/runs/test_measure_coverage.py", "-k", "did_not_seal"],
    ),
    "digests of an analysis's inputs": (
        ("workflow/bakeoff/complete.py", "        *stale(run),\n", ""),
        ["tests/runs/test_measure_coverage.py", "-k", "every_input"],
    ),
    "strict keys of JSON": (
        ("workflow/bakeoff/files.py", "if len(found) < len(pairs):", "if False:"),
        ["tests/traces/test_traces_store.py"],
    ),
    "plain numbers only": (
        ("workflow/bakeoff/files.py", "if not PLAIN_NUMBER.fullmatch(text) or", "if"),
        ["tests/traces/test_traces_store.py", "-k", "number_in_a_table"],
    ),
    "records without times": (
        (f"{CORE}/device/cuda.py", "if any(start <= 0 or end < start for", "if any(False for"),
        ["tests/core/test_measure_device.py", "-k", "without_its_times"],
    ),
    "work between the calls": (
        (f"{CORE}/device/cuda.py", "sum(stream != own and", "sum(False and"),
        ["tests/core/test_measure_device.py", "-k", "work_on_another_stream"],
    ),
    "dropped records": (
        (f"{CORE}/device/activity.py", "if dropped.value:", "if False:"),
        ["tests/core/test_measure_activity.py", "-k", "dropped"],
    ),
    "dropped records of a profile": (
        ("workflow/bakeoff/profile/cupti.py", "if dropped := self._dropped():", "if dropped := 0:"),
        ["tests/profile/test_profile_timelines.py", "-k", "dropped"],
    ),
    "untimed records of a profile": (
        ("workflow/bakeoff/profile/timeline.py", "        if lost:\n", "        if False:\n"),
        ["tests/profile/test_profile_timelines.py", "-k", "dropped"],
    ),
    "a message's length": (
        ("workflow/bakeoff/processes/children.py", "if max(map(len, (*lines, self._buffer))) > MAX_LINE:", "if False:"),
        ["tests/supervisor/test_measure_flood.py"],
    ),
    "a bounded amount read at a time": (
        ("workflow/bakeoff/processes/children.py", "READS = 64", "READS = 1 << 40"),
        ["tests/supervisor/test_measure_flood.py", "-k", "reading_ends"],
    ),
    "unread answers": (
        ("workflow/bakeoff/processes/children.py", "if len(self._unsent) > MAX_UNREAD:", "if False:"),
        ["tests/supervisor/test_measure_flood.py", "-k", "reads_nothing"],
    ),
    "a worker's words": (
        (f"{CORE}/messages.py", "    Outcome.REJECTED,\n]", "    Outcome.REJECTED,\n    Outcome.NOT_RUN,\n]"),
        ["tests/runs/test_measure_check.py", "-k", "none_of_the_harness"],
    ),
    "walls raised once": (
        (f"{SUPERVISOR}/workers.py", "        if self.confined:\n", "        if False:\n"),
        attack("raises_its_walls_again"),
    ),
    "a user namespace": (
        (f"{CORE}/namespaces.py", "or _enter()\n\n\ndef _inside", "or None\n\n\ndef _inside"),
        ["tests/core/test_measure_namespaces.py"],
    ),
    "robust before fib-0.1.2": (
        (f"{CORE}/protocols.py", "    after_robust: bool = True", "    after_robust: bool = False"),
        ["tests/supervisor/test_protocols.py", "-k", "flashinfer"],
    ),
    "a definition's reference tried": (
        ("workflow/bakeoff/build/reference.py", "if distance <= BOUND:", "if True:"),
        ["tests/build/test_build_reference.py", "-k", "another_result"],
    ),
    "a reference confined": (
        ("workflow/bakeoff/build/reference.py", "    confine([])\n", ""),
        ["tests/build/test_build_reference.py", "-k", "reaches_nothing"],
    ),
    "PASSED without gates": (
        ("workflow/bakeoff/schema/sample.py", "record.passed_stands().model_dump", "record.model_dump"),
        ["tests/supervisor/test_measure_passed.py"],
    ),
    "a typed error on a host that is short": (
        (f"{RUNS}/block_run.py", "except (OSError, MemoryError) as error:", "except ZeroDivisionError as error:"),
        ["tests/supervisor/test_faults.py", "-k", "open"],
    ),
    "time limit for starting": (
        (f"{SUPERVISOR}/workers.py", "return self.deadline if self.warming or not self.ready else None", "return None"),
        ["tests/supervisor/test_faults.py", "-k", "starts", "--timeout=90"],
    ),
    "changed values": (
        (f"{SUPERVISOR}/block.py", "task.probes = policy.choose_probes(", "task.probes = set() and ("),
        attack("cached_output_by_value"),
    ),
    "poisoned outputs": (
        (f"{CORE}/worker/guarded.py", "self._raw.fill_(self.poison_bits)", "pass"),
        attack("leaves_rows_unwritten"),
    ),
    "fences": (
        (f"{CORE}/worker/guarded.py", "return int((fences != poison).sum())", "return 0"),
        attack("writes_outside_output"),
    ),
    "digests of the inputs": (
        (f"{CORE}/worker/commands.py", "!= before).tolist()", "!= before).logical_and(False & (before == 0)).tolist()"),
        attack("modifies_an_input"),
    ),
    "functions compared": (
        (f"{CORE}/worker/guarded.py", "if getattr(place, name, None) is not value:", "if False:"),
        attack("replaces_a_timer", "replaces_a_torch_function"),
    ),
    "hooks compared": (
        (f"{CORE}/worker/guarded.py", "if seen != self._known[what]:", "if False:"),
        attack("hooks_the_interpreter", "leaves_a_torch_mode", "overrides_an_operator"),
    ),
    "threads counted": (
        (f"{CORE}/worker/guarded.py", "if thread not in before]", "if False]"),
        attack("writes_in_a_thread"),
    ),
    "processes counted": (
        (f"{SUPERVISOR}/events.py", "left = self._workers.left_processes(session)", 'left = ""'),
        attack("leaves_a_process"),
    ),
    "late outputs": (
        (f"{CORE}/worker/timing.py", "if int(cell.state.digest.of(output.bits())) != int(digest):", "if False:"),
        attack("late_output"),
    ),
    "seccomp": (
        (
            f"{CORE}/confine.py",
            "for refused in (call for group in calls.refused.values() for call in group):",
            "for refused in ():",
        ),
        ["tests/core/test_measure_sandbox.py"],
    ),
    "namespaces by clone": (
        (f"{CORE}/confine.py", "        (calls.clone, 0, NAMESPACES | _BROTHER, (0,), False),\n", ""),
        ["tests/core/test_measure_sandbox.py", "-k", "each_processor"],
    ),
    "Landlock": (
        (f"{CORE}/confine.py", "if _libc.syscall(_RESTRICT_SELF, ruleset, 0) != 0:", "if False:"),
        ["tests/core/test_measure_sandbox.py"],
    ),
    "size of files": (
        (f"{CORE}/confine.py", "resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))", "pass"),
        attack("takes_the_disk_with_one_file"),
    ),
    "the package hidden": (
        (f"{CORE}/worker/sandbox.py", 'if self._active and name.split(".")[0] == "bakeoff":', "if False:"),
        attack("calls_the_reference"),
    ),
    "visible text": (
        ("workflow/bakeoff/schema/base.py", "UNPRINTABLE.sub(", "(lambda shown, text: text)("),
        ["tests/integration/test_fuzz.py", "-k", "text_is_a_table"],
    ),
}


def tried(name: str) -> tuple[int, int]:
    """How many tests failed, and how many passed, without a guard."""
    edit, tests = GUARDS[name]
    with tempfile.TemporaryDirectory() as folder:
        root = patched(Path(folder) / "copy", [edit])
        chosen = next((word.partition("=")[2] for word in tests if word.startswith("--attacks=")), "*")
        words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        words += [word for word in tests if not word.startswith("--attacks=")]
        variables = {**environment(root), "BAKEOFF_ATTACKS": chosen}
        done = subprocess.run(words, cwd=root, env=variables, capture_output=True, text=True, check=False)
    counts = dict.fromkeys(("failed", "error", "passed"), 0)
    counts |= {word: int(count) for count, word in re.findall(r"(\d+) (failed|error|passed)", done.stdout)}
    return counts["failed"] + counts["error"], counts["passed"]


def main() -> None:
    print("| guard | tests that fail without it | that still pass |\n| --- | --- | --- |")
    missed = 0
    for name in sys.argv[1:] or GUARDS:
        failed, passed = tried(name)
        missed += not failed
        print(f"| {name} | {failed or 'NONE'} | {passed} |", flush=True)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
