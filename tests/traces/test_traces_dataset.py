"""Reading the public data set's layout, on a small checkout that the tests make with FlashInfer-Bench itself."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bakeoff.errors import InputError
from bakeoff.traces.dataset import PublicDataset, _load
from flashinfer_bench.data import Trace, TraceSet
from safetensors.torch import save_file
from support.minimal_traces import NARROW, moe_line, moe_root

PAIRS = ((3, 32), (3, 64), (130, 224))


def routing(seq_len: int, offset: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1000 * seq_len + offset)
    return {
        "routing_logits": torch.randn(seq_len, 256, generator=generator),
        "routing_bias": torch.randn(256, generator=generator).to(torch.bfloat16),
    }


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """definitions/, workloads/<op_type>/<definition>.jsonl and blob/workloads/..., written by FlashInfer-Bench."""
    moe_root(tmp_path, "")
    trace_set = TraceSet.from_path(str(tmp_path))
    for seq_len, offset in PAIRS:
        line = moe_line(seq_len, offset)
        path = trace_set.add_workload_blob_tensor(NARROW, line["workload"]["uuid"], routing(seq_len, offset))
        for name in routing(seq_len, offset):
            line["workload"]["inputs"][name] = {"type": "safetensors", "path": f"./{path}", "tensor_key": name}
        line["workload"]["inputs"]["hidden_states"] = {"type": "random"}
        trace_set.add_workload_traces([Trace.model_validate(line)])
    return tmp_path


@pytest.mark.parametrize("pair", PAIRS)
def test_routing_inputs_are_found_by_length_and_offset(checkout: Path, pair: tuple[int, int]) -> None:
    logits, bias = PublicDataset(checkout).routing_inputs(NARROW, *pair)
    expected = routing(*pair)
    assert logits.dtype == torch.float32 and bias.dtype == torch.bfloat16
    assert torch.equal(logits, expected["routing_logits"]) and torch.equal(bias, expected["routing_bias"])


def change_line(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the workload (3, 64), which is line 2."""
    path = root / f"workloads/moe/{NARROW}.jsonl"
    lines = path.read_text().splitlines()
    document = json.loads(lines[1])
    change(document)
    path.write_text("\n".join([lines[0], json.dumps(document), *lines[2:]]) + "\n")


def blob(root: Path) -> Path:
    return next((root / f"blob/workloads/moe/{NARROW}").glob("*by-hand-3-64.safetensors"))


def replace_blob(root: Path, **tensors: torch.Tensor) -> None:
    save_file(routing(3, 64) | tensors, blob(root))


def _source(line: dict[str, Any], name: str = "routing_logits") -> dict[str, Any]:
    return line["workload"]["inputs"][name]  # type: ignore[no-any-return]


SPOILT: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "missing blob": (
        lambda root: blob(root).unlink(),
        (".jsonl:2", "routing_logits.path", "does not exist", "lfs pull"),
    ),
    "pointer in place of a blob": (
        lambda root: blob(root).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        ("3-64.safetensors", "LFS pointer", "git lfs pull"),
    ),
    "truncated blob": (
        lambda root: os.truncate(blob(root), 2000),
        ("3-64.safetensors", "no readable safetensors file"),
    ),
    "tensor missing": (
        lambda root: save_file({"other": torch.zeros(2)}, blob(root)),
        ("3-64.safetensors", "['other']", "a tensor routing_logits"),
    ),
    "wrong length": (
        lambda root: replace_blob(root, routing_logits=torch.zeros(4, 256)),
        ("3-64.safetensors", "(4, 256)", "(3, 256)"),
    ),
    "wrong number of experts": (
        lambda root: replace_blob(root, routing_bias=torch.zeros(255, dtype=torch.bfloat16)),
        ("routing_bias", "(255,)", "(256,)"),
    ),
    "wrong type": (
        lambda root: replace_blob(root, routing_logits=torch.zeros(3, 256, dtype=torch.float16)),
        ("routing_logits", "torch.float16", "torch.float32"),
    ),
    "random in place of a blob": (
        lambda root: change_line(root, lambda line: _source(line).update(type="random")),
        (".jsonl:2", "routing_logits", "random", "safetensors"),
    ),
    "no routing input": (
        lambda root: change_line(root, lambda line: line["workload"]["inputs"].pop("routing_bias")),
        (".jsonl:2", "routing_bias", "nothing"),
    ),
    "not a number in the logits": (
        lambda root: replace_blob(root, routing_logits=torch.full((3, 256), torch.nan)),
        ("routing_logits", "not finite"),
    ),
    "infinity in the bias": (
        lambda root: replace_blob(root, routing_bias=torch.full((256,), torch.inf, dtype=torch.bfloat16)),
        ("routing_bias", "not finite"),
    ),
    "a path that no file can have": (
        lambda root: change_line(root, lambda line: _source(line).update(path="blob/a\0b")),
        (".jsonl:2", "routing_logits.path", "does not exist"),
    ),
    "a path without end": (
        lambda root: change_line(root, lambda line: _source(line).update(path="blob/" + "a" * 5000)),
        (".jsonl:2", "routing_logits.path", "does not exist"),
    ),
    "path out of the data set": (
        lambda root: change_line(root, lambda line: _source(line).update(path="../../etc/passwd")),
        (".jsonl:2", "routing_logits.path", "inside"),
    ),
    "workload missing": (
        lambda root: change_line(root, lambda line: line["workload"]["axes"].update(seq_len=4)),
        (".jsonl", "0 workloads T3_o64", "T4_o64"),
    ),
    "workload twice": (
        lambda root: change_line(root, lambda line: _source(line, "local_expert_offset").update(value=32)),
        ("2 workloads T3_o32", ".jsonl:1", ".jsonl:2"),
    ),
    "malformed line": (
        lambda root: change_line(root, lambda line: line["workload"].pop("uuid")),
        (".jsonl:2", "workload.uuid"),
    ),
}


def test_links_inside_a_data_set_are_followed(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    file = blob(checkout)
    file.rename(tmp_path / "store/1")  # as a hub's cache lays files out
    file.symlink_to(tmp_path / "store/1")
    (checkout / "blob").rename(tmp_path / "disk")  # large files on a disk of their own
    (checkout / "blob").symlink_to(tmp_path / "disk")
    assert len(PublicDataset(checkout).routing_inputs(NARROW, 3, 64)) == 2


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_data_set_is_refused_with_the_place(checkout: Path, name: str) -> None:
    spoil, words = SPOILT[name]
    spoil(checkout)
    pair = (3, 32) if name == "workload twice" else (3, 64)
    with pytest.raises(InputError) as caught:
        PublicDataset(checkout).routing_inputs(NARROW, *pair)
    for word in words:
        assert word in str(caught.value)


def test_a_blob_that_cannot_be_read_is_refused_with_its_path(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match="Permission denied") as caught:
        _load(blob(checkout), "routing_logits")
    assert "3-64.safetensors" in caught.value.where


def test_a_spoilt_workload_does_not_hide_another(checkout: Path) -> None:
    blob(checkout).unlink()
    logits, _ = PublicDataset(checkout).routing_inputs(NARROW, 3, 32)
    assert logits.shape == (3, 256)


def test_a_data_set_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        PublicDataset(tmp_path / "nowhere")


def test_a_definition_that_the_data_set_lacks_is_refused(checkout: Path) -> None:
    with pytest.raises(InputError, match=NARROW):
        PublicDataset(checkout).routing_inputs("other", 3, 64)
