"""What docs/statistics.md says of recorded runs follows from their samples."""

from __future__ import annotations

import bakeoff
import numpy as np
from bakeoff.files import PROJECT_ROOT


def test_what_the_page_says_of_the_references_scatter_follows_from_the_recorded_run() -> None:
    page = " ".join((PROJECT_ROOT / "docs/statistics.md").read_text().split())
    samples = bakeoff.load(PROJECT_ROOT / "results/recorded/2026-11-24_h100").samples
    reference = samples[(samples["participant"] == "reference") & (samples["protocol"] == "robust")]
    span, busy = (reference[tier] for tier in ("cupti_span_us", "cupti_busy_us"))
    of_span, of_busy = (np.log(each).groupby(reference["workload"]).std().median() for each in (span, busy))
    waits = (1 - busy / span).median()
    assert f"span is {100 * waits:.0f} % waiting for the host and varies by {100 * of_span:.1f} % from process" in page
    assert f"its busy time by {100 * of_busy:.2f} % (medians over the workloads)" in page
