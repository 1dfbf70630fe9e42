"""The flashinfer-trace formats: definition, workload, solution, trace.

The models accept what FlashInfer-Bench 0.1.2 (`flashinfer_bench.data`) writes, and refuse what it refuses. Fields that
they do not know are kept and written back, so that a file survives a round trip. `document` and `line` write them: only
the fields that were set, and with the order of every mapping kept: the order of a definition's inputs is the kernel's
interface.
"""

import ast
import json
import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt, field_validator, model_validator

Text = Annotated[str, Field(min_length=1)]
Count = Annotated[StrictInt, Field(ge=0)]


class Format(BaseModel):
    """Base of all documents. Unknown fields are kept; the text under a field is its description in the JSON Schema."""

    model_config = ConfigDict(extra="allow")


class DType(StrEnum):
    """Element types that a definition may name."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT8_E4M3FN = "float8_e4m3fn"
    FLOAT8_E5M2 = "float8_e5m2"
    FLOAT4_E2M1 = "float4_e2m1"
    INT64 = "int64"
    INT32 = "int32"
    INT16 = "int16"
    INT8 = "int8"
    BOOL = "bool"


class Axis(Format):
    """An axis, whose length the definition fixes (const) or each workload sets (var)."""

    type: Literal["const", "var"] | None = None
    """Null where FlashInfer-Bench left it to the value."""
    value: Count | None = None
    """Length of the axis; null for one that each workload sets."""
    description: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.type is not None and (self.type == "const") != (self.value is not None):
            raise ValueError("a const axis has a value, a var axis has none")
        return self


class TensorSpec(Format):
    """Shape and element type of one input or output."""

    shape: list[Text] | None
    """Names of the axes, outermost first; null for a Python scalar."""
    dtype: DType
    """Element type."""
    description: str | None = None


class Definition(Format):
    """A computation: its axes, inputs, outputs and a runnable reference."""

    name: Text
    """Unique name; also the name of its files."""
    op_type: Text
    """Family of operations; the folder under definitions/ and workloads/."""
    axes: dict[Text, Axis]
    """Every axis that a shape names."""
    inputs: dict[Text, TensorSpec]
    """Inputs in the order in which a kernel takes them."""
    outputs: dict[Text, TensorSpec]
    """Outputs in the order in which a kernel takes them, after the inputs."""
    reference: Text
    """Python source with a function `run` that takes the inputs and returns the outputs."""
    tags: list[Text] = Field(default_factory=list)
    """Words for filtering."""
    description: str | None = None
    constraints: list[Text] = Field(default_factory=list)
    """Python expressions over the axes that hold for every workload."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        overlap = self.inputs.keys() & self.outputs.keys()
        if overlap:
            raise ValueError(f"inputs and outputs share the names {sorted(overlap)}")
        for name, tensor in (self.inputs | self.outputs).items():
            unknown = [axis for axis in tensor.shape or [] if axis not in self.axes]
            if unknown:
                raise ValueError(f"tensor {name} has the axes {unknown}, which `axes` does not define")
        for constraint in self.constraints:
            _parsed(constraint, "eval", "constraints")
        functions = [
            node for node in _parsed(self.reference, "exec", "reference").body if isinstance(node, ast.FunctionDef)
        ]
        if not any(function.name == "run" for function in functions):
            raise ValueError("reference must define a function `run` at top level")
        return self

    def length(self, axis: str) -> int:
        """Length of a constant axis; KeyError for an unknown one, ValueError for a variable one."""
        found = self.axes[axis]
        if found.value is None:
            raise ValueError(f"axis {axis} of {self.name} is variable")
        return found.value

    def shape(self, tensor: str, axes: dict[str, int]) -> tuple[int, ...] | None:
        """Shape of an input or output, given the variable axes' lengths; None for a scalar."""
        names = (self.inputs | self.outputs)[tensor].shape
        return None if names is None else tuple(axes[name] if name in axes else self.length(name) for name in names)


def _parsed(source: str, mode: Literal["exec", "eval"], field: str) -> Any:
    try:
        return ast.parse(source, mode=mode)
    except SyntaxError as error:
        raise ValueError(f"{field} is not valid Python: {error}") from error


class Input(Format):
    """Where an input's values come from: whoever runs the workload draws them (random), a number (scalar), a file."""

    type: Literal["random", "scalar", "safetensors"] | None = None
    """Null where FlashInfer-Bench left it to the other fields."""
    value: int | float | bool | None = None
    """The number of a scalar."""
    path: Text | None = None
    """The safetensors file, relative to the data set's root."""
    tensor_key: Text | None = None
    """The tensor's name inside the file."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        kind = "scalar" if self.value is not None else "random" if self.path is None else "safetensors"
        if self.type not in (None, kind) or (self.path is None) != (self.tensor_key is None):
            raise ValueError("scalar has a value, safetensors a path and a tensor_key, random none of these")
        return self


class Workload(Format):
    """One set of inputs of a definition."""

    axes: dict[str, Count]
    """Lengths of the variable axes."""
    inputs: dict[str, Input]
    """Where each input's values come from."""
    uuid: Text
    """Unique identifier."""


class Correctness(Format):
    """How far an output is from the reference's."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    max_relative_error: float = 0.0
    """Largest |output - reference| / (|reference| + 1e-8); not a number if the output is not."""
    max_absolute_error: float = 0.0
    """Largest |output - reference|."""
    extra: dict[str, Any] | None = None
    """More metrics, such as the matched ratio."""

    @field_validator("max_relative_error", "max_absolute_error")
    @classmethod
    def _not_negative(cls, value: float) -> float:
        if not math.isnan(value) and value < 0:
            raise ValueError("an error is at least 0, or not a number")
        return value


class Performance(Format):
    """Time of the solution and of the reference."""

    latency_ms: Annotated[float, Field(ge=0)] = 0.0
    """Time of one call of the solution, milliseconds."""
    reference_latency_ms: Annotated[float, Field(ge=0)] = 0.0
    """Time of one call of the reference, milliseconds."""
    speedup_factor: Annotated[float, Field(ge=0)] = 0.0
    """reference_latency_ms / latency_ms."""


class Environment(Format):
    """Where an evaluation ran."""

    hardware: Text
    """Name of the device."""
    libs: dict[str, str] = Field(default_factory=dict)
    """Versions of the libraries."""


class Status(StrEnum):
    """Outcomes that FlashInfer-Bench knows."""

    PASSED = "PASSED"
    INCORRECT_SHAPE = "INCORRECT_SHAPE"
    INCORRECT_NUMERICAL = "INCORRECT_NUMERICAL"
    INCORRECT_DTYPE = "INCORRECT_DTYPE"
    RUNTIME_ERROR = "RUNTIME_ERROR"
    COMPILE_ERROR = "COMPILE_ERROR"
    TIMEOUT = "TIMEOUT"


class Evaluation(Format):
    """What came out of running a solution on a workload."""

    status: Status
    """The outcome."""
    environment: Environment
    timestamp: Text
    """When, ISO 8601."""
    log: str = ""
    """What the run printed."""
    correctness: Correctness | None = None
    """There with PASSED and INCORRECT_NUMERICAL, and only then."""
    performance: Performance | None = None
    """There with PASSED, and only then."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        expected = {
            "correctness": self.status in (Status.PASSED, Status.INCORRECT_NUMERICAL),
            "performance": self.status == Status.PASSED,
        }
        for field, needed in expected.items():
            if (getattr(self, field) is not None) != needed:
                raise ValueError(f"{field} must {'' if needed else 'not '}be there when status is {self.status}")
        return self


class Trace(Format):
    """A workload of a definition, and, unless it is a workload line, a solution's evaluation on it."""

    definition: Text
    """Name of the definition."""
    workload: Workload
    solution: str | None = None
    """Name of the solution; null in a workload line."""
    evaluation: Evaluation | None = None
    """Null in a workload line."""

    def is_workload(self) -> bool:
        return self.solution is None and self.evaluation is None


class SourceFile(Format):
    """One file of a solution."""

    path: Text
    """Path inside the solution's package."""
    content: Text
    """The whole text."""

    @field_validator("path")
    @classmethod
    def _inside(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError("a source path is relative and has no '..'")
        return value


class BuildSpec(Format):
    """How to build and call a solution."""

    language: Literal["python", "triton", "cpp", "cuda", "tilelang"]
    """Which of FlashInfer-Bench's builders takes it."""
    target_hardware: Annotated[list[str], Field(min_length=1)]
    """Hardware that it runs on."""
    entry_point: Text
    """`file::function`."""
    dependencies: list[Text] = Field(default_factory=list)
    """Packages that it needs."""
    destination_passing_style: bool = True
    """Whether it takes preallocated outputs after the inputs."""
    binding: Literal["tvm-ffi", "torch"] | None = None
    """How C++ and CUDA sources are bound; null for Python."""

    @field_validator("entry_point")
    @classmethod
    def _two_parts(cls, value: str) -> str:
        if value.count("::") != 1:
            raise ValueError("an entry point is <file>::<function>")
        return value


class Solution(Format):
    """A packed implementation of a definition: every source file in one document."""

    name: Text
    """Unique name."""
    definition: Text
    """Name of the definition that it implements."""
    author: Text
    spec: BuildSpec
    sources: Annotated[list[SourceFile], Field(min_length=1)]
    """All files."""
    description: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        paths = [source.path for source in self.sources]
        repeated = sorted({path for path in paths if paths.count(path) > 1})
        if repeated:
            raise ValueError(f"sources name {repeated} more than once")
        if self.entry_file not in paths:
            raise ValueError(f"the entry point's file {self.entry_file} is not among the sources {sorted(paths)}")
        return self

    @property
    def entry_file(self) -> str:
        return self.spec.entry_point.split("::")[0]


@dataclass(frozen=True)
class RoutingStats:
    """How much work a workload's routing gives the local experts."""

    local_pairs: Count
    """Number of (token, local expert) pairs: the rows of both grouped GEMMs, without padding."""
    active_tokens: Count
    """Tokens with at least one local expert."""
    active_experts: Count
    """Local experts with at least one token."""


def document(model: Format) -> bytes:
    """A file's bytes: two spaces of indentation, fields in the order they were set, final newline."""
    return (json.dumps(_plain(model), indent=2, allow_nan=False) + "\n").encode("ascii")


def line(model: Format) -> bytes:
    """One line of a .jsonl file, with its newline."""
    return (json.dumps(_plain(model), allow_nan=False) + "\n").encode("ascii")


def _plain(model: Format) -> Any:
    return json.loads(model.model_dump_json(exclude_unset=True))
