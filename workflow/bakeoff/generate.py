"""The verb `bakeoff generate`: everything that is generated from the models, written or checked for drift.

Generated: workflow/schemas/*.json, the key table in config/README.md, the tables of docs/numerics.md, README's table
and picture of the recorded runs, and in traces/ the definitions with their embedded reference and the workloads'
routing statistics.
"""

import argparse
import ast
import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from bakeoff.errors import CheckFailed
from bakeoff.files import PROJECT_ROOT, pretty_json, replace_marked, write_atomic

# schema file: (module, model)
MODELS = {
    "config": ("bakeoff.config", "Config"),
    "solution": ("bakeoff.build.spec", "SolutionSpec"),
    "build": ("bakeoff.schema.build", "BuildRecord"),
    "plan": ("bakeoff.schema.plan", "Plan"),
    "host": ("bakeoff.schema.host", "Host"),
    "sample": ("bakeoff.schema.sample", "Record"),
    "profile": ("bakeoff.schema.profile", "SolutionProfile"),
    "explanations": ("bakeoff.schema.explanations", "Explanations"),
    "claims": ("bakeoff.schema.claims", "Claims"),
    "analysis": ("bakeoff.schema.analysis", "Analysis"),
    "judgement": ("bakeoff.schema.evidence", "SubmissionJudgement"),
    "statement": ("bakeoff.schema.evidence", "Statement"),
}


def generate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a generated file is not current")


def generate(args: argparse.Namespace) -> int:
    current = dict(generated())
    stale = [path for path, content in current.items() if not path.is_file() or path.read_bytes() != content]
    if args.check and stale:
        names = ", ".join(path.relative_to(PROJECT_ROOT).as_posix() for path in stale)
        raise CheckFailed(f"not current: {names}\n  to do:    make generate, then commit the files")
    for path in stale:
        write_atomic(path, current[path])
        print(f"wrote {path.relative_to(PROJECT_ROOT)}")
    return 0


def generated() -> Iterator[tuple[Path, bytes]]:
    """(file, what it must hold) for every generated file."""
    for name, (module, model) in MODELS.items():
        schema = described(getattr(importlib.import_module(module), model))
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
        yield PROJECT_ROOT / f"workflow/schemas/{name}.schema.json", pretty_json(schema)
    yield _config_page()
    from bakeoff.verify import page as verify_page

    yield verify_page.generated()
    from bakeoff.report import readme

    yield from readme.generated()
    yield from _trace_files()


def described(model: type[BaseModel]) -> dict[str, Any]:
    """A model's JSON Schema; the text under a field is its description."""
    return model.model_json_schema(by_alias=True, schema_generator=_Described)


class _Described(GenerateJsonSchema):
    """Reads the texts off the sources, which every import would pay for if pydantic did it."""

    def model_schema(self, schema: Any) -> dict[str, Any]:
        return _with_texts(schema["cls"], super().model_schema(schema))

    def dataclass_schema(self, schema: Any) -> dict[str, Any]:
        return _with_texts(schema["cls"], super().dataclass_schema(schema)) | {"additionalProperties": False}


def _with_texts(row: type, made: dict[str, Any]) -> dict[str, Any]:
    aliases = {name: field.alias for name, field in getattr(row, "model_fields", {}).items()}
    for one in row.__mro__:
        if one.__module__.startswith("bakeoff."):
            for name, text in _texts_under_fields(one):
                made["properties"][aliases.get(name) or name].setdefault("description", text)
    return made


def _texts_under_fields(model: type) -> Iterator[tuple[str, str]]:
    body = ast.parse(inspect.getsource(model)).body[0].body  # type: ignore[attr-defined]
    for field, text in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            yield field.target.id, " ".join(text.value.value.split())  # type: ignore[attr-defined,union-attr]


def _trace_files() -> Iterator[tuple[Path, bytes]]:
    """The definitions with their reference, and the workload lines with their seed and routing figures."""
    from bakeoff.core.moe.geometry import Geometry
    from bakeoff.core.moe.inputs import routing_seed, routing_stats
    from bakeoff.traces import definitions
    from bakeoff.traces.models import RoutingStats
    from bakeoff.traces.store import Case, TraceRoot

    def routing_of(definition: str, case: Case) -> tuple[int, RoutingStats]:
        geometry = Geometry.of(TraceRoot(definitions.TRACES).definition(definition))
        seed = routing_seed(geometry, case)
        return seed, routing_stats(geometry, dataclasses.replace(case, seed=seed))

    files = definitions.definition_files() | definitions.workload_files(routing_of)
    for name, content in files.items():
        yield definitions.TRACES / name, content


def _config_page() -> tuple[Path, bytes]:
    """config/README.md with its table of keys made from the model; the text around the table is written by hand."""
    path = PROJECT_ROOT / "config/README.md"
    return path, replace_marked(path.read_text(encoding="utf-8"), "keys", _key_table(), path).encode()


def _key_table() -> str:
    from bakeoff.config import Config
    from bakeoff.tables.text import markdown

    schema = described(Config)
    rows = [
        [f"`{key}`", _kind(field, schema), _default(key), field.get("description", "")]
        for key, field in schema["properties"].items()
    ]
    return markdown(["key", "values", "default", "meaning"], rows)


def _default(key: str) -> str:
    from bakeoff.config import Config

    value = Config.model_fields[key].get_default(call_default_factory=True)
    shown = value.model_dump() if hasattr(value, "model_dump") else value
    return "`null`" if shown is None else f"`{shown}`"


def _kind(field: dict[str, Any], schema: dict[str, Any]) -> str:
    """The allowed values of a field, in words."""
    if "$ref" in field:
        target = schema["$defs"][field["$ref"].rsplit("/", 1)[1]]
        inner = "; ".join(f"`{name}`: {_kind(part, schema)}" for name, part in target["properties"].items())
        return f"mapping ({inner})"
    if "anyOf" in field:
        return " or ".join(_kind(option, schema) for option in field["anyOf"])
    if "enum" in field or "const" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        return f"list of {_kind(field['items'], schema)}"
    bounds = [f"{sign} {field[name]}" for name, sign in (("minimum", "≥"), ("maximum", "≤")) if name in field]
    kind = field.get("type", "any")
    return " ".join([{"string": "text", "integer": "whole number", "null": "`null`"}.get(kind, kind), *bounds])
