"""`bakeoff new-solution`: a copy of solutions/_template/ under a name of its own, whose cpu backend passes at once."""

from __future__ import annotations

import json
import keyword
import re
import shutil
from pathlib import Path

from bakeoff.build.spec import NAME_PATTERN, RESERVED, SPEC_FILE, SolutionSpec, read_spec
from bakeoff.errors import InputError
from bakeoff.files import unwritable

TEMPLATE = "_template"


def new_solution(root: Path, name: str, role: str, author: str) -> SolutionSpec:
    """Make `root`/`name`; an existing folder, or a name that cannot be one, is an InputError and changes nothing."""
    if not re.fullmatch(NAME_PATTERN, name) or name in RESERVED or keyword.iskeyword(name):
        raise InputError(
            "NAME",
            found=name,
            expected=f"lower-case letters, digits and underscores, a letter first, at most 64; no Python keyword, "
            f"none of {', '.join(RESERVED)}",
            hint="choose another name",
        )
    folder = root / name
    if folder.exists():
        raise InputError(
            folder, found="it exists", expected="a new name", hint="choose another name, or edit that folder"
        )
    if not (root / TEMPLATE / SPEC_FILE).is_file():
        raise InputError(
            root / TEMPLATE,
            found="no template there",
            expected="the folder that a solution is made from",
            hint="correct --into",
        )
    _copy(root / TEMPLATE, folder, {"NAME": name, "ROLE": role, "AUTHOR": author})
    return read_spec(folder)


def _copy(template: Path, folder: Path, values: dict[str, str]) -> None:
    """Copy beside the target and rename, so that an interrupted copy is no half solution."""
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(template, partial, ignore=shutil.ignore_patterns("__pycache__"))
        spec = partial / SPEC_FILE
        text = spec.read_text(encoding="utf-8")
        for key, value in values.items():
            # A JSON string is a YAML string, whatever the author's name contains.
            text = text.replace(f": {key}\n", f": {json.dumps(value, ensure_ascii=False)}\n")
        spec.write_text(text, encoding="utf-8")
        partial.rename(folder)
    except OSError as error:
        raise unwritable(folder, error) from error
