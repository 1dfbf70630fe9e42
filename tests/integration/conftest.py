"""Copies of the checkout to run the workflow in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.checkout import Checkout, copy_project


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return copy_project(tmp_path / "checkout")


@pytest.fixture(scope="session")
def make_checkout(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Checkout]:
    return lambda name: copy_project(tmp_path_factory.mktemp(name) / "checkout")


@pytest.fixture(scope="session")
def finished(make_checkout: Callable[[str], Checkout]) -> Checkout:
    """A small run, made once; tests must not change it."""
    made = make_checkout("finished")
    made.snakemake()
    return made
