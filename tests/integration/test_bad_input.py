"""What a user gets for an input that cannot be used: exit code 2, the place, found, expected, what to do; no traceback;
nothing lost."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml
from bakeoff import config as configuration
from bakeoff.build.spec import read_spec
from bakeoff.cli import main
from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT, require_room
from support.checkout import Checkout, copy_of

RUN = "results/runs/cpu"
DEFINITION = "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h512_i256"
WORKLOADS = f"traces/workloads/moe/{DEFINITION}.jsonl"
PLAN = ("plan", "--config", "config/config.yaml", "--host", f"{RUN}/host.json", "-o", "new/config.json")


def edit(root: Path, name: str, change: Callable[[str], str]) -> None:
    (root / name).write_text(change((root / name).read_text()))


def swapped(name: str, old: str, new: str) -> Callable[[Path], None]:
    """A mistake in a file: one text in place of another."""
    return lambda root: edit(root, name, lambda text: text.replace(old, new))


setting = partial(swapped, "config/config.yaml")


def first_line(root: Path, name: str, change: Callable[[dict], None]) -> None:
    lines = (root / name).read_text().splitlines()
    document = json.loads(lines[0])
    change(document)
    (root / name).write_text("\n".join([json.dumps(document), *lines[1:]]) + "\n")


def truncate_journal(root: Path) -> None:
    path = next((root / RUN).glob("samples/block-00/triton*.jsonl"))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0][:40] + b"\n", *lines[1:]]))


# name: (what to spoil, the command, words that the message must hold)
CASES: dict[str, tuple[Callable[[Path], object], tuple[str, ...], tuple[str, ...]]] = {
    "unknown configuration key": (
        lambda root: edit(root, "config/config.yaml", lambda text: text + "number_of_blocks: 3\n"),
        PLAN,
        ("config.yaml", "number_of_blocks", "no such field"),
    ),
    "wrong type": (setting("timeout_s: 1200", "timeout_s: soon"), PLAN, ("config.yaml", "timeout_s", "'soon'")),
    "a word where a word or a list may stand": (
        setting("workloads: all", "workloads: T1_o32"),
        PLAN,
        ("config.yaml: field workloads\n", "'all' or 'grid' or a valid list"),
    ),
    "a bad entry of a list": (
        setting("workloads: all", "workloads: [7]"),
        PLAN,
        ("config.yaml: field workloads.0\n", "a valid string"),
    ),
    "yes for a number": (
        setting("blocks: auto", "blocks: true"),
        PLAN,
        ("config.yaml: field blocks\n", "'auto' or a valid integer"),
    ),
    "no solution at all": (
        setting("solutions: all", "solutions: []"),
        PLAN,
        ("config.yaml: field solutions\n", "at least 1 of them"),
    ),
    "a key without its value": (
        setting("blocks: auto", "blocks:"),
        PLAN,
        ("config.yaml: field blocks\n", "an empty value"),
    ),
    "a run named like a date": (
        setting("run: auto", "run: 2026-02-26"),
        PLAN,
        ("config.yaml: field run\n", "2026-02-26 (a date, unless it stands in quotes)"),
    ),
    "a run whose name leaves its folder": (
        setting("run: auto", "run: ../x"),
        PLAN,
        ("config.yaml: field run\n", "text that matches ^[A-Za-z0-9]"),
    ),
    "a data set without a name": (
        setting("dataset: synthetic", "dataset: ''"),
        PLAN,
        ("config.yaml: field dataset\n", "text that is not empty"),
    ),
    "a time limit beyond a week": (
        setting("timeout_s: 1200", "timeout_s: 1" + "0" * 27),
        PLAN,
        ("config.yaml: field timeout_s\n", "less than or equal to 604800"),
    ),
    "configuration nested without end": (
        lambda root: (root / "config/config.yaml").write_text("run: " + "[" * 3000 + "]" * 3000),
        PLAN,
        ("config.yaml",),
    ),
    "a key that stands twice": (
        lambda root: edit(root, "config/config.yaml", lambda text: text + "blocks: 7\n"),
        PLAN,
        ("config.yaml", "'blocks' stands twice"),
    ),
    "a twin that stands twice": (
        lambda root: edit(
            root, "config/config.yaml", lambda text: text + "twins: [triton_fused_moe_v2, triton_fused_moe_v2]\n"
        ),
        PLAN,
        ("twins", "an entry appears twice"),
    ),
    "a twin of nobody": (
        lambda root: edit(root, "config/config.yaml", lambda text: text + "twins: [nobody]\n"),
        PLAN,
        ("twins", "nobody", "triton_fused_moe_v2"),
    ),
    "an unknown cell to profile": (
        setting("cells: all", "cells: [T1_o33]"),
        PLAN,
        ("profile.cells", "T1_o33", "T1_o32"),
    ),
    "settings that are no JSON": (
        lambda root: None,
        ("plan", "--settings", "{blocks: 3}", "--host", f"{RUN}/host.json", "-o", "new/config.json"),
        ("--settings", "not JSON"),
    ),
    "a host file that is none": (
        lambda root: (root / RUN / "host.json").write_text("{}"),
        PLAN,
        ("host.json: field cpu (and 10 more)\n", "this field"),
    ),
    "a list entry twice": (setting("seeds: [2]", "seeds: [2, 2]"), PLAN, ("seeds", "twice")),
    "configuration that is no YAML": (
        lambda root: edit(root, "config/config.yaml", lambda text: text + "run: [\n"),
        PLAN,
        ("config.yaml", "not YAML"),
    ),
    "a GPU asked for where none is": (
        setting("backend: auto", "backend: sm_100a"),
        PLAN,
        ("backend", "sm_100a", "cpu"),
    ),
    "an unknown solution": (
        setting("solutions: all", "solutions: [nobody]"),
        PLAN,
        ("solutions", "nobody", "triton_fused_moe_v2"),
    ),
    "a missing workload file": (lambda root: (root / WORKLOADS).unlink(), PLAN, (WORKLOADS,)),
    "a malformed workload line": (
        lambda root: edit(root, WORKLOADS, lambda text: text.replace('"seq_len"', '"seq_len', 1)),
        PLAN,
        (f"{WORKLOADS}:1", "JSON"),
    ),
    "a workload without its scalar": (
        lambda root: first_line(root, WORKLOADS, lambda line: line["workload"]["inputs"].pop("local_expert_offset")),
        PLAN,
        (f"{WORKLOADS}:1", "local_expert_offset"),
    ),
    "a duplicate workload": (
        lambda root: edit(root, WORKLOADS, lambda text: text + text.splitlines()[0] + "\n"),
        PLAN,
        (WORKLOADS, "T1_o32"),
    ),
    "a malformed solution file": (
        lambda root: edit(root, "solutions/triton_fused_moe_v2/solution.yaml", lambda text: text + "colour: blue\n"),
        PLAN,
        ("solution.yaml", "colour", "no such field"),
    ),
    "a solution without its file": (
        lambda root: (root / "solutions/triton_fused_moe_v2/solution.yaml").unlink(),
        PLAN,
        ("triton_fused_moe_v2", "solution.yaml"),
    ),
    "a data set that lacks a blob": (lambda root: lay_out_dataset_without_blobs(root), PLAN, ("blob", ".safetensors")),
    "a truncated journal line": (truncate_journal, ("assemble", RUN), ("jsonl:1",)),
    "a run folder of another schema version": (
        swapped(f"{RUN}/config.json", "bakeoff/plan/1", "bakeoff/plan/99"),
        ("verify", RUN),
        ("config.json", "bakeoff/plan/99", "bakeoff/plan/1"),
    ),
    "a run folder that is not there": (
        lambda root: None,
        ("verify", "results/runs/nothing"),
        ("results/runs/nothing",),
    ),
    "an output place that cannot be written": (
        lambda root: (root / "new").write_text("a file in the way"),
        PLAN,
        ("new", "cannot write"),
    ),
}


def lay_out_dataset_without_blobs(root: Path) -> None:
    """The public data set's layout: workload lines that point to safetensors blobs, which are not there."""
    dataset = root / "dataset"
    full = DEFINITION.replace("h512_i256", "h7168_i2048")
    shutil.copytree(root / "traces/definitions", dataset / "definitions")
    lines = []
    for line in (root / f"traces/workloads/moe/{full}.jsonl").read_text().splitlines():
        document = json.loads(line)
        document.pop("bakeoff")
        for name in ("routing_logits", "routing_bias"):
            path = f"./blob/workloads/moe/{full}/{document['workload']['uuid']}.safetensors"
            document["workload"]["inputs"][name] = {"type": "safetensors", "path": path, "tensor_key": name}
        lines.append(json.dumps(document))
    (dataset / "workloads/moe").mkdir(parents=True)
    (dataset / f"workloads/moe/{full}.jsonl").write_text("\n".join(lines) + "\n")
    edit(root, "config/config.yaml", lambda text: text.replace("dataset: synthetic", f"dataset: {dataset}"))


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_refused_with_the_place_and_the_remedy(finished: Checkout, tmp_path: Path, name: str) -> None:
    spoil, command, words = CASES[name]
    checkout = copy_of(finished, tmp_path / "checkout")
    spoil(checkout.root)
    done = checkout.bakeoff(*command, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for word in (*words, "found:", "expected:", "to do:"):
        assert word in done.stderr, f"{word!r} is not in:\n{done.stderr}"


@pytest.mark.parametrize(
    "key",
    [
        "backend=sm_90a",
        "timeout_s=never",
        "colour=blue",
        "workloads=[T1_o33]",
        "solutions=[nobody]",
        "definition=wide",
        "dataset=/nowhere",
    ],
)
def test_snakemake_stops_before_any_job_on_a_bad_setting(checkout: Checkout, key: str) -> None:
    done = checkout.snakemake("-n", config=[key], check=False)
    assert done.returncode == 2
    assert key.split("=")[0] in done.stderr and "Traceback" not in done.stderr
    assert not (checkout.root / "results/runs").exists()


def test_snakemake_stops_where_results_cannot_be_written(checkout: Checkout) -> None:
    (checkout.root / "results/runs").write_text("a file in the way")
    done = checkout.snakemake("-n", config=["run=x"], check=False)
    assert done.returncode == 2
    assert "bakeoff: results/runs/x\n" in done.stderr and "results/runs is a file" in done.stderr


def test_a_disk_without_room_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_room(tmp_path / "runs/new", megabytes=1)
    with pytest.raises(InputError, match="at least 1000000000 MB"):
        require_room(tmp_path / "runs/new", megabytes=10**9)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(InputError, match="is read-only here"):
        require_room(tmp_path / "runs/new", megabytes=1)
    assert list(tmp_path.iterdir()) == []


def test_snakemake_stops_on_a_key_that_stands_twice_in_its_file(checkout: Checkout) -> None:
    edit(checkout.root, "config/config.yaml", lambda text: text + "blocks: 7\n")
    done = checkout.snakemake("-n", config=["run=x"], check=False)
    assert done.returncode == 2
    assert "'blocks' stands twice" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("rol", "role"), ("descriptions", "description"), ("entrypoint", "entry_point"), ("backend", "backends")],
)
def test_a_misspelt_key_is_named_with_the_one_that_it_resembles(tmp_path: Path, wrong: str, right: str) -> None:
    """Of a key that must be there; the misspelt one is named, not the missing one."""
    folder = shutil.copytree(PROJECT_ROOT / "solutions/triton_fused_moe_v2", tmp_path / "triton_fused_moe_v2")
    edit(folder, "solution.yaml", lambda text: text.replace(f"{right}:", f"{wrong}:", 1))
    with pytest.raises(InputError) as refused:
        read_spec(folder)
    assert refused.value.where.startswith(f"{folder}/solution.yaml: field {wrong} ")
    assert refused.value.expected == f"no such field; did you mean {right}?"


def test_a_misspelt_key_deep_in_a_file_is_named(tmp_path: Path) -> None:
    folder = shutil.copytree(PROJECT_ROOT / "solutions/triton_fused_moe_v2", tmp_path / "triton_fused_moe_v2")
    spec = yaml.safe_load((folder / "solution.yaml").read_text())
    spec["backends"]["cpu"]["designs"] = spec["backends"]["cpu"].pop("design")
    (folder / "solution.yaml").write_text(yaml.safe_dump(spec))
    with pytest.raises(InputError) as refused:
        read_spec(folder)
    assert "field backends.cpu.designs" in refused.value.where
    assert refused.value.expected == "no such field; did you mean design?"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"block": 3}, "field block\n.*did you mean blocks"),
        ({"profile": {"teir": "none"}}, "field profile.teir\n.*did you mean tier"),
        ({"threads": 100_000}, "field threads\n.*less than or equal to 1024"),
        ({"gpus": 1000}, "field gpus\n.*less than or equal to 64"),
        ({"lock_clocks_mhz": 10**9}, "field lock_clocks_mhz\n.*less than or equal to 10000"),
        ({"run": "a" * 201}, "field run\n.*at most 200 characters"),
        ({"definition": "a" * 201}, "field definition\n.*at most 200 characters"),
        ({"dataset": "a" * 5000}, "field dataset\n.*at most 2000 characters"),
        ({"dataset": "data/" + "ü" * 200}, "field dataset\n.*at most 255 bytes"),
        ({"solutions_root": "a\0b"}, "field solutions_root\n.*without control characters"),
        ({"traces_root": ""}, "field traces_root\n.*not empty"),
    ],
)
def test_a_setting_that_no_run_could_have_is_refused(settings: dict, words: str) -> None:
    with pytest.raises(InputError, match=f"(?s)^here: {words}"):
        configuration.parse(settings, "here")


@pytest.mark.parametrize("words", ["audit results/published/2026-02-26_4way", "--help", "image cpu --help"])
def test_an_answer_that_cannot_be_written_is_said(words: str) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "bakeoff", *words.split()]
        done = subprocess.run(command, cwd=PROJECT_ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert "standard output\n  found:    cannot write: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_an_error_of_another_file_is_not_blamed_on_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bakeoff.stats.verbs.audit", fail)
    with pytest.raises(OSError, match="No space left"):
        main(["audit", "results/published/2026-02-26_4way"])
