"""Every solution's kernels compile for both chips, use their matrix units, fit on the chip and do not spill.

Slow when nothing is cached (about 4 minutes on 2 cores for all), a few seconds otherwise: the cache is the workflow's
own.
"""

from __future__ import annotations

import re

import pytest
from bakeoff.build.spec import discover
from bakeoff.schema.build import BuildRecord
from support.build_solutions import SOLUTIONS
from support.kernels import build

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SPECS = {spec.name: spec for spec in discover(SOLUTIONS)}
# (solution, architecture), for each backend that compiles something.
BUILDS = [(name, arch) for name, spec in SPECS.items() for arch, backend in spec.backends.items() if backend.compile]
MMA = {"sm_90a": "wgmma", "sm_100a": "tcgen05"}
# CUDA C++ Programming Guide, "Technical Specifications per Compute Capability": 9.0 and 10.0 alike.
SHARED_BYTES_PER_BLOCK = 227 * 1024
REGISTERS_PER_THREAD = 255
TMEM_COLUMNS = 512


@pytest.fixture(scope="module", params=BUILDS, ids=lambda build: "-".join(build))
def record(request: pytest.FixtureRequest) -> BuildRecord:
    return build(*request.param)[0]


def test_it_builds(record: BuildRecord) -> None:
    assert record.status == "ok", record.message


def test_gemms_use_the_chips_own_matrix_instructions_and_nothing_else(record: BuildRecord) -> None:
    for kernel in record.kernels:
        if kernel.stage in ("gemm1", "gemm2"):
            assert set(kernel.mma) == {MMA[record.arch]}, kernel.name
            assert kernel.mma_expected == MMA[record.arch]
        else:
            assert kernel.mma == {}, kernel.name


def test_no_kernel_spills_or_keeps_a_stack(record: BuildRecord) -> None:
    assert [
        (kernel.name, kernel.spill_bytes) for kernel in record.kernels if kernel.spill_bytes or kernel.stack_bytes
    ] == []


def test_every_kernel_fits_on_the_chip(record: BuildRecord) -> None:
    for kernel in record.kernels:
        assert 0 < kernel.registers <= REGISTERS_PER_THREAD
        assert kernel.shared_bytes is not None and kernel.shared_bytes <= SHARED_BYTES_PER_BLOCK, kernel.name
        assert kernel.tmem_columns is not None and kernel.tmem_columns <= TMEM_COLUMNS, kernel.name
        assert (kernel.tmem_columns > 0) == ("tcgen05" in kernel.mma), kernel.name


def test_the_stage_rules_find_each_kernel_in_its_stage(record: BuildRecord) -> None:
    """A profile sees names only; what solution.yaml makes of them must be what the solution says when it compiles."""
    rules = SPECS[record.solution].stages
    for kernel in record.kernels:
        assert next((rule.stage for rule in rules if re.search(rule.kernel, kernel.name)), "other") == kernel.stage, (
            kernel.name
        )
