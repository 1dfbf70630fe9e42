"""A profile made for the tests of the page, beside a run of `make`; its figures are no measurements."""

from __future__ import annotations

from bakeoff.schema.analysis import Analysis
from bakeoff.schema.analysis_run import AnalysedWorkload
from bakeoff.schema.plan import Participant
from bakeoff.schema.profile import ProfileSection
from support.pages import analysis


def profiles(everyone: list[Participant], loads: list[AnalysedWorkload]) -> ProfileSection:
    """A profile of every solution's last workload, with counters for the first solution only."""
    load, names = loads[-1], ("routing", "permute", "gemm1", "activation_quant", "gemm2", "combine", "other")
    found = []
    for number, p in enumerate(everyone):
        counted = number == 0
        parts = [
            dict(
                stage=name,
                us=0.0 if name == "other" else 10.0 * (k + 1),
                run_us=0.0 if name == "other" else 10.0 * (k + 1),
                share=0.0 if name == "other" else (k + 1) / 21,
                floor_us=4.0,
                floor_share=0.4,
                limit="memory" if counted else None,
                limit_from="counters" if counted else None,
                launches=1,
                dram_bytes=1e6 if counted else None,
                dram_share=0.7 if counted else None,
                tensor_share=0.1 if counted else None,
                occupancy=None,
                local_accesses=None,
            )
            for k, name in enumerate(names)
        ]
        found.append(
            dict(
                solution=p.name,
                workload=load.id,
                tier="nsys",
                busy_us=210.0,
                span_us=250.0,
                gap_share=0.16,
                host_gap_share=0.1,
                launches=6,
                syncs=0,
                host_us=40.0,
                host_traced=False,
                bound="device",
                mapped_share=1.0,
                stages=parts,
                flops=10**12,
                floor_bytes=10**9,
                intensity=1000.0,
                floor_us=100.0,
                floor_share=0.4,
                ceiling_us=120.0,
                ceiling_share=0.48,
                dram_bytes=None,
                dram_over_floor=1.2 if counted else None,
                bandwidth_gbs=None,
                bandwidth_share=None,
                bandwidth_ceiling_share=None,
                tensor_share=None,
                tflops=500.0,
                counters_missing=None if counted else "no permission",
                kernels=[dict(name="route_<k>", stage="routing", mapped=True, launches=1, us=10.0)],
            )
        )
    claim = {
        "place": "Key Findings",
        "text": "Triton scatter dominates",
        "expression": "share of permute against gemm1",
        "kind": "explanation",
    }
    return ProfileSection.model_validate(
        dict(
            gpu="NVIDIA H100",
            backend="sm_90a",
            stages=list(names),
            peak_gbs=3350.0,
            peak_tflops=1979.0,
            peak_source="the data sheet",
            ceilings=dict(copy_gbs=3000.0, fp8_tflops=None, launch_us=2.1),
            tools={"nsys": "2026.1"},
            tiers_missing={"ncu": "no permission"},
            coverage=[
                dict(
                    solution=p.name, due=19, profiled=1, counted=0, mapped_least=0.99, failures={loads[0].id: "timeout"}
                )
                for p in everyone
            ],
            cells=found,
            explanations=[
                dict(id="a", verdict="CONTRADICTED", numbers={"permute_share": 0.1}, needs=None, **claim),
                dict(id="b", verdict="NOT TESTABLE", numbers={}, needs="`bakeoff profile` on a B200", **claim),
            ],
        )
    )


def profiled_run() -> Analysis:
    """A measured run with a profile."""
    a = analysis("four")
    return a.model_copy(update={"profiles": profiles(a.participants, a.workloads)})
