"""What a kernel uses is read off its machine code, and agrees with what the assembler itself reports."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from bakeoff.build.resources import find_tool, inspect_cubin, parse_listing
from bakeoff.errors import CheckFailed, InputError

LISTING = """
Resource usage:
 Common:
  GLOBAL:0
 Function first:
  REG:188 STACK:16 SHARED:3072 LOCAL:0 CONSTANT[0]:576 TEXTURE:0 SURFACE:0 SAMPLER:0
 Function second:
  REG:40 STACK:0 SHARED:1024 LOCAL:0 CONSTANT[0]:576 TEXTURE:0 SURFACE:0 SAMPLER:0
        Function : first
        /*0000*/                   LDC R1, c[0x0][0x28] ;         /* 0x00000a00ff017b82 */
                                                                  /* 0x000e620000000800 */
        /*0010*/                   STL.64 [R1], R4 ;              /* 0x00 */
        /*0020*/              @!P0 STL [R1+0x8], R4 ;             /* 0x00 */
        /*0030*/              @UP1 LDL.LU.128 R4, [R1] ;          /* 0x00 */
        /*0040*/                   LDL.U8 R4, [R1] ;              /* 0x00 */
        /*0050*/                   QGMMA.64x128x32.F32.E4M3.E4M3 R24, gdesc[UR4], R24 ;
        /*0060*/             @!PT  HGMMA.64x8x16.F32 R24, gdesc[UR4], R24 ;
        /*0070*/             @!UP0 UTCQMMA gdesc[UR4], gdesc[UR6], tmem[UR8] ;
        /*0080*/                   HMMA.16816.F32 R4, R8, R12, R4 ;
        /*0090*/                   FFMA R4, R8, R12, R4 ;
        /*00a0*/                   UTCBAR [UR4] ;
        /*00b0*/                   STG.E.64 [R2], R4 ;
        Function : second
        /*0000*/                   IMMA.16832.S8.S8 R4, R8, R12, R4 ;
        /*10010*/                  HMMA.16816.F32 R4, R8, R12, R4 ;
"""


def test_a_listing_is_read_as_a_whole() -> None:
    assert parse_listing(LISTING) == {
        "registers": 188,
        "static_shared_bytes": 2048,
        "stack_bytes": 16,
        "spill_bytes": 8 + 4 + 16 + 1,
        "tmem_columns": 0,
        "mma": {"wgmma": 2, "tcgen05": 1, "mma.sync": 3},
    }


@pytest.mark.parametrize(
    ("ptx", "columns"),
    [
        ("mov.u32 %r1, 3;", 0),
        ("@%p1 tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%r12], 128;", 128),
        (
            "tcgen05.alloc.cta_group::1.sync.aligned.b32 [%r1], 64;\ntcgen05.alloc.cta_group::1.sync.aligned.b32 "
            "[a+4], 32;",
            96,
        ),
        ("tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%r12], %r3;", None),
        ("mov.b32 \t%r3, 64;\n\tmov.b32 \t%r33, 7;\n\ttcgen05.alloc.cta_group::1.b32 \t[%r12], %r3;", 64),
        ("mov.b32 %r3, 64;\nshl.b32 %r3, %r3, 1;\ntcgen05.alloc.cta_group::1.b32 [%r12], %r3;", None),
        ("mov.b32 %r3, %r4;\ntcgen05.alloc.cta_group::1.b32 [%r12], %r3;", None),
    ],
)
def test_tensor_memory_is_read_off_the_ptx_where_it_is_a_constant(ptx: str, columns: int | None) -> None:
    assert parse_listing(LISTING, ptx)["tmem_columns"] == columns


# 4 KB of per-thread array with an index known only at run time: it lives in local memory. 32 KB of declared shared
# memory.
PTX = """
.version 8.0
.target sm_90a
.address_size 64
.visible .entry spiller(.param .u64 out)
{
    .reg .b32 %r<200>;
    .reg .b64 %p<2>;
    .shared .align 16 .b8 tile[32768];
    ld.param.u64 %p0, [out];
    cvta.to.global.u64 %p0, %p0;
LOADS
    bar.sync 0;
STORES
    ret;
}
"""


def _assembled(folder: Path, registers: int) -> tuple[Path, str]:
    """A kernel that keeps 150 values alive, assembled for so many registers; the file, and what the assembler said."""
    loads = "\n".join(f"    ld.volatile.global.b32 %r{i}, [%p0+{4 * i}];" for i in range(150))
    stores = "\n".join(f"    st.volatile.global.b32 [%p0+{4 * i + 4}], %r{i};" for i in range(150))
    (folder / "k.ptx").write_text(PTX.replace("LOADS", loads).replace("STORES", stores))
    command = [find_tool("ptxas"), "-v", "-arch=sm_90a", f"-maxrregcount={registers}", "k.ptx", "-o", "k.cubin"]
    done = subprocess.run([str(part) for part in command], cwd=folder, capture_output=True, text=True, check=True)
    return folder / "k.cubin", done.stderr


@pytest.mark.parametrize("registers", [255, 64, 32])
def test_registers_stack_and_spills_agree_with_the_assembler(tmp_path: Path, registers: int) -> None:
    cubin, said = _assembled(tmp_path, registers)
    used = inspect_cubin(cubin, "")
    spills = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", said)
    assert spills
    assert used["stack_bytes"] == int(spills[1])
    assert used["spill_bytes"] == int(spills[2]) + int(spills[3])
    assert (used["spill_bytes"] == 0) == (registers == 255)
    found = re.search(r"Used (\d+) registers", said)
    assert found and used["registers"] == int(found[1]) <= registers
    assert used["mma"] == {}


def test_a_file_that_is_no_cubin_is_refused(tmp_path: Path) -> None:
    (tmp_path / "k.cubin").write_bytes(b"nothing")
    with pytest.raises(CheckFailed, match=r"k\.cubin is no cubin"):
        inspect_cubin(tmp_path / "k.cubin", "")


def test_a_tool_that_is_nowhere_is_named_with_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match="triton==") as caught:
        find_tool("cuobjdump-of-the-future")
    assert caught.value.where == "cuobjdump-of-the-future"
