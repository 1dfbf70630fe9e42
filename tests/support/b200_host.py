"""A test double of a B200 host, for the rehearsal of docs/b200.md: what its three commands meet on the way.

Entry points: `make_host`, and `main`, the Python of the double's image. In place of the host's parts stand

| part | double |
|---|---|
| container engine | a script that runs the command in the checkout, with the image's paths put in place of their own |
| GPU and driver | a module pynvml, and support.fake_device with the published table's times |
| profilers | the scripts of support.profile_runs, with constructed captures |
| Hugging Face | a local repository of the data set's layout, with drawn routing |
| registry and `gh` | a published image in the lock file, and a script that finds every attestation valid |

With BAKEOFF_REHEARSE_WITH=podman (`make rehearse-containers`) the engine's double asks that one for a container of the
image `cpu`, with the options that it was asked with, but for the GPU.

The layer is one block of 128 wide under the full one's name, few tokens choose one of a few experts that are here, and
protocols have few calls: what is rehearsed is the way, not the kernels. `bakeoff measure` refuses a test
double where a GPU is asked for; `main` takes that one refusal out, has the mutants run on the CPU, and gives
constructed ceilings.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

HERE = Path(__file__).resolve()
REAL_ENGINE = "BAKEOFF_REHEARSE_WITH"  # a variable that names podman: commands then run in containers
REAL_IMAGE = "localhost/bakeoff-cpu"
INSIDE = ".cache/double"  # of the checkout: the double's parts that a container sees
PUBLISHED = "2026-02-26_4way"
DATASET_URL = "https://huggingface.co/datasets/flashinfer-ai/flashinfer-trace"
# Of a workload of more tokens, so many choose experts that are here, all of them these; the others choose others.
LOCAL_TOKENS, LOCAL_EXPERTS = 16, 4
REFERENCE_US, OTHERS_SPEEDUP = 20000.0, 10.0
# Cells that the double makes slow, so that they must differ from the published table.
SLOWED = {("triton_fused_moe_v2", "T901_o96"): 2.0, ("cutedsl_moe_fp8_v3", "T7_o192"): 3.0}
SHORT = {
    "fib-0.1.2": {"warmup_calls": 0, "timed_calls": 1, "trials": 1},
    "robust": {"warmup_calls": 1, "batch_calls": 1, "min_calls": 1, "max_calls": 1, "buffers": 1, "scaling_calls": 1},
}
AXES = {
    "hidden_size": 128,
    "intermediate_size": 128,
    "gemm1_out_size": 256,
    "num_hidden_blocks": 1,
    "num_intermediate_blocks": 1,
    "num_gemm1_out_blocks": 2,
}
# Of the run, in the double's checkout: what can be compared, and a profile of two cells of each solution.
SETTINGS = """
solutions: [flashinfer_moe, cutedsl_moe_fp8_v3, cutedsl_moe_fp8_v3_2, triton_fused_moe_v2]
protocols: [fib-0.1.2, robust]
families: [fib]
compile: []
profile: {tier: auto, cells: [T1_o32, T901_o96]}
"""
NVML = '''"""An NVML that has seen one B200."""
NVML_CLOCK_SM, NVML_CLOCK_MEM = 1, 2
NVML_ERROR_LIBRARY_NOT_FOUND, NVML_ERROR_DRIVER_NOT_LOADED = 12, 9
class NVMLError(Exception): value = 999
def nvmlInit(): ...
def nvmlShutdown(): ...
def nvmlDeviceGetCount(): return 1
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetHandleByUUID(uuid): return 0
def nvmlDeviceGetName(handle): return "NVIDIA B200"
def nvmlDeviceGetUUID(handle): return "GPU-00000000-0000-0000-0000-00000000b200"
def nvmlDeviceGetCudaComputeCapability(handle): return 10, 0
def nvmlDeviceGetMaxClockInfo(handle, clock): return 1965 if clock == NVML_CLOCK_SM else 3996
def nvmlSystemGetCudaDriverVersion_v2(): return 13000
def nvmlSystemGetDriverVersion(): return "580.95.05"
def __getattr__(name):
    if not name.startswith("nvml"): raise AttributeError(name)
    def unknown(*arguments): raise NVMLError(name)
    return unknown
'''
ENGINE = """#!{python}
import sys
sys.path.insert(0, {tests!r})
from support.b200_host import engine
sys.exit(engine(sys.argv[1:]))
"""
# Before a profiler's script reads a capture's kernels: they are called as each solution's are.
READS = "    from support.profile_captures import CALL, timeline, write_ncu, write_nsys\n"
NAMES = f"""    from support import b200_host, profile_captures
    profile_captures.CALL = b200_host.kernels()
{READS}"""
GEMMS = {
    "flashinfer_moe": ("bmm_E4m3_E4m3_gemm1", "bmm_Bfloat16_E4m3_gemm2"),
    "cutedsl_moe_fp8_v3": ("gemm1_sm_100a_e4m3_plain_bf16", "gemm2_sm_100a_e4m3_plain_bf16"),
    "cutedsl_moe_fp8_v3_2": ("gemm1_sm_100a_e4m3_plain_e4m3", "gemm2_sm_100a_e4m3_plain_bf16"),
    "triton_fused_moe_v2": ("cutlass::device_kernel<gemm1>", "cutlass::device_kernel<gemm2>"),
}
PYTHON = """#!{python}
import sys
sys.path.insert(0, {tests!r})
from support.b200_host import main
main({executable!r}, sys.argv[1:])
"""


@dataclass(frozen=True)
class Host:
    """A folder with the host's parts."""

    root: Path

    @property
    def checkout(self) -> Path:
        return self.root / "checkout"

    def environment(self) -> dict[str, str]:
        """What a shell on the host has."""
        own = {
            "PATH": f"{self.root / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{self.root / 'modules'}",
            "BAKEOFF_DOUBLE_HOST": str(self.root),
            "BAKEOFF_TEST_DOUBLE": str(HERE.parent / "fake_device.py"),
            "BAKEOFF_FAKE_DEVICE": str(self.root / "device.json"),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{(self.root / 'dataset').as_uri()}.insteadOf",
            "GIT_CONFIG_VALUE_0": DATASET_URL,
            "BLOCKS": "1",
        }
        return {**os.environ, **own}

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """A line of docs/b200.md, in the checkout."""
        return subprocess.run(
            ["bash", "-c", command],
            cwd=self.checkout,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=1800 if REAL_ENGINE in os.environ else 600,
            check=False,
        )

    def started(self) -> list[str]:
        """The command lines that the container engine got."""
        return (self.root / "engine.log").read_text().splitlines()


def make_host(root: Path) -> Host:
    from support.checkout import copy_project

    host = Host(root)
    copy_project(host.checkout)
    _narrow(host.checkout)
    _publish_image(host.checkout)
    config = host.checkout / "profiles/b200/config.yaml"
    config.write_text(re.sub(r"(?m)^protocols:.*\n", "", config.read_text()) + SETTINGS)
    _dataset(root / "dataset", host.checkout / "traces")
    paths = {"python": sys.executable, "tests": str(HERE.parents[1])}
    scripts = {f"bin/{name}": ENGINE.format(**paths) for name in ("docker", "podman")}
    _put(root, scripts | {"bin/gh": f'#!/bin/sh\necho "$*" >> {root}/gh.log\n'})
    times = json.dumps({"us": _times(host.checkout), "protocols": SHORT})
    _put(root, _image(times, **paths, workflow=str(host.checkout / "workflow"), folder=str(root)))
    inside = {"python": "/opt/bakeoff/bin/python", "tests": "/bakeoff/tests", "workflow": "/bakeoff/workflow"}
    _put(host.checkout / INSIDE, _image(times, **inside, folder=f"/bakeoff/{INSIDE}"))
    return host


def _image(times: str, python: str, tests: str, workflow: str, folder: str) -> dict[str, str]:
    """What stands in the image for a GPU, its driver, profilers and the interpreter, in `folder` there."""
    from support.profile_runs import TOOL

    assert READS in TOOL
    tool = TOOL.replace(READS, NAMES).replace("sm_90a", "sm_100a").format(python=python, paths=[tests, workflow])
    return {
        "bin/python": PYTHON.format(python=python, tests=tests, executable=f"{folder}/bin/python"),
        "bin/nsys": tool,
        "bin/ncu": tool,
        "modules/pynvml.py": NVML,
        "device.json": times,
    }


def _put(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)


def _narrow(checkout: Path) -> None:
    """Give the full definition a small layer."""
    path = _definition(checkout / "traces")
    document = json.loads(path.read_text())
    for axis, value in AXES.items():
        document["axes"][axis]["value"] = value
    path.write_text(json.dumps(document))


def _definition(traces: Path) -> Path:
    (path,) = (traces / "definitions/moe").glob("*_h7168_i2048.json")
    return path


def _publish_image(checkout: Path) -> None:
    path = checkout / "containers/images.lock.yaml"
    text, found = re.subn(
        r"(?ms)^(  cu130:.*?    repository:) null\n    digest: null$",
        rf"\1 ghcr.io/owner/bakeoff-cu130\n    digest: sha256:{'b2' * 32}",
        path.read_text(),
    )
    assert found == 1 and yaml.safe_load(text)
    path.write_text(text)


def _times(checkout: Path) -> dict[str, dict[str, float]]:
    """participant -> workload -> microseconds, so that the published table comes out, but for SLOWED."""
    with (checkout / f"results/published/{PUBLISHED}/speedups.csv").open() as file:
        rows = list(csv.DictReader(file))
    workloads = {f"T{row['seq_len']}_o{row['local_expert_offset']}": row for row in rows}
    named = [name for name in rows[0] if name not in ("seq_len", "local_expert_offset")]
    table = {
        name: {
            workload: REFERENCE_US / float(row[name]) * SLOWED.get((name, workload), 1.0)
            for workload, row in workloads.items()
        }
        for name in named
    }
    return {"reference": dict.fromkeys(workloads, REFERENCE_US), **table}


def routing(geometry: Any, case: Any) -> tuple[Any, Any]:
    """Routing inputs of a workload: the synthetic ones where tokens are few, else others of their kind."""
    import torch
    from bakeoff.core.moe.inputs import make_routing

    if case.seq_len < 10:
        return make_routing(geometry, case)
    generator = torch.Generator().manual_seed(case.seq_len)
    logits = torch.randn(case.seq_len, 256, generator=generator) * 0.656 - 1.6706
    local = logits[:, case.offset : case.offset + geometry.local_experts]
    local -= 8
    local[:LOCAL_TOKENS, :LOCAL_EXPERTS] += 12
    return logits, torch.full((256,), 4.9375, dtype=torch.bfloat16)


def _dataset(folder: Path, traces: Path) -> None:
    """A repository of the data set's layout: definition, workloads, and routing inputs as safetensors."""
    from bakeoff.core.moe.geometry import Geometry
    from bakeoff.traces.store import TraceRoot
    from safetensors.torch import save_file

    definition = _definition(traces)
    root = TraceRoot(traces)
    geometry, lines = Geometry.of(root.definition(definition.stem)), []
    for case in root.workloads(definition.stem):
        if case.further:
            continue
        line = case.trace.model_dump(mode="json", by_alias=True, exclude_none=True)
        line = {"definition": line["definition"], "workload": line["workload"]}
        logits, bias = routing(geometry, case)
        path = f"blob/workloads/moe/{definition.stem}/{line['workload']['uuid']}.safetensors"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        save_file({"routing_logits": logits, "routing_bias": bias}, folder / path)
        for name in ("routing_logits", "routing_bias"):
            line["workload"]["inputs"][name] = {"type": "safetensors", "path": f"./{path}", "tensor_key": name}
        lines.append(json.dumps(line) + "\n")
    for name, text in {
        f"definitions/moe/{definition.name}": definition.read_text(),
        f"workloads/moe/{definition.stem}.jsonl": "".join(lines),
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git = ["git", "-c", "user.name=double", "-c", "user.email=double@example.org"]
    packs = (["config", "core.compression", "0"], ["config", "pack.window", "0"])  # random numbers do not shrink
    for words in (["init", "-q"], *packs, ["add", "-A"], ["commit", "-qm", "The data set's layout"]):
        subprocess.run([*git, *words], cwd=folder, check=True)


def kernels() -> tuple[tuple[str, float, float], ...]:
    """The constructed call of `profile_captures` with the kernels' names of the solution whose job lies here."""
    from support.profile_captures import CALL

    job = Path("job.json")
    if not job.is_file():
        return CALL
    first, second = GEMMS[json.loads(job.read_text())["worker"]["participant"]]
    names = ("route_tokens", first, "swiglu_rows", second, "combine_rows", "permute_rows")
    return tuple((name, *times) for name, (_, *times) in zip(names, CALL, strict=True))


def engine(words: list[str]) -> int:
    """`run OPTIONS IMAGE COMMAND...`: the command in the checkout, with this host's folders for the image's."""
    root = Path(os.environ["BAKEOFF_DOUBLE_HOST"])
    with (root / "engine.log").open("a") as log:
        log.write(shlex.join(words) + "\n")
    place = next(number for number, word in enumerate(words) if "@sha256:" in word)
    options, command = words[1:place], words[place + 1 :]
    if real := os.environ.get(REAL_ENGINE):
        return _contained(real, options, command)
    given = list(itertools.pairwise(options))
    for source, target in (value.split(":")[:2] for name, value in given if name == "--volume"):
        if target != "/bakeoff":
            command = [word.replace(target, source) for word in command]
    python = root / "bin/python"
    if command[0] == "make":
        command += [f"BIN={python.parent}", "TO_REPRODUCE="]
    name, value = dict(given)["--env"].split("=", 1)
    return subprocess.run(
        command, env={**os.environ, name: value, "BAKEOFF_PYTHON": str(python)}, check=False
    ).returncode


def _contained(real: str, options: list[str], command: list[str]) -> int:
    """The same in a container of the image `cpu`, as it was asked for, but without a GPU."""
    if "--device" in options:
        place = options.index("--device")
        options = options[:place] + options[place + 2 :]
    double = f"/bakeoff/{INSIDE}"
    environment = {
        "BAKEOFF_IMAGE": "",  # the host's facts are the double's
        "BAKEOFF_PYTHON": f"{double}/bin/python",
        "BAKEOFF_TEST_DOUBLE": "/bakeoff/tests/support/fake_device.py",
        "BAKEOFF_FAKE_DEVICE": f"{double}/device.json",
        "PATH": f"{double}/bin:/opt/bakeoff/bin:/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": f"{double}/modules:/bakeoff/workflow",
    }
    words = [word for pair in environment.items() for word in ("--env", "=".join(pair))]
    if command[0] == "make":
        command = [*command, f"BIN={double}/bin", "TO_REPRODUCE="]
    return subprocess.run([real, "run", *options, *words, REAL_IMAGE, *command], check=False).returncode


def main(executable: str, words: list[str]) -> None:
    """`python [-P] -m MODULE ARGUMENTS` in the double's image."""
    module, *arguments = words[words.index("-m") + 1 :]
    if module == "bakeoff":
        if arguments[0] == "measure":
            from bakeoff.runs import block_run

            settings_of = block_run.settings_of
            block_run.settings_of = lambda plan, *rest: settings_of(plan.model_copy(update={"backend": "cpu"}), *rest)
        elif arguments[0] == "gate-power":
            arguments[arguments.index("cuda")] = "cpu"
            arguments += ["--workloads", "T1_o32", "T80_o96"]
        elif arguments[0] == "build":
            arguments[arguments.index("sm_100a")] = "cpu"
        elif arguments[0] == "profile":
            sys.executable = executable
    elif module == "bakeoff.profile.ceilings":
        sys.modules["torch"] = ModuleType("torch")  # takes seconds to import, and is not asked for anything
        from bakeoff.profile import ceilings
        from bakeoff.schema.profile import Ceilings

        ceilings.measure = lambda: Ceilings(copy_gbs=6000.0, fp8_tflops=3000.0, launch_us=2.0)
        sys.exit(ceilings.main(arguments))
    sys.argv = [module, *arguments]
    sys.path.pop(0)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
