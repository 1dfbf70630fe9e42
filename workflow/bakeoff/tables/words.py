"""Words for codes: what pages and terminal call an outcome, a condition, a limit. A code without a word is an error."""

from typing import get_args

from bakeoff.schema.solution import Stage

ROLES = {
    "contestant": "contestant",
    "peer": "peer, not ranked",
}
SUPPORT = {
    "FASTER_2_PERCENT": "by 2 % or more",
    "FASTER_OPEN": "beyond the noise, by how much is open",
    "FASTER_BELOW_2_PERCENT": "beyond the noise, by less than 2 %",
    "unmeasured": "not measured here:",
    "same": "less than 2 % apart, which way is open:",
    "tied": "not decided against",
    "alone": "highest value",
    "none": "no value",
}
PROTOCOLS = {
    "robust": "robust has a cold cache and new inputs in every call",
    "fib-0.1.2": "fib-0.1.2 times as FlashInfer-Bench does",
    "realistic": "realistic is robust on other values",
    "graph": "graph replays a CUDA graph",
    "warm": "warm leaves the cache as the call before left it",
    "sustained": "sustained calls for two seconds without a pause",
}
VERDICTS = {
    "FASTER_2_PERCENT": "faster by ≥ 2 %",
    "FASTER_OPEN": "faster, by how much is open",
    "FASTER_BELOW_2_PERCENT": "faster by < 2 %",
    "SAME": "< 2 % apart, which way is open",
    "SLOWER_BELOW_2_PERCENT": "slower by < 2 %",
    "SLOWER_OPEN": "slower, by how much is open",
    "SLOWER_2_PERCENT": "slower by ≥ 2 %",
    "OPEN": "open",
}
GATE = {True: "passed", False: "failed"}
MUST_DIE = {True: "must be rejected", False: "measured only"}
EXECUTED = {True: "ran", False: "compiled only"}
BOUNDS = {
    "memory": "memory-bound",
    "compute": "compute-bound",
}
METRICS = {
    "arithmetic_mean": "Average",
    "median": "Median",
    "minimum": "Min",
    "maximum": "Max",
    "std_sample": "Std Dev (sample)",
    "std_population": "Std Dev (population)",
    "cv_sample": "CV (sample)",
    "cv_population": "CV (population)",
    "leads": "Wins",
}
AGGREGATES = {
    "geometric_mean": "geometric mean of speedups",
    "arithmetic_mean": "arithmetic mean of speedups",
    "harmonic_mean": "harmonic mean of speedups",
    "median": "median speedup",
    "leads": "workloads led",
    "total_latency": "total time of all workloads",
}
GROUPS = {
    "host": "host",
    "gpu": "GPU",
    "software": "software",
    "inputs": "inputs",
    "run": "run",
}
REASONS = {
    "device": "another device",
    "protocol": "another timing protocol",
    "clock": "another clock",
    "inputs": "other inputs",
    "missing": "no value in one of the two",
    "failed": "did not pass",
    "few_blocks": "fewer than five blocks",
    "host": "another host, whose time shows",
    "definition": "another definition",
    "performance": "a run without performance",
}
STATES = {
    "win": "leads, supported by the statistics",
    "lead": "leads, not supported",
    "same": "within 2 % of the leader, by the statistics",
    "tie": "not decided against the leader",
    "ran": "behind",
    "pass": "passed",
    "fail": "failed",
    "none": "no value",
    "all": "every cell",
}
HEADER = {
    "hardware": "Hardware",
    "backend": "Backend",
    "definition": "Definition",
    "dataset": "Routing inputs",
    "protocol": "Timing protocol",
    "time_tier": "Clock",
    "blocks": "Blocks",
    "families": "Value families",
    "seeds": "Seeds of values",
    "timeout": "Time limit per cell",
    "tolerances": "Published gate",
    "image": "Container image",
}
CLOCKS = {
    "cupti_span_us": "CUPTI span: from the start of a call’s first kernel to the end of its last one",
    "cupti_busy_us": "CUPTI busy time: while a kernel of the call ran",
    "event_us": "CUDA events around a call",
    "wall_us": "host wall clock around a call",
}
KINDS = {
    "published": "Published figures",
    "cpu": "Correctness run",
    "measured": "Measured run",
}
CHECKS = {
    "cells_complete": "Every planned cell has an outcome",
    "cells_passed": "Every planned cell passed both gates",
    "verifications_passed": "Every further value family and seed passed",
    "blocks_enough": "Enough blocks for verdicts",
    "blocks_complete": "Cells whose figures rest on every planned block",
    "samples_disturbed": "Samples discarded because the host disturbed them",
    "tiers_missing": "Clocks that the host could not record",
    "twins_same": "A/A: workloads on which a solution is told apart from its twin",
    "gate_power": "The strict gate rejects the mutants that must be rejected",
    "same_reference": "Cells with a block in which the reference is missing",
    "values_recorded": "Facts that the publication did not record",
}
CHECKS_PUBLISHED = {
    "cells_complete": "Every cell has a printed value",
    "cells_passed": "Every cell passed, by the publication",
}
REMARKS = {
    "missing_tier": "Clock missing",
    "warning": "Warning",
    "discarded": "Samples discarded",
    "outlier_blocks": "Outlier process",
}
LIMITS = {
    "memory": "memory",
    "tensor": "tensor cores",
    "latency": "latency",
    "host": "the host",
    "device": "the GPU",
}
# Stages are called by their own names; what a bar has besides is not one.
STACK = {stage: stage for stage in get_args(Stage)} | {"gap": "launch gaps"}
ROOFS = {
    "peak": "sourced peaks",
    "measured": "measured on this host",
}
STATUSES = {
    "ok": "ok",
    "warning": "warning",
    "failed": "failed",
    "not_applicable": "does not apply",
}
RELATIONS = {
    "previous": "the earlier run",
    "repeat": "the repeat of the same day",
    "published": "the published run",
}
