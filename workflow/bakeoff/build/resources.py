"""What a compiled kernel uses: read off the machine code by `cuobjdump`, which comes with Triton.

Entry points: `inspect_cubin` runs the tool on one file, `parse_listing` is the pure parser of what it prints.
Limits: dynamic shared memory is chosen at launch and so is not in a cubin; spills are counted as instructions that
access local memory, once each however often they run, and a local array counts as well (it also shows as stack).
"""

import importlib.util
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

from bakeoff.errors import CheckFailed, InputError

# Since compute capability 9.0 the driver keeps the first KB of a block's shared memory for itself, and the tool counts
# it.
RESERVED_SHARED_BYTES = 1024
# Matrix instructions by family. Hopper's warpgroup instructions carry a G before MMA, Blackwell's tensor-memory ones
# start with UTC, and what is left are the per-warp instructions of mma.sync.
MMA_FAMILIES = {
    "wgmma": re.compile(r"[A-Z]GMMA"),
    "tcgen05": re.compile(r"UTC[A-Z]*MMA"),
    "mma.sync": re.compile(r"[A-Z]MMA"),
}
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")
_INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)")
_LOCAL = re.compile(r"(LDL|STL)((?:\.[A-Z0-9_]+)*)$")
_TMEM = re.compile(r"tcgen05\.alloc\S*\s+\[[^\]]*\],\s*(\d+|%\w+)\s*;")


def inspect_cubin(cubin: Path, ptx: str) -> dict[str, Any]:
    """Run `cuobjdump` on a cubin file; `ptx` is the kernel's PTX. CheckFailed if the tool does not take the file."""
    command = [str(find_tool("cuobjdump")), "-res-usage", "-sass", str(cubin)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not _USAGE.search(done.stdout):
        raise CheckFailed(
            f"{cubin.name} is no cubin that cuobjdump reads: {(done.stderr or done.stdout).strip()[-300:]}"
        )
    return parse_listing(done.stdout, ptx)


def parse_listing(listing: str, ptx: str = "") -> dict[str, Any]:
    """Fields of a `KernelRecord`, from what `cuobjdump -res-usage -sass` prints. Of several functions, the largest use
    and the sum of counts."""
    usages = [tuple(map(int, found)) for found in _USAGE.findall(listing)]
    registers, stack, shared = (max(usage[i] for usage in usages) for i in range(3))
    names = _INSTRUCTION.findall(listing)
    return {
        "registers": registers,
        "static_shared_bytes": max(0, shared - RESERVED_SHARED_BYTES),  # the driver's own KB is no part of the code's
        "stack_bytes": stack,
        "spill_bytes": sum(_local_bytes(name) for name in names),
        "tmem_columns": _tmem_columns(ptx),  # None where the number is no constant in the PTX
        "mma": dict(Counter(family for name in names if (family := _mma_family(name)))),
    }


def _mma_family(name: str) -> str | None:
    base = name.split(".")[0]
    return next((family for family, pattern in MMA_FAMILIES.items() if pattern.fullmatch(base)), None)


def _local_bytes(name: str) -> int:
    """Bytes that an instruction moves to or from local memory: STL.64 moves 8, STL.U8 one; 0 for any other
    instruction."""
    found = _LOCAL.match(name)
    if not found:
        return 0
    widths = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}
    return next((widths[part] for part in found[2].split(".") if part in widths), 4)


def _tmem_columns(ptx: str) -> int | None:
    if "tcgen05.alloc" not in ptx:
        return 0
    found = [_constant(columns, ptx) for columns in _TMEM.findall(ptx)]
    known = [columns for columns in found if columns is not None]
    return sum(known) if len(known) == len(re.findall(r"tcgen05\.alloc", ptx)) else None


def _constant(operand: str, ptx: str) -> int | None:
    """Value of a number, or of a register that is written once in the PTX, with a number; else None."""
    if not operand.startswith("%"):
        return int(operand)
    written = re.findall(rf"^\s*(?:@\S+\s+)?(\S+)\s+{re.escape(operand)}\s*,\s*([^;]*);", ptx, re.MULTILINE)
    numbers = [int(value) for opcode, value in written if opcode.startswith("mov.") and value.strip().isdigit()]
    return numbers[0] if len(numbers) == len(written) == 1 else None


def find_tool(name: str) -> Path:
    """A tool of the CUDA toolkit: the one in Triton's wheel, so that its version is pinned, else the one on PATH."""
    package = importlib.util.find_spec("triton")
    for folder in (package.submodule_search_locations or []) if package else []:
        path = Path(folder) / "backends/nvidia/bin" / name
        if path.is_file():
            return path
    on_path = shutil.which(name)
    if on_path is None:
        raise InputError(
            name,
            found="neither in Triton's wheel nor on PATH",
            expected="the CUDA tool that lists machine code",
            hint="run `make setup`, or `pip install triton==3.6.0`",
        )
    return Path(on_path)
