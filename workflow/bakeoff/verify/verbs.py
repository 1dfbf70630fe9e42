"""The verb of this package: `gate-power`."""

import argparse
import contextlib
import sys

from bakeoff import locks
from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT, model_json, write_atomic
from bakeoff.options import chosen, folder, output, seed

NARROW = "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h512_i256"
SAMPLED_ROWS = 16


def gate_power_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--definition", default=NARROW, metavar="NAME", help="definition (default: the narrow one, %(default)s)"
    )
    output(parser, "FILE", "gate_power.json to write")
    parser.add_argument(
        "--families", nargs="+", default=["fib", "realistic"], metavar="F", help="value families (default: both)"
    )
    parser.add_argument(
        "--workloads",
        nargs="+",
        metavar="ID",
        help="workload ids (default: all); a choice is measured, but not held to the aim",
    )
    from bakeoff.config import Config

    usual = Config.model_fields["seeds"].get_default(call_default_factory=True)[0]
    parser.add_argument(
        "--seed", type=seed, default=usual, help="seed of the values (default: that of a run, %(default)s)"
    )
    parser.add_argument(
        "--rows",
        type=int,
        metavar="N",
        help=f"judge N rows of each workload, half of them active; 0 for all (default: all, at the full width "
        f"{SAMPLED_ROWS})",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    folder(parser, "--traces-root", PROJECT_ROOT / "traces", "default: traces/")


def gate_power(args: argparse.Namespace) -> int:
    """Run all mutants, write the file, print the kill rates; 1 if the strict gate misses its aim on all workloads or
    rejects an honest output."""
    _check(args)
    from bakeoff.core.bounds import bounds
    from bakeoff.core.moe.geometry import Geometry
    from bakeoff.traces.store import TraceRoot
    from bakeoff.verify import power

    root = TraceRoot(args.traces_root)
    geometry = Geometry.of(root.definition(args.definition))
    rows = args.rows
    if rows is None and geometry.hidden >= bounds().strict.full_width_from:
        rows = SAMPLED_ROWS
    cases = {case.id: case for case in root.workloads(args.definition)}
    chosen("--workloads", args.workloads, cases)
    cases = {name: case for name, case in cases.items() if not args.workloads or name in args.workloads}
    total = len(cases) * len(args.families)

    def progress(done: int, cell: str) -> None:
        if done % max(1, total // 9) == 0 or done == total:
            _tell(f"{done:3} of {total} cells, last {cell}")

    with _alone(args.device):
        found = power.gate_power(
            geometry,
            [*cases.items()],
            args.families,
            seed=args.seed,
            rows=rows or None,
            device=args.device,
            progress=progress,
        )
    write_atomic(args.output, model_json(found))
    print(power.summary(found))
    # The aim holds for all workloads together: with T = 1 alone, a wrong choice of experts may change nothing.
    return 0 if args.workloads or found.sufficient else 1


def _alone(device: str) -> contextlib.AbstractContextManager[None]:
    """A GPU that is measured on computes nothing else meanwhile, so its lock is taken here as well."""
    if device == "cpu":
        return contextlib.nullcontext()
    import torch

    found = torch.cuda.get_device_properties(0)
    return locks.hold_gpu(f"GPU-{found.uuid}", f"GPU {found.name}", _tell)


def _tell(text: str) -> None:
    print(f"gate-power  {text}", file=sys.stderr, flush=True)


def _check(args: argparse.Namespace) -> None:
    import torch

    if args.rows is not None and args.rows < 0:
        raise InputError("--rows", found=str(args.rows), expected="0 or more rows", hint="give 0 to judge all rows")
    if args.device not in ("cpu", "cuda") or (args.device == "cuda" and not torch.cuda.is_available()):
        raise InputError(
            "--device",
            found=f"{args.device}, which this host does not have",
            expected="cpu, or cuda on a host with an NVIDIA GPU and a CUDA build of torch",
            hint="leave --device out, or run on a GPU host",
        )
