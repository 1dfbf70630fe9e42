"""Reading and writing files: canonical JSON, YAML, digests, atomic writes, and validation errors that name the place.

Side effects: `write_atomic` creates parent folders, and leaves either the old file or the whole new one, also after a
power cut.
"""

import contextlib
import csv
import datetime
import difflib
import errno
import hashlib
import io
import json
import math
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from bakeoff.errors import InputError

Model = TypeVar("Model", bound=BaseModel)

# The checkout: the package is always run from it (workflow/bakeoff), never copied elsewhere.
PROJECT_ROOT = Path(__file__).resolve().parents[2]


def canonical_json(value: Any) -> bytes:
    """One spelling per value: sorted keys, no spaces, ASCII. NaN and infinity are refused (ValueError)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def pretty_json(value: Any) -> bytes:
    """Readable and still deterministic: sorted keys, two spaces, final newline. NaN and infinity are refused."""
    return (json.dumps(value, sort_keys=True, indent=2, allow_nan=False) + "\n").encode("ascii")


def model_json(document: BaseModel) -> bytes:
    """A stored document as its file holds it."""
    return pretty_json(document.model_dump(mode="json", by_alias=True))


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    return sha256_bytes(path.read_bytes())


def sha256_tree(root: Path, files: Iterable[Path]) -> str:
    """Digest of the relative names and the contents of `files`; the order of the argument does not matter."""
    entries = sorted((path.relative_to(root).as_posix(), sha256_file(path)) for path in files)
    return sha256_bytes(canonical_json(entries))


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a restart after a crash, sees the old content or all of the new."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):  # a file in place of the folder fails here too
            temporary.unlink(missing_ok=True)
        raise unwritable(path, error) from error


def remove_tree(folder: Path) -> None:
    """Delete a folder that foreign code has written to: of any depth, with any modes inside."""
    for command in (["rm", "-rf"], ["chmod", "-R", "u+rwx"], ["rm", "-rf"]):
        if os.path.lexists(folder):  # a link counts, whatever it leads to
            subprocess.run([*command, "--", str(folder)], capture_output=True, check=False)


def sync_folder(folder: Path) -> None:
    """Make a rename or a new file in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_marked(text: str, name: str, made: str, where: Path) -> str:
    """A page whose part between `<!-- NAME -->` and `<!-- end NAME -->` is replaced; the rest is written by hand."""
    start, end = f"<!-- {name} -->", f"<!-- end {name} -->"
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed) or start in rest or end in after:
        marks = f"not exactly one {start} ... {end}"
        raise InputError(where, marks, "one place for what is generated", "restore the marks")
    return f"{before}{start}\n{made}\n{end}{after}"


def require_room(folder: Path, megabytes: int) -> None:
    """Refuse a folder that cannot be written, or whose disk has too little space; nothing is written to find out."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise unwritable(folder, NotADirectoryError(errno.ENOTDIR, f"{there} is a file"))
    if not os.access(there, os.W_OK | os.X_OK):
        raise unwritable(folder, PermissionError(errno.EACCES, f"{there} is read-only here"))
    free = shutil.disk_usage(there).free // 1_000_000
    if free < megabytes:
        raise InputError(
            folder,
            found=f"{free} MB free on its disk",
            expected=f"at least {megabytes} MB",
            hint="free space, then run the same command again: finished cells are kept",
        )


def unwritable(path: str | Path, error: OSError) -> InputError:
    """The error for a place that cannot be written: full disk, no permission, read-only, a file in the way."""
    return InputError(
        path,
        found=f"cannot write: {error.strerror or error}",
        expected="a writable place with free space",
        hint="free space or change the permissions, then run the same command again: finished cells are kept",
    )


def read_bytes(path: Path) -> bytes:
    """The file's content; a missing or unreadable file is an InputError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            path,
            found=f"cannot read: {error.strerror or error}",
            expected="a readable file",
            hint="check the path, or make the file with the step that writes it (`bakeoff --help` lists the steps)",
        ) from error


# The reader's time grows with the square of the depth: half a second for 5,000. No document here needs more openings.
MOST_NESTED = 2000


class _UniqueKeys(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML in which a key may stand only once: a second one would silently replace the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if repeated := [key for index, key in enumerate(keys) if key in keys[:index]]:
            said = f"the key {repeated[0]!r} stands twice"
            raise yaml.constructor.ConstructorError(None, None, said, node.start_mark)
        return dict(super().construct_mapping(node, deep))


def yaml_document(path: Path) -> Any:
    """One YAML document, not yet validated; what is no YAML, or a key that stands twice, is an InputError."""
    data = read_bytes(path)
    try:
        if any(data.count(opening) > MOST_NESTED for opening in (b"[", b"{", b"- - ", b"? ")):
            raise yaml.YAMLError(f"more than {MOST_NESTED} lists or mappings are opened")
        return yaml.load(data, Loader=_UniqueKeys)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError, TypeError, AttributeError) as error:
        found = f"not YAML: {' '.join(str(error).split())}"
        raise InputError(path, found, expected="a YAML mapping", hint="correct the file") from error


def yaml_mapping(path: Path) -> dict[Any, Any]:
    """One YAML mapping, not yet validated; an empty file is an empty one."""
    document = yaml_document(path)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise InputError(path, found=_found(document), expected="a YAML mapping", hint="correct the file")
    return document


def read_yaml(path: Path, model: type[Model]) -> Model:
    """One YAML document, validated; errors name the file and the field."""
    return validate(yaml_document(path), model, path)


def read_json(path: Path, model: type[Model]) -> Model:
    """One JSON document, validated; errors name the file, the field, what was found and what was expected."""
    return parse_json(read_bytes(path), model, path)


def read_jsonl(path: Path, model: type[Model]) -> list[Model]:
    """One validated document per non-empty line; errors name file:line."""
    lines = read_bytes(path).split(b"\n")
    return [parse_json(line, model, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]


def parse_json(data: bytes, model: type[Model], where: str | Path) -> Model:
    """Validate one document; `where` is what an error names first."""
    return validate(json_document(data, where), model, where)


class NotFiniteError(ValueError):
    """A JSON text has a number that is none, or beyond double precision or 64 bits; names its field."""

    def __init__(self, field: tuple[str, ...], found: str) -> None:
        super().__init__(f"{found} in field {'.'.join(field)}")
        self.field, self.found = ".".join(field), found


def json_document(data: bytes, where: str | Path) -> Any:
    """One JSON document, not yet validated; what `strict_json` refuses is an InputError."""
    try:
        return strict_json(data)
    except NotFiniteError as error:
        raise InputError(
            f"{where}: field {error.field}",
            found=error.found,
            expected="a finite number: no figure may rest on another",
            hint="restore the file, or delete it and run the step that writes it",
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            where,
            found=f"not JSON ({error}): {data[:60]!r}",
            expected="one JSON document" + (" per line" if ":" in str(where) else ""),
            hint="restore the file, or delete it and run the step that writes it",
        ) from error


# Only numbers like these can be beyond a float or be whole ones of more than 20 digits.
_HUGE = re.compile(rb"[eE]\+?\d{3}|\d{20}")


def strict_json(data: bytes) -> Any:
    """The value of a JSON text. ValueError or RecursionError for what is none, or would be read as something else:
    numbers that are not finite, and keys that stand twice, of which the first would be dropped in silence."""
    strange: list[str] = []

    def number(text: str) -> float | int:
        if text.lstrip("-").isdigit() and len(text) <= 20:
            return int(text)
        value = math.nan if text.lstrip("-").isdigit() else float(text)
        if not math.isfinite(value):
            strange.append(text[:40])
        return value

    each = number if _HUGE.search(data) else None  # a call for each number takes as long as all the rest
    value = json.loads(data, parse_constant=number, parse_float=each, parse_int=each, object_pairs_hook=_mapping)
    if strange:
        raise NotFiniteError(_not_finite(value) or (), strange[0])
    return value


def _not_finite(value: Any) -> tuple[str, ...] | None:
    """The place of the first number that is none."""
    if isinstance(value, float):
        return None if math.isfinite(value) else ()
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    inner = ((str(key), _not_finite(part)) for key, part in parts)
    return next(((key, *place) for key, place in inner if place is not None), None)


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice")
    return found


PLAIN_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def plain_number(text: str) -> float:
    """A number as any program writes it, in ASCII digits with a decimal point; ValueError for anything else that Python
    would take (`1_000`, other scripts' digits, blanks, infinity)."""
    if not PLAIN_NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise ValueError(f"no plain number: {text[:40]!r}")
    return float(text)


def csv_rows(text: str, where: str | Path) -> list[list[str]]:
    """The rows of a CSV text, a byte order mark left out; what is no CSV is an InputError."""
    try:
        return list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True))
    except csv.Error as error:
        raise InputError(where, f"not CSV ({error})", "rows of fields of at most 128 KB", "restore the file") from error


def validate(value: Any, model: type[Model], where: str | Path) -> Model:
    """Validate a parsed document against a pydantic model, wording the first failure as an InputError."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _worded(error, value, where, model) from error


# A dataclass's failures, in the words for a model's.
_OF_ROWS = {
    "unexpected_keyword_argument": "extra_forbidden",
    "missing_argument": "missing",
    "missing_keyword_only_argument": "missing",
    "dataclass_type": "model_type",
}


def _worded(error: ValidationError, value: Any, where: str | Path, model: type[BaseModel]) -> InputError:
    """The first field at fault, an unknown one before a missing one: a misspelt key makes both. What fits none of
    several types has one failure per type: together they say what is expected."""
    found = [{**flaw, "type": _OF_ROWS.get(flaw["type"], flaw["type"])} for flaw in error.errors()]
    unknown = [flaw for flaw in found if flaw["type"] == "extra_forbidden"]
    flaws = [(_field(flaw, value), flaw) for flaw in unknown + [flaw for flaw in found if flaw not in unknown]]
    # A list with a bad entry also "is not 'all'": the entry is what is wrong.
    fields = list(dict.fromkeys(field for field, _ in flaws if not any(_inside(other, field) for other, _ in flaws)))
    first = [flaw for field, flaw in flaws if field == fields[0]]
    more = f" (and {len(fields) - 1} more)" if len(fields) > 1 else ""
    return InputError(
        f"{where}: field {'.'.join(map(str, fields[0])) or '(the document)'}{more}",
        found="nothing" if first[0]["type"] == "missing" else _found(first[0]["input"]),
        expected=_expected_key(fields[0], found, model)
        if first[0]["type"] == "extra_forbidden"
        else " or ".join(dict.fromkeys(map(_expected, first))),
        hint="the file is of another version of bakeoff: make it again with the step that writes it"
        if fields[0] == ("schema",)
        else "correct the field; workflow/schemas/ holds every format and config/README.md every configuration key",
    )


def _field(flaw: Any, value: Any) -> tuple[int | str, ...]:
    """The place of a failure in the document; the validator also names the types that it tried, which are no part of
    it."""
    field: list[int | str] = []
    for part in flaw["loc"]:
        if (isinstance(value, dict) and part in value) or (isinstance(value, list) and part in range(len(value))):
            field.append(part)
            value = value[part]
    return (*field, flaw["loc"][-1]) if flaw["type"] == "missing" else tuple(field)


def _inside(field: tuple[int | str, ...], other: tuple[int | str, ...]) -> bool:
    return len(field) > len(other) and field[: len(other)] == other


def _found(value: Any) -> str:
    """A value as its file's writer knows it: YAML makes nothing of an empty value, and a date of what looks like
    one."""
    if value is None:
        return "an empty value"
    if isinstance(value, datetime.date):
        return f"{value} (a date, unless it stands in quotes)"
    try:
        return repr(value)[:200]
    except RecursionError:
        return "values nested too deeply to show"


def _expected_key(field: tuple[int | str, ...], flaws: Any, model: type[BaseModel]) -> str:
    """In place of an unknown key: the known one that it resembles, first of those that are missing beside it."""
    *place, key = field
    missing = [str(flaw["loc"][-1]) for flaw in flaws if flaw["type"] == "missing" and _beside(flaw["loc"], place)]
    for names in (missing, _keys(model.model_json_schema(by_alias=True))):
        alike = difflib.get_close_matches(str(key), names, n=1)
        if alike:
            return f"no such field; did you mean {alike[0]}?"
    return "no such field"


def _beside(location: Sequence[int | str], place: list[int | str]) -> bool:
    """Whether a failure is in the mapping at `place`; its location may also name types, which are no part of that."""
    parts = iter(location[:-1])
    return all(part in parts for part in place)


def _keys(schema: Any) -> list[str]:
    """Every field's name in a JSON Schema."""
    if isinstance(schema, list):
        return [key for part in schema for key in _keys(part)]
    if not isinstance(schema, dict):
        return []
    own = schema.get("properties")
    return [*(own if isinstance(own, dict) else ()), *(key for part in schema.values() for key in _keys(part))]


def _expected(flaw: Any) -> str:
    context = flaw.get("ctx", {})
    text = {
        "extra_forbidden": "no such field",
        "missing": "this field",
        "string_pattern_mismatch": f"text that matches {context.get('pattern')}",
        "string_too_short": "text that is not empty",
        "string_too_long": f"text of at most {context.get('max_length')} characters",
        "too_short": f"at least {context.get('min_length')} of them",
    }.get(flaw["type"], str(flaw["msg"]))
    return text.removeprefix("Input should be ").removeprefix("Value error, ")
