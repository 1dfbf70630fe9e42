"""Constructed runs: run folders with known truth, in the form in which the workflow leaves them.

`Made` describes a run; `write` makes its folder, `analysed` its analysis document (through the real analyser). `python
tests/support/make.py DIR` writes one analysis.json per entry of `RUNS`, for looking at reports.
"""

from __future__ import annotations

import json
import sys
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import numpy as np
from bakeoff.core.protocols import PROTOCOLS
from bakeoff.files import canonical_json, pretty_json, sha256_bytes

FULL = "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h7168_i2048"
NARROW = "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h512_i256"
PAIRS = [
    (1, 32),
    (7, 192),
    (14, 0),
    (15, 32),
    (16, 224),
    (32, 32),
    (52, 160),
    (53, 32),
    (54, 128),
    (55, 128),
    (56, 64),
    (57, 96),
    (58, 64),
    (59, 160),
    (62, 96),
    (80, 96),
    (901, 96),
    (11948, 128),
    (14107, 32),
]
# Speed over the reference at few and at many tokens: close to the published table.
FOUR = {
    "cutedsl_moe_fp8_v3": (11.0, 10.6),
    "cutedsl_moe_fp8_v3_2": (11.8, 11.2),
    "flashinfer_moe": (31.5, 15.8),
    "triton_fused_moe_v2": (32.8, 5.0),
}
CASTS = {"gemm1_output": ["bfloat16"], "intermediate": ["fp8_block128"], "gemm2_output": ["bfloat16"]}


@dataclass
class Made:
    """A constructed run. `noise` is the standard deviation of a process's log time; `outliers` the share of processes
    that are 3-6 % slow."""

    name: str = "made"
    backend: str = "sm_90a"
    definition: str = FULL
    mix: dict[str, float] = field(default_factory=dict)
    protocols: list[str] = field(default_factory=lambda: ["robust"])
    slowed: dict[str | None, dict[str, float]] = field(default_factory=dict)
    """protocol -> solution -> what its times are multiplied by there."""
    rigid: list[tuple[str, str, int]] = field(default_factory=list)
    """(protocol, solution, seq_len) that cannot be timed so."""
    dataset: str = "synthetic"
    gpu: str = "NVIDIA H100 80GB HBM3"
    blocks: int = 10
    workloads: list[tuple[int, int]] = field(default_factory=lambda: list(PAIRS))
    speed: dict[str, tuple[float, float]] = field(default_factory=lambda: dict(FOUR))
    peers: list[str] = field(default_factory=list)
    noise: float = 0.004
    outliers: float = 0.02
    seed: int = 0
    factor: dict[tuple[str, int], float] = field(default_factory=dict)
    """(solution, seq_len): its time there is multiplied by this."""
    outcomes: dict[tuple[str, int], tuple[str, str | None]] = field(default_factory=dict)
    """(solution, seq_len): outcome and reason in place of PASSED; NOT_WRITTEN leaves the records out."""
    missing_blocks: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    """(solution, seq_len): blocks without a sample."""
    unsupported: list[str] = field(default_factory=list)
    gate_power: bool = True
    shards: int = 1
    """Parts that the peers are dealt into; `blocks` is of all of them, and the contestants are in each."""
    selection: dict | None = None

    def shard(self, name: str) -> int | None:
        return sorted(self.peers).index(name) % self.shards if self.shards > 1 and name in self.peers else None

    def outcome(self, solution: str, seq_len: int) -> tuple[str, str | None]:
        if solution in self.unsupported:
            return "UNSUPPORTED", "no_backend"
        return self.outcomes.get((solution, seq_len), ("PASSED", None))


def write(made: Made, folder: Path) -> Path:
    """Write the run's folder; equal descriptions give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    documents = {
        "config.json": pretty_json(_plan(made)),
        "host.json": pretty_json(_host(made)),
        **_journals(made),
        **{f"build/{name}/build.json": pretty_json(_build(made, name)) for name in made.speed},
    }
    if made.gate_power:
        documents["gate_power.json"] = pretty_json(_gate_power(made))
    for name, content in documents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def analysed(made: Made):
    """The analysis document of a constructed run, comparison with the published run included."""
    from bakeoff.stats.verbs import analysis_of

    with tempfile.TemporaryDirectory() as folder:
        return analysis_of(write(made, Path(folder) / made.name))


def identity(seq_len: int, offset: int) -> tuple[str, str]:
    """Workload id and uuid."""
    name = f"T{seq_len}_o{offset}"
    return name, str(uuid.uuid5(uuid.NAMESPACE_OID, name))


def _plan(made: Made) -> dict:
    participants = [_participant("reference", "reference", made)] + [
        _participant(name, "peer" if name in made.peers else "contestant", made) for name in made.speed
    ]
    cells = [
        {
            "participant": who["name"],
            "workload": f"T{seq_len}_o{offset}",
            "kind": "verify" if protocol is None else "measure",
            "protocol": protocol,
            "family": family,
            "seed": 0,
            "key": _key(who["name"], seq_len, offset, family, protocol),
        }
        for who in participants
        for seq_len, offset in made.workloads
        for family, protocol in [*(("fib", name) for name in made.protocols), ("realistic", None)]
        if who["role"] != "reference" or (protocol and not PROTOCOLS[protocol].in_place)
    ]
    return {
        "schema": "bakeoff/plan/1",
        "run": made.name,
        "title": f"Constructed run {made.name}",
        "backend": made.backend,
        "definition": made.definition,
        "dataset": made.dataset,
        "protocols": made.protocols,
        "mix": made.mix,
        "shards": made.shards,
        "selection": made.selection,
        "families": ["fib", "realistic"],
        "seeds": [0],
        "blocks": made.blocks,
        "timeout_s": 1200,
        "threads": 1,
        "gpus": 1,
        "lock_clocks_mhz": None,
        "image": None,
        "traces_root": "traces",
        "host_fingerprint": sha256_bytes(made.gpu.encode()),
        "harness": sha256_bytes(b"harness"),
        "commit": "c0ffee" * 6,
        "participants": participants,
        "workloads": [_workload(*pair) for pair in made.workloads],
        "cells": cells,
    }


def _participant(name: str, role: str, made: Made) -> dict:
    solution = role != "reference"
    return {
        "name": name,
        "role": role,
        "label": name,
        "description": f"What {name} does.",
        "design": f"{name} on {made.backend}" if solution else None,
        "digest": sha256_bytes(name.encode()),
        "build": f"build/{name}/solution.json" if solution else None,
        "supported": name not in made.unsupported,
        "shard": made.shard(name),
        "rounding": CASTS if solution else None,
        "stages": [],
    }


def _workload(seq_len: int, offset: int) -> dict:
    name, identifier = identity(seq_len, offset)
    return {
        "id": name,
        "seq_len": seq_len,
        "offset": offset,
        "factor": 2.5,
        "uuid": identifier,
        "seed": 1,
        "stats": {
            "local_pairs": max(2, seq_len),
            "active_tokens": max(1, seq_len // 2),
            "active_experts": min(32, max(2, seq_len)),
        },
        "digest": sha256_bytes(f"{seq_len}/{offset}".encode()),
    }


def _host(made: Made) -> dict:
    return {
        "schema": "bakeoff/host/1",
        "fingerprint": sha256_bytes(made.gpu.encode()),
        "cpu": "Constructed CPU",
        "cores": 16,
        "architecture": "x86_64",
        "system": "Constructed GNU/Linux",
        "kernel": "6.1.0",
        "python": "3.12.3",
        "driver": None if made.backend == "cpu" else "580.95.05",
        "cuda_driver": None if made.backend == "cpu" else "13.0",
        "gpus": []
        if made.backend == "cpu"
        else [
            {
                "name": made.gpu,
                "uuid": "GPU-0",
                "memory_mib": 81559,
                "capability": "9.0",
                "vbios": None,
                "power_limit_w": 700.0,
                "max_sm_mhz": 1980,
                "max_memory_mhz": 2619,
                "ecc": True,
                "mig": False,
            }
        ],
        "packages": {"torch": "2.11.0", "triton": "3.6.0"},
    }


def reference_us(seq_len: int) -> float:
    """Time of the reference, roughly as on an H100."""
    return 15700.0 + 2.2 * seq_len


def _times(made: Made) -> tuple[dict, dict]:
    """Latencies and reference times by (solution, seq_len, offset) and block."""
    random = np.random.default_rng(made.seed)
    latency, reference = {}, {}
    for seq_len, offset in made.workloads:
        reference[seq_len, offset] = _process(made, random, reference_us(seq_len))
        for name, (few, many) in made.speed.items():
            share = np.log(seq_len) / np.log(20000)
            speed = few if seq_len < 512 else few ** (1 - share) * many**share if seq_len < 4096 else many
            true = reference_us(seq_len) / speed * made.factor.get((name, seq_len), 1.0)
            latency[name, seq_len, offset] = _process(made, random, true)
    return latency, reference


def _process(made: Made, random: np.random.Generator, true: float) -> list[float]:
    """One median per block: log-normal noise, now and then a slow process."""
    slow = np.where(random.random(made.blocks) < made.outliers, random.uniform(0.03, 0.06, made.blocks), 0.0)
    return [float(value) for value in true * np.exp(made.noise * random.standard_normal(made.blocks) + slow)]


def _journals(made: Made) -> dict[str, bytes]:
    """File name -> journal, of every block and participant; nothing timed for a cell that did not pass."""
    latency, reference = _times(made)
    latency |= {("reference", *pair): times for pair, times in reference.items()}
    lines: dict[str, list[bytes]] = {}
    for name in ("reference", *made.speed):
        for (seq_len, offset), block, family in product(made.workloads, range(made.blocks), ("fib", "realistic")):
            outcome, reason = made.outcome(name, seq_len)
            timed, shard = family == "fib", made.shard(name)
            if shard is not None and block % made.shards != shard:
                continue
            if outcome == "NOT_WRITTEN" or (timed and block in made.missing_blocks.get((name, seq_len), [])):
                continue
            if timed or (block == (shard or 0) and name != "reference"):
                path = f"samples/block-{block:02d}/{name}.jsonl"
                lines.setdefault(path, [])
                for protocol in made.protocols if timed else [None]:
                    if name == "reference" and PROTOCOLS[protocol].in_place:
                        continue
                    if (protocol, name, seq_len) in made.rigid:
                        told = ("UNSUPPORTED", "not_capturable")
                    else:
                        told = (outcome, reason)
                    us = latency[name, seq_len, offset][block] * made.slowed.get(protocol, {}).get(name, 1.0)
                    record = _record(made, (name, seq_len, offset, family, protocol), block, *told, us)
                    lines[path].append(sealed(record))
    return {path: b"".join(found) for path, found in lines.items()}


def sealed(record: dict) -> bytes:
    """A journal's line, as `schema.sample.seal` makes it of a model."""
    return canonical_json({**record, "digest": sha256_bytes(canonical_json(record))}) + b"\n"


def _state(protocol: str | None) -> dict:
    """What a power limit leaves after two seconds, and what a burst has."""
    mhz, watts = (1425, 685.0) if protocol == "sustained" else (1980, 480.0)
    seen = {name: {"min": each, "median": each, "max": each} for name, each in (("sm_mhz", mhz), ("watts", watts))}
    return {"samples": 4, "of_calls": True, **seen, "reasons": []}


def _record(made: Made, cell: tuple, block: int, outcome: str, reason: str | None, us: float) -> dict:
    name, seq_len, offset, family, protocol = cell
    passed = outcome == "PASSED"
    tiers = ["wall_us"] if made.backend == "cpu" else ["wall_us", "event_us", "cupti_busy_us", "cupti_span_us"]
    return {
        "v": 1,
        "key": _key(*cell),
        "kind": "verify" if protocol is None else "measure",
        "participant": name,
        "workload": f"T{seq_len}_o{offset}",
        "protocol": protocol,
        "family": family,
        "seed": 0,
        "block": block,
        "outcome": outcome,
        "reason": reason,
        "detail": None if passed else f"{name} ended with {outcome} (constructed)",
        "hint": None if passed else "run `bakeoff check` on the cell",
        "gates": _gates(outcome),
        "numerics": _numerics(outcome, seq_len) or None,
        "tiers": {tier: [us] for tier in tiers} if passed and protocol else {},
        "missing_tiers": {},
        "gpu_state": _state(protocol) if len(made.protocols) > 1 else None,
        "discarded": 0,
        "warnings": [],
        "started": "2026-01-01T00:00:00Z",
        "seconds": 1.0,
        "spent_s": {},
    }


def _key(name: str, seq_len: int, offset: int, family: str, protocol: str | None) -> str:
    return sha256_bytes(f"{name}/{seq_len}/{offset}/{family}/{protocol}".encode())


def edit(run: Path, change: Callable[[dict], None], participant: str = "*", block: str = "*") -> int:
    """Change records of a run's journals and seal them again; returns how many were changed."""
    count = 0
    for path in sorted(run.glob(f"samples/block-{block}/{participant}.jsonl")):
        records = [json.loads(line) for line in path.read_text().splitlines()]
        for record in records:
            del record["digest"]
            before = json.dumps(record)
            change(record)
            count += before != json.dumps(record)
        path.write_bytes(b"".join(map(sealed, records)))
    return count


def _gates(outcome: str) -> dict:
    if outcome not in ("PASSED", "INCORRECT_NUMERICAL"):
        return {}
    good = outcome == "PASSED"
    return {
        "published": {"passed": True, "checks": {"matched_ratio": {"value": 0.93, "bound": 0.85, "passed": True}}},
        "strict": {
            "passed": good,
            "checks": {
                "relative_l2": {"value": 0.043 if good else 0.31, "bound": 0.06, "passed": good},
                "scale": {"value": 1.0, "bound": [0.98, 1.02], "passed": True},
            },
        },
    }


def _numerics(outcome: str, seq_len: int) -> dict:
    if outcome not in ("PASSED", "INCORRECT_NUMERICAL"):
        return {}
    error = 0.043 if outcome == "PASSED" else 0.31
    return {
        "matched_ratio": 0.933,
        "matched_ratio_active": 0.867,
        "relative_l2": error,
        "worst_row_l2": 1.2 * error,
        "cosine": 0.99907,
        "calc_diff": 0.0009,
        "scale": 1.0003,
        "max_abs": 9000.0,
        "max_rel": 0.2,
        "nonzero_inactive": 0,
        "non_finite": 0,
        "active_rows": max(1, seq_len // 2),
        "ambiguous_rows": 0,
    }


def _build(made: Made, name: str) -> dict:
    supported = name not in made.unsupported
    kernel = {
        "name": f"{name}_gemm1",
        "stage": "gemm1",
        "cubin": "gemm1.cubin",
        "ptx": "gemm1.ptx",
        "registers": 168,
        "static_shared_bytes": 0,
        "dynamic_shared_bytes": 196608,
        "shared_bytes": 196608,
        "tmem_columns": 0,
        "stack_bytes": 0,
        "spill_bytes": 0,
        "mma": {"wgmma": 64},
        "mma_expected": "wgmma",
        "meta": {},
    }
    return {
        "schema": "bakeoff/build/1",
        "solution": name,
        "arch": made.backend,
        "definition": made.definition,
        "digest": sha256_bytes(name.encode()),
        "status": "ok" if supported else "unsupported",
        "message": None,
        "toolchain": {},
        "kernels": [kernel] if supported and made.backend != "cpu" else [],
    }


def _gate_power(made: Made) -> dict:
    names = {
        "gate_up_swapped": (19, 0, 15, 19),
        "top7": (19, 1, 0, 18),
        "output_x1.05": (19, 0, 0, 19),
        "fp8_output": (19, 0, 0, 2),
    }
    mutants = [
        {
            "name": name,
            "must_die": name != "fp8_output",
            "cells": cells,
            "excluded": excluded,
            "killed_published": published,
            "killed_strict": strict,
        }
        for name, (cells, excluded, published, strict) in names.items()
    ]
    due = [mutant for mutant in mutants if mutant["must_die"]]
    return {
        "schema": "bakeoff/gate-power/1",
        "definition": NARROW,
        "families": ["fib"],
        "seed": 0,
        "rows": None,
        "mutants": mutants,
        "mistakes": {name: f"what is wrong with {name}" for name in names},
        "survivors": [],
        "honest_cells": 19,
        "honest_rejected_published": 0,
        "honest_rejected_strict": 0,
        "counted": sum(mutant["cells"] - mutant["excluded"] for mutant in due),
        "excluded": sum(mutant["excluded"] for mutant in due),
        "killed_published": sum(mutant["killed_published"] for mutant in due),
        "killed_strict": sum(mutant["killed_strict"] for mutant in due),
    }


def _twelve() -> dict[str, tuple[float, float]]:
    return {f"solution_{number:02d}": (8.0 + 2.5 * number, 20.0 - 1.2 * number) for number in range(12)}


# What a report must survive, by name.
RUNS: dict[str, Callable[[], Made]] = {
    "four": lambda: Made(name="four"),
    "with_peer": lambda: Made(name="with_peer", speed={**FOUR, "deepgemm_moe": (24.0, 19.0)}, peers=["deepgemm_moe"]),
    "five_blocks": lambda: Made(name="five_blocks", blocks=5),
    "one_block": lambda: Made(name="one_block", blocks=1),
    "cpu": lambda: Made(name="cpu", backend="cpu", definition=NARROW, blocks=1),
    "faulty": lambda: Made(
        name="faulty",
        blocks=5,
        unsupported=["cutedsl_moe_fp8_v3"],
        outcomes={
            ("flashinfer_moe", 901): ("CRASHED", "signal"),
            ("flashinfer_moe", 14107): ("OUT_OF_MEMORY", "allocation"),
            ("triton_fused_moe_v2", 52): ("INCORRECT_NUMERICAL", "strict_gate"),
            ("triton_fused_moe_v2", 54): ("TIMEOUT", "hang"),
            ("cutedsl_moe_fp8_v3_2", 16): ("NOT_WRITTEN", None),
            ("cutedsl_moe_fp8_v3_2", 80): ("REJECTED", "cached_output"),
        },
        missing_blocks={("triton_fused_moe_v2", 58): [1, 3], ("flashinfer_moe", 59): [0, 1, 2, 4]},
    ),
    "nothing_passed": lambda: Made(
        name="nothing_passed", outcomes={(name, pair[0]): ("CRASHED", "signal") for name in FOUR for pair in PAIRS}
    ),
    "one_solution": lambda: Made(name="one_solution", speed={"flashinfer_moe": FOUR["flashinfer_moe"]}),
    "twelve_solutions": lambda: Made(name="twelve_solutions", speed=_twelve(), blocks=5),
    "one_workload": lambda: Made(name="one_workload", workloads=[(901, 96)]),
    "forty_workloads": lambda: Made(
        name="forty_workloads", workloads=[(4 + 37 * number, 32 * (number % 8)) for number in range(40)], blocks=5
    ),
    "other_definition": lambda: Made(
        name="other_definition", definition="gemm_n4096_k7168", workloads=[(64, 0), (2048, 0), (8192, 0)]
    ),
    "b200_published_protocol": lambda: Made(
        name="b200_published_protocol",
        backend="sm_100a",
        gpu="NVIDIA B200",
        protocols=["fib-0.1.2"],
        dataset="/data/flashinfer-trace",
        blocks=5,
    ),
    "no_noise": lambda: Made(name="no_noise", noise=0.0, outliers=0.0, blocks=5),
}


def named(name: str, **changes) -> Made:
    """One of `RUNS`, with changes."""
    return replace(RUNS[name](), **changes)


if __name__ == "__main__":
    from bakeoff.stats.analyse import document_bytes

    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for key, run in RUNS.items():
        (target / f"{key}.json").write_bytes(document_bytes(analysed(run())))
