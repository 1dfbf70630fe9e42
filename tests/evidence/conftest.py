"""An honest run, made once for each module, and a copy of it that a test may change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.submissions import write_honest


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_honest(tmp_path_factory.mktemp("honest") / "stranger")


@pytest.fixture
def run(honest: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(honest, tmp_path / "stranger"))
