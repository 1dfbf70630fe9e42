"""Copies of the checkout to run the workflow in, and the order in which a test run's processes take the tests."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest
from support.checkout import Checkout, copy_project
from support.once import once


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return copy_project(tmp_path / "checkout", builds=True)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A small run, made once for all processes; tests must not change it."""
    folder = once(
        tmp_path_factory, "finished", lambda folder: copy_project(folder / "checkout", builds=True).snakemake()
    )
    return Checkout(folder / "checkout")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Each process begins with its share of the slow modules, so that none is left alone with one at the end.

    `--dist worksteal` cuts the list into equal parts, one for each process.
    """
    processes = getattr(config, "workerinput", {}).get("workercount", 1)
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = [item for item in items if not item.get_closest_marker("slow")]
    modules = [list(group) for _, group in groupby(slow, key=lambda item: item.path)]
    ordered: list[pytest.Item] = []
    for number in range(processes):
        first = [item for module in modules[number::processes] for item in module]
        room = (len(items) - len(ordered)) // (processes - number) - len(first)
        ordered += first + quick[: max(0, room)]
        del quick[: max(0, room)]
    items[:] = ordered + quick
