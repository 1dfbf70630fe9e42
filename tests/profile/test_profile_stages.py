"""Attribution: which stage, which gap, who waits for whom."""

from __future__ import annotations

import pytest
from bakeoff.profile.stages import STAGES, assign, bound, representative
from bakeoff.profile.stages import break_down as break_down_of
from bakeoff.profile.timeline import Activity, Call, Launch, Mark, calls, display_name, mark_name, parse_mark
from bakeoff.schema.profile import CellProfile
from bakeoff.schema.solution import StageRule
from hypothesis import given
from hypothesis import strategies as st
from support.profile_captures import ABOUT, GEMM, RULES, US, timeline


def break_down(call: Call, rules: list[StageRule] = RULES) -> CellProfile:
    found = break_down_of(call, rules, **ABOUT)
    assert found is not None
    return found


def stages_us(found: CellProfile) -> dict[str, float]:
    return {one.stage: one.us for one in found.stages}


def stages_run_us(found: CellProfile) -> dict[str, float]:
    return {one.stage: one.run_us for one in found.stages}


def call_of(*intervals: tuple[float, float], enqueued: float = 0.0, mark_us: float = 1.0) -> Call:
    """A call of kernels `route_k` at the given intervals, in us, all launched by `enqueued`."""
    activities = [
        Activity("kernel", "route_k", int(start * US), int(end * US), number)
        for number, (start, end) in enumerate(intervals)
    ]
    launches = [Launch(number, "cuLaunchKernelEx", 0, int(enqueued * US)) for number in range(len(intervals))]
    return Call(Mark("T1_o32", 0, 0, int(mark_us * US)), launches, sorted(activities, key=lambda one: one.start_ns))


def test_a_calls_stages_busy_time_and_gaps_are_those_of_its_kernels() -> None:
    first = calls(timeline())[0]
    found = break_down(first, RULES)
    assert stages_us(found) == {
        "routing": 4.0,
        "permute": 0.0,
        "gemm1": 20.0,
        "activation_quant": 6.0,
        "gemm2": 10.0,
        "combine": 2.0,
        "other": 1.0,
    }
    assert (found.busy_us, found.span_us, found.launches) == (43.0, 53.0, 6)
    # 34 to 36 us: everything was enqueued. 52 to 58.5 us: the fill was not; from there to 60 us it was.
    assert found.host_gap_share == pytest.approx(6.5 / 53, abs=1e-6)
    assert found.gap_share == pytest.approx(10 / 53, abs=1e-6)
    assert found.mapped_share == pytest.approx(42 / 43, abs=1e-6) and found.unmapped == ["stray_kernel"]
    assert [kernel.name for kernel in found.kernels if not kernel.mapped] == ["stray_kernel"]


def test_work_belongs_to_the_call_whose_host_call_started_it_even_after_the_marks_end() -> None:
    lines = timeline(("T1_o32",), calls=2)
    assert [len(call.activities) for call in calls(lines)] == [6, 6]
    assert all(activity.start_ns >= call.mark.end_ns for call in calls(lines) for activity in call.activities)


def test_work_enqueued_outside_any_mark_is_left_out_although_it_runs_inside() -> None:
    lines = timeline(("T1_o32",), calls=1)
    flush = Activity("kernel", "flush", 1000, 9000, correlation=900)
    lines.activities.append(flush)
    lines.launches.append(Launch(900, "cudaLaunchKernel", -500, -100))
    assert "flush" not in {activity.name for activity in calls(lines)[0].activities}


def test_one_library_kernel_is_gemm1_before_the_activation_and_gemm2_after_it() -> None:
    names = ["route_tokens", GEMM, GEMM, "swiglu_rows", GEMM, "unknown", GEMM]
    assert [stage for stage, _ in assign(names, RULES)] == [
        "routing",
        "gemm1",
        "gemm1",
        "activation_quant",
        "gemm2",
        "other",
        "gemm2",
    ]
    assert [mapped for _, mapped in assign(names, RULES)] == [True] * 5 + [False, True]


def test_the_first_matching_pattern_wins_and_later_ones_are_not_asked() -> None:
    rules = [StageRule(kernel="gemm1", stage="gemm1"), StageRule(kernel="gemm", stage="gemm2")]
    assert assign(["my_gemm1", "my_gemm"], rules) == [("gemm1", True), ("gemm2", True)]


def test_an_explicit_other_counts_as_mapped() -> None:
    assert assign(["fill"], [StageRule(kernel="^fill$", stage="other")]) == [("other", True)]
    assert assign(["fill"], []) == [("other", False)]


def test_overlapping_kernels_share_the_time_of_their_overlap() -> None:
    found = break_down(call_of((0, 10), (5, 15)), RULES)
    assert found.busy_us == 15.0 and found.span_us == 15.0 and stages_us(found)["routing"] == 15.0
    assert stages_run_us(found)["routing"] == 15.0, "kernels of one stage do not count twice"


def test_a_stage_that_starts_early_runs_longer_than_its_share() -> None:
    early = [
        Activity("kernel", "route_k", 0, int(10 * US), 0),
        Activity("kernel", "my_gemm1", int(4 * US), int(30 * US), 1),
    ]
    rules = [StageRule(kernel="route", stage="routing"), StageRule(kernel="gemm1", stage="gemm1")]
    found = break_down(Call(Mark("T1_o32", 0, 0, 1), [], early), rules)
    assert (stages_us(found)["routing"], stages_us(found)["gemm1"], found.busy_us) == (7.0, 23.0, 30.0)
    assert (stages_run_us(found)["routing"], stages_run_us(found)["gemm1"]) == (10.0, 26.0)


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(1, 50)), min_size=1, max_size=12))
def test_stages_kernels_and_gaps_always_add_up(spans: list[tuple[int, int]]) -> None:
    found = break_down(call_of(*((start, start + length) for start, length in spans), enqueued=60), RULES)
    covered = len({tick for start, length in spans for tick in range(start, start + length)})
    assert found.busy_us == pytest.approx(covered)
    assert sum(stages_us(found).values()) == pytest.approx(found.busy_us, abs=1e-3)
    assert stages_run_us(found) == pytest.approx(stages_us(found), abs=1e-3), "all of one stage"
    assert sum(kernel.us for kernel in found.kernels) == pytest.approx(found.busy_us, abs=1e-3)
    assert found.busy_us + found.gap_share * found.span_us == pytest.approx(found.span_us, abs=1e-3)
    assert 0 <= found.host_gap_share <= found.gap_share <= 1


def test_a_call_is_host_bound_if_the_gpu_waits_or_the_host_is_slower_than_the_gpu() -> None:
    def judged(call: Call) -> str:
        found = break_down(call, RULES)
        return bound(found.host_us, found.span_us, found.host_gap_share)

    assert judged(call_of((0, 10), (12, 20))) == "device"
    assert judged(call_of((0, 10), (14, 24), enqueued=13.5)) == "host"  # 3.5 of 24 us waited for the launch
    assert judged(call_of((0, 10), (12, 20), mark_us=21)) == "host"  # 21 us to enqueue 20 us of work


def test_the_hosts_wait_for_the_gpu_is_not_its_own_time() -> None:
    call = call_of((0, 10), (12, 20), mark_us=50)
    call.launches.append(Launch(99, "cudaStreamSynchronize_v3020", 0, 45 * US))
    found = break_down(call, RULES)
    assert found.host_us == 5.0 and found.syncs == 1


def test_a_call_without_gpu_work_has_no_breakdown() -> None:
    assert break_down_of(Call(Mark("T1_o32", 0, 0, 1)), RULES, **ABOUT) is None


def test_the_median_call_stands_for_the_cell() -> None:
    found = [break_down(call, RULES) for call in calls(timeline(("T1_o32",), calls=4))]
    assert [one.busy_us for one in found] == [43.0, 44.0, 45.0, 46.0]
    assert representative(found).busy_us == 44.0
    assert representative(found[::-1]).busy_us == 44.0


def test_a_call_that_a_tracer_delayed_on_the_host_does_not_stand_for_the_cell() -> None:
    """The GPU waits in three of five calls because the host fell behind; where all calls wait alike, all of them
    count."""

    def broken_down(*enqueued: float) -> list[CellProfile]:
        return [break_down(call_of((0, 10 + n), (40, 50), enqueued=at)) for n, at in enumerate(enqueued)]

    assert representative(broken_down(5, 5, 38, 38, 38)).busy_us == 20.0
    assert representative(broken_down(38, 38, 38, 38, 38)).busy_us == 22.0


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("route_tokens", "route_tokens"),
        (GEMM, "cutlass::device_kernel"),
        ("void at::native::(anonymous namespace)::fill<float, (int)2>(float*)", "at::native::fill"),
        ("deep_gemm::sm90_fp8_gemm_1d2d_impl<4096u, 7168u>(float*, int)", "deep_gemm::sm90_fp8_gemm_1d2d_impl"),
        ("_ZN7cutlass13device_kernelINS_4gemm6kernel13GemmUniversalEEEvNT_6ParamsE", "cutlass::device_kernel"),
        ("_Z9vectorAddPKfS0_Pfi", "vectorAdd"),
        ("_Zbroken", "_Zbroken"),
        ("[memcpy DtoH]", "[memcpy DtoH]"),
        ("(lambda)", "(lambda)"),
        ("k" * 100, "k" * 79 + "…"),
    ],
)
def test_kernel_names_are_shortened_for_people(name: str, short: str) -> None:
    assert display_name(name) == short


def test_marks_survive_the_text_around_them() -> None:
    assert parse_mark(mark_name("T901_o96", 3)) == ("T901_o96", 3)
    assert parse_mark(f'1 "<default domain>:{mark_name("T1_o32", 0)}:none"') == ("T1_o32", 0)
    assert parse_mark("something else") is None and parse_mark(None) is None
    assert STAGES[-1] == "other"
