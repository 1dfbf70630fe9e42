"""The documents of a constructed run: plan, host, builds, the gates' power."""

from __future__ import annotations

from bakeoff.core.protocols import PROTOCOLS
from bakeoff.files import sha256_bytes
from support.made import NARROW, Made, identity, key_of

CASTS = {"gemm1_output": ["bfloat16"], "intermediate": ["fp8_block128"], "gemm2_output": ["bfloat16"]}


def plan(made: Made) -> dict:
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
            "key": key_of(who["name"], seq_len, offset, family, protocol),
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


def host(made: Made) -> dict:
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


def build(made: Made, name: str) -> dict:
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


def gate_power(made: Made) -> dict:
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
