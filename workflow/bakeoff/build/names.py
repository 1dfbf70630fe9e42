"""Solutions and workloads by the names that people use: a folder's name, a label of the reports, a path; an id, or its
number of tokens where that is unique.

Entry points: `solution_folder`, `workload_id`.
"""

from collections.abc import Iterable
from pathlib import Path

from bakeoff.build.spec import SPEC_FILE, read_spec
from bakeoff.errors import InputError
from bakeoff.options import closest


def solution_folder(given: str, root: Path) -> Path:
    """The folder of a solution: a path to one, or a name or label below `root`. Unknown ones are InputErrors."""
    if (Path(given) / SPEC_FILE).is_file():
        return Path(given).resolve()
    if (root / given / SPEC_FILE).is_file():
        return (root / given).resolve()
    names = sorted(path.parent.name for path in root.glob(f"[!_.]*/{SPEC_FILE}"))
    labels = {label: name for name in names if (label := _label(root / name))}
    if given in labels:
        return (root / labels[given]).resolve()
    raise InputError(
        "solution",
        found=given,
        expected=f"one of {', '.join(names)}, a label of the reports, or a path to a solution's folder",
        hint=closest(given, [*names, *labels], "correct the name, or make the folder with `bakeoff new-solution NAME`"),
    )


def _label(folder: Path) -> str | None:
    try:
        return read_spec(folder).label
    except InputError:  # a flaw in a neighbour is not the fault of the one that is asked for
        return None


def workload_id(given: str, ids: Iterable[str]) -> str:
    """The id of a workload: itself, or what begins with its number of tokens (901 or T901 for T901_o96); those whose
    routing has a name stand behind the others."""
    there = list(ids)
    tokens = given.removeprefix("T").replace(",", "")
    found = [one for one in there if one == given or one.split("_")[0] == f"T{tokens}"]
    if given in there:
        return given
    found = [one for one in found if one.count("_") == 1] or found
    if len(found) == 1:
        return found[0]
    raise InputError(
        "option --workload",
        found=given + (f", which is {' and '.join(found)}" if found else ""),
        expected=f"one of {', '.join(there)}, or its number of tokens where that is unique",
        hint="name one of the two" if found else closest(given, [*there, *(one.split("_")[0][1:] for one in there)]),
    )
