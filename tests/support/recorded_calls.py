"""What solutions call in other libraries: the released signatures, as data with their source, and recorders in place of
the libraries and of the kernels."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import torch
from bakeoff.files import PROJECT_ROOT
from support.solution_support import make_inputs, module_of

FACTS = json.loads((PROJECT_ROOT / "tests/solutions/library_signatures.json").read_text())
SCHEMA = re.compile(r"[\w.]+\((?P<arguments>.*)\) -> \(\)")
GROUPED = ["route_tokens", "permute_rows", "gemm", "swiglu_rows", "gemm", "combine_rows"]


def facts_of(name: str) -> list[dict[str, Any]]:
    return [fact for fact in FACTS["functions"] if fact["name"] == name]


def signature(fact: dict[str, Any]) -> inspect.Signature:
    return inspect.Signature(
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY
            if name in fact.get("keyword_only", ())
            else inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=inspect.Parameter.empty if name in fact["required"] else None,
        )
        for name in fact["parameters"]
    )


def call_of(name: str, tokens: int):
    output = torch.full((tokens, 512), float("nan"), dtype=torch.bfloat16)
    return module_of(name, "common.checks").check_call(*make_inputs(tokens).values(), output)


def check_kinds(fact: dict[str, Any], arguments: dict[str, Any], sizes: dict[str, int]) -> None:
    """Each argument is of the type that the function's annotation names, and of the shape that its launcher takes."""
    kinds = {"torch.Tensor": torch.Tensor, "int": int, "float": float, "bool": bool}
    for name, value in arguments.items():
        annotation = fact["annotations"][name].removeprefix("Optional[").removesuffix("]")
        assert type(value) is kinds[annotation], f"{name}: {type(value).__name__}, where {annotation} is taken"
    for name, (dtype, shape) in fact["tensors"]["of"].items():
        assert str(arguments[name].dtype) == f"torch.{dtype}", name
        assert list(arguments[name].shape) == [
            eval(size.replace("/", "//"), {}, sizes) for size in shape.split(", ")
        ], name
        assert arguments[name].is_contiguous()
    assert set(fact["tensors"]["of"]) == {name for name, value in arguments.items() if isinstance(value, torch.Tensor)}
