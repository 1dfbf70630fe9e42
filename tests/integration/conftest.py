"""Copies of the checkout to run the workflow in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.checkout import Checkout, copy_project
from support.measure_runs import once


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return copy_project(tmp_path / "checkout")


@pytest.fixture(scope="session")
def make_checkout(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Checkout]:
    return lambda name: copy_project(tmp_path_factory.mktemp(name) / "checkout")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A small run, made once for all processes; tests must not change it."""
    return Checkout(
        once(tmp_path_factory, "finished", lambda folder: copy_project(folder / "checkout").snakemake()) / "checkout"
    )
