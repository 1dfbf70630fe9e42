"""Analyses of constructed runs that several modules read and none changes."""

from __future__ import annotations

import pytest
from bakeoff.schema.analysis import Analysis
from support.make import analysed, named


@pytest.fixture(scope="session")
def four() -> Analysis:
    return analysed(named("four"))


@pytest.fixture(scope="session")
def faulty() -> Analysis:
    return analysed(named("faulty"))
