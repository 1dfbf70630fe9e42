"""bakeoff: a reproducible bake-off of FP8 mixture-of-experts GPU kernels.

`load` reads a run as pandas frames. docs/architecture.md has the packages, each importing only those before it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from bakeoff.runs.table import SampleTable

__version__ = "0.2.0"


def load(run: "str | Path", protocol: str | None = None) -> "SampleTable":
    """The sample table of a run's folder or a published one: frames `samples`, `checks` and `cells`.

    protocol: whose figures `cells` holds; default the run's first one. A damaged folder is an InputError.
    """
    from bakeoff.runs import table  # pandas is imported only when a table is asked for

    return table.load(run, protocol)
