"""The public data set's routing inputs: a flashinfer-trace checkout.

    definitions/<op_type>/<definition>.json
    workloads/<op_type>/<definition>.jsonl
    blob/workloads/<op_type>/<definition>/*.safetensors     routing_logits and routing_bias

Its other tensors are random, as here. Workloads are matched by (seq_len, local_expert_offset). Nothing is written.
"""

import functools
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from bakeoff.errors import InputError
from bakeoff.traces.models import Definition, Trace, Workload
from bakeoff.traces.store import Case, TraceRoot, case_id, read_case, read_traces

if TYPE_CHECKING:
    from torch import Tensor

ROUTING_INPUTS = ("routing_logits", "routing_bias")
# A checkout made without Git LFS holds these small texts in place of the blobs.
LFS_POINTER = b"version https://git-lfs"


class PublicDataset:
    """Reads a checkout of the data set; files are read when they are asked for, definitions and workloads once."""

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise InputError(
                path,
                found="no such folder",
                expected="a flashinfer-trace checkout (definitions/, workloads/, blob/)",
                hint="correct `dataset`, or set `dataset: synthetic`",
            )
        self.path = path
        self._root = TraceRoot(path)

    def routing_inputs(self, definition_name: str, seq_len: int, offset: int) -> "tuple[Tensor, Tensor]":
        """routing_logits (seq_len, 256) float32 and routing_bias (256,) bfloat16 of one workload, on the CPU."""
        definition, where, case = self._find(definition_name, seq_len, offset)
        logits, bias = (self._tensor(where, case.trace, definition, name) for name in ROUTING_INPUTS)
        return logits, bias

    def workload(self, definition_name: str, seq_len: int, offset: int) -> Workload:
        """The data set's own document of one workload."""
        return self._find(definition_name, seq_len, offset)[2].trace.workload

    @functools.cache  # noqa: B019 - a data set is read by processes that end with their block or verb
    def _workloads(self, definition_name: str) -> tuple[Definition, list[tuple[str, Case]]]:
        definition = self._root.definition(definition_name)
        traces = read_traces(self._root.workload_path(definition_name))
        return definition, [(where, read_case(where, trace, definition)) for where, trace in traces]

    def _find(self, definition_name: str, seq_len: int, offset: int) -> tuple[Definition, str, Case]:
        definition, cases = self._workloads(definition_name)
        found = [(where, case) for where, case in cases if (case.seq_len, case.offset) == (seq_len, offset)]
        if len(found) != 1:
            ids = ", ".join(sorted({case.id for _, case in cases}))
            raise InputError(
                self._root.workload_path(definition_name),
                found=" and ".join(
                    [f"{len(found)} workloads {case_id(seq_len, offset)}", *(where for where, _ in found)]
                ),
                expected=f"one; the file has {ids}",
                hint="list only workloads of the data set in the configuration, or use another revision of it",
            )
        return definition, *found[0]

    def _tensor(self, where: str, trace: Trace, definition: Definition, name: str) -> "Tensor":
        source = trace.workload.inputs.get(name)
        if source is None or source.path is None or source.tensor_key is None:
            raise InputError(
                f"{where}: field workload.inputs.{name}",
                found="nothing" if source is None else f"type {source.type}",
                expected="safetensors with path and tensor_key",
                hint="use the public data set, or set `dataset: synthetic`",
            )
        path = self._blob(where, name, source.path)
        tensor = _load(path, source.tensor_key)
        expected = (definition.shape(name, trace.workload.axes), f"torch.{definition.inputs[name].dtype}")
        if (tuple(tensor.shape), str(tensor.dtype)) != expected:
            raise InputError(
                f"{path}: tensor {source.tensor_key}",
                found=f"{tuple(tensor.shape)} {tensor.dtype}",
                expected=f"{expected[0]} {expected[1]}, as {where} and the definition say",
                hint="fetch the blob again",
            )
        if not bool(tensor.isfinite().all()):
            raise InputError(
                f"{path}: tensor {source.tensor_key}",
                found="values that are not finite",
                expected="finite numbers: nothing can be routed by others",
                hint="fetch the blob again, or leave the workload out",
            )
        return tensor

    def _blob(self, where: str, name: str, relative: str) -> Path:
        path = self.path / relative
        # By its own words: what is inside may be a link, into a hub's store or to a disk of its own.
        if relative.startswith("/") or os.path.normpath(relative).split("/")[0] == "..":
            raise InputError(
                f"{where}: field workload.inputs.{name}.path",
                found=relative[:200],
                expected=f"a file inside {self.path}",
                hint="correct the path; it is relative to the data set's folder",
            )
        try:
            is_there = stat.S_ISREG(path.stat().st_mode)
        except (OSError, ValueError):  # a name that no file can have is missing as well
            is_there = False
        if not is_there:
            raise InputError(
                f"{where}: field workload.inputs.{name}.path",
                found=f"{str(path)[:300]!r} does not exist",
                expected="the workload's blob",
                hint="fetch the data set with its large files (`git lfs pull`), or set `dataset: synthetic`",
            )
        return path


def _load(path: Path, key: str) -> "Tensor":
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as stream:
            pointer = stream.read(len(LFS_POINTER)) == LFS_POINTER
        if pointer:
            raise InputError(
                path,
                found="a Git LFS pointer, not the file itself",
                expected="a safetensors file",
                hint="run `git lfs pull` in the data set's folder",
            )
        with safe_open(path, framework="pt", device="cpu") as blob:
            if key not in blob.keys():  # noqa: SIM118  (not a mapping)
                raise InputError(path, f"tensors {sorted(blob.keys())}", f"a tensor {key}", "fetch the blob again")
            return blob.get_tensor(key)
    except (SafetensorError, OSError) as error:
        raise InputError(
            path,
            found=f"no readable safetensors file ({error})",
            expected="a safetensors file",
            hint="make it readable, or fetch the blob again",
        ) from error
