"""Host side of the CuTeDSL grouped GEMMs: which form runs for how many tokens, compiled once, launched on the stream.

Entry points: `GroupedGemm` is one GEMM of a solution, `compile_gemm` compiles one of its forms without a GPU. The form
follows from the number of tokens alone, which the host knows; row counts stay on the device.
Side effects: a form is compiled at its first use (1-3 s) and kept for the life of the process.
"""

from __future__ import annotations

import bisect
import functools
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import torch

from . import cute_forms
from . import cute_maps as maps
from .checks import require

CUTLASS = "4.8"  # version prefix of nvidia-cutlass-dsl that these kernels were written for
WIDTH = 512  # N must be a multiple of the widest tile, twice: a cluster's two blocks may take two columns of tiles
# Up to here a call's kernels overlap: 2.5 to 6.4 % faster on an H200, and 0.9 % slower at 11,948 tokens
# (docs/kernels.md).
OVERLAP_LIMIT = 1100
ROOM = 16 << 10  # bytes of shared memory left for blocks of the kernels before and after: each reserves 1 KiB
_COMPILE_LOCK = threading.Lock()  # kernel names are set on the class before each compilation


# Sizes of the arguments and what each is a multiple of; the same letter is the same size.
SYMBOLS = {"M": 128, "K": 128, "N": 128, "E": 1, "E+1": 1, "K/128": 1, "N/128": 1, "scale rows": 1}


def signature(form: maps.Form) -> list[tuple[torch.dtype, tuple[str, ...], int]]:
    """Tensor arguments of a compiled form, in order: dtype, sizes, alignment in bytes; all row-major and compact."""
    byte, f32, i32 = torch.uint8, torch.float32, torch.int32
    return [
        (byte, ("M", "K"), 16),
        (f32, ("K/128", "M"), 16),
        (byte, ("E", "N", "K"), 16),
        (f32, ("E", "N/128", "K/128"), 16),
        (byte if form.fp8_out else torch.bfloat16, ("M", "N"), 16),
        (f32, ("scale rows", "M"), 16),  # not written without FP8 output
        (i32, ("E+1",), 4),
        (i32, ("E",), 4),
    ]


def forms(arch: str, fp8_out: bool, chip: str = "") -> dict[int, maps.Form]:
    """Largest number of tokens -> form, in rising order; the last holds for all larger ones.

    A narrow token tile while the experts have few rows and the time is that of reading the weights; 128-row tiles once
    most experts fill them. chip: the device's name, whose limits `cute_forms` holds; '' takes the default table.
    """
    table = {limit: _form(rows, fp8_out, overlaps(limit)) for limit, rows in cute_forms.limits(chip).items()}
    cluster = cute_forms.PLAIN_CLUSTER.get(chip, 2)
    return {**table, maps.NO_LIMIT: _form(0, fp8_out, False, cluster if cluster in CLUSTERS[arch] else 2)}


# Blocks of a cluster of the plain form. On Blackwell four need less of L2 than it may give two (docs/kernels.md).
CLUSTERS = {"sm_90a": (2,), "sm_100a": (2, 4)}


def all_forms(fp8_out: bool, arch: str = "sm_90a") -> list[maps.Form]:
    """Every form that a chip's table may choose, once, without overlap."""
    plain = [_form(0, fp8_out, False, cluster) for cluster in CLUSTERS[arch]]
    return [_form(rows, fp8_out, False) for rows in (16, 64, 128)] + plain


def _form(rows: int, fp8_out: bool, overlap: bool, cluster: int = 2) -> maps.Form:
    """The swapped form with tiles of so many token rows, or with 0 the plain one."""
    form = maps.Form("plain" if cluster == 2 else f"plain{cluster}", False, 256, 1, fp8_out, cluster=cluster)
    if rows:
        form = maps.Form(f"swapped{rows}", True, rows, 1, fp8_out, overlap=overlap)
    return maps.fit_stages(form, ROOM if overlap else 0)


def overlaps(tokens: int) -> bool:
    """Whether the kernels of a call start before the end of the one before them (programmatic dependent launch)."""
    return tokens <= OVERLAP_LIMIT


@functools.cache
def _table(arch: str, fp8_out: bool, chip: str) -> tuple[list[int], list[maps.Form]]:
    found = forms(arch, fp8_out, chip)
    return list(found), list(found.values())


def pick_form(arch: str, fp8_out: bool, tokens: int, chip: str = "") -> maps.Form:
    """Form that runs for `tokens` tokens. No loop: at few tokens a call's host time exceeds its device time."""
    limits, found = _table(arch, fp8_out, chip)
    return found[bisect.bisect_left(limits, tokens)]


def kernel_name(label: str, arch: str, form: maps.Form) -> str:
    """Name of a compiled kernel: GEMM, chip, operand type, form and output type."""
    return f"{label}_{arch}_e4m3_{form.name}_{'e4m3' if form.fp8_out else 'bf16'}"


def compile_gemm(label: str, arch: str, form: maps.Form) -> Any:
    """Compile one form for `arch` and return CuTeDSL's callable, which also holds the cubin and the PTX.

    Needs no GPU. M, N, K and E stay symbolic. Raises MissingPackage without nvidia-cutlass-dsl.
    """
    _require_packages()
    import cutlass.cute as cute

    kernel = _kernel_class(arch)
    with _COMPILE_LOCK, tempfile.TemporaryDirectory() as scratch:
        kernel.kernel.set_name_prefix(
            kernel_name(label, arch, form), remove_cutlass_symbol=True, keep_mangled_name=False
        )
        options = f"--enable-tvm-ffi --gpu-arch {arch} --keep-ptx --keep-cubin --dump-dir={scratch}"
        return cute.compile(kernel(form), *_fake_arguments(form), options=options)


def compile_forms(label: str, arch: str, fp8_out: bool) -> Iterator[dict[str, Any]]:
    """Compile every form of one GEMM; yields the dicts that solutions/README.md describes for `compile_kernels`."""
    for form in forms(arch, fp8_out).values():
        built = compile_gemm(label, arch, form)
        meta = {
            "tile": [form.tile_m, form.tile_n, maps.BLOCK],
            "stages": form.stages,
            "cluster": form.cluster,
            "threads": _kernel_class(arch)(form).threads,
            "dynamic_shared_bytes": maps.shared_bytes(form),
            "mma": "wgmma" if arch == "sm_90a" else "tcgen05",
            "tmem_columns": 0 if arch == "sm_90a" else maps.tmem_columns(form),
        }
        name = kernel_name(label, arch, form)
        yield {"name": name, "stage": label, "cubin": built.__cubin__, "ptx": built.__ptx__, "meta": meta}


class GroupedGemm:
    """One grouped GEMM of a solution on one chip.

    Args:
        label: stage name, the start of the kernels' names.
        arch: sm_90a or sm_100a.
        fp8_out: write e4m3 and scales instead of bfloat16.

    Raises MissingPackage without nvidia-cutlass-dsl or apache-tvm-ffi.
    """

    def __init__(self, label: str, arch: str, fp8_out: bool) -> None:
        _require_packages()
        self.label = label
        self.arch = arch
        self.fp8_out = fp8_out
        self._launchers: dict[str, Any] = {}  # by the form's name

    def __call__(
        self,
        a: torch.Tensor,
        a_scale: torch.Tensor,
        b: torch.Tensor,
        b_scale: torch.Tensor,
        out: torch.Tensor,
        out_scale: torch.Tensor | None,
        m_indptr: torch.Tensor,
        m_count: torch.Tensor,
        tokens: int,
    ) -> None:
        """Launch on the current stream; no synchronization, capturable in a CUDA graph once the form is compiled.

        Args:
            a: (M, K) e4m3 or its bytes, rows grouped by expert; a_scale: (K/128, M) float32.
            b: (E, N, K) e4m3; b_scale: (E, N/128, K/128) float32.
            out: (M, N) bfloat16, or e4m3 or its bytes with out_scale (N/128, M) float32. Rows of padding are left as
            they were.
            m_indptr: (E + 1,) int32, first rows, multiples of 128; m_count: (E,) int32, rows.
            tokens: tokens of the call, which pick the form.

        The sizes are those that `check_sizes` accepts.
        """
        form = pick_form(self.arch, self.fp8_out, tokens, _chip(a.device.index))
        if form.cluster > 2 and b.shape[1] % (form.cluster * form.tile_n):
            form = _form(0, self.fp8_out, False)
        launch = self._launchers.get(form.name) or self._compile(form)
        launch(
            _bytes(a),
            a_scale,
            _bytes(b),
            b_scale,
            _bytes(out) if self.fp8_out else out,
            a_scale if out_scale is None else out_scale,
            m_indptr,
            m_count,
            _multiprocessors(a.device.index) // form.cluster * form.cluster,
        )

    def _compile(self, form: maps.Form) -> Any:
        self._launchers[form.name] = compile_gemm(self.label, self.arch, form)
        return self._launchers[form.name]


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    """e4m3 travels as bytes: not every exchange protocol knows the type."""
    return tensor if tensor.dtype == torch.uint8 else tensor.view(torch.uint8)


def check_sizes(experts: int, n: int, k: int, rows: int) -> None:
    """Raise ValueError for sizes that the kernels were not built for; to be called before the first launch."""
    if experts > maps.MAX_EXPERTS or n % WIDTH or k % maps.BLOCK or rows % maps.BLOCK:
        raise ValueError(
            f"grouped GEMM got E={experts}, N={n}, K={k}, M={rows}; expected E <= {maps.MAX_EXPERTS}, "
            f"N a multiple of {WIDTH}, K and M multiples of {maps.BLOCK}"
        )


def _require_packages() -> None:
    require("cutlass", "nvidia-cutlass-dsl", CUTLASS)
    require("tvm_ffi", "apache-tvm-ffi")


@functools.cache
def _multiprocessors(device: int | None) -> int:
    return torch.cuda.get_device_properties(device or 0).multi_processor_count


@functools.cache
def _chip(device: int | None) -> str:
    return torch.cuda.get_device_name(device or 0) if torch.cuda.is_available() else ""


def _kernel_class(arch: str) -> Any:
    if arch == "sm_90a":
        from .cute_sm90 import HopperGroupedGemm

        return HopperGroupedGemm
    if arch == "sm_100a":
        from .cute_sm100 import BlackwellGroupedGemm

        return BlackwellGroupedGemm
    raise ValueError(f"no grouped GEMM for {arch}; expected sm_90a or sm_100a")


def _fake_arguments(form: maps.Form) -> list[Any]:
    """Arguments with symbolic sizes; sizes that must agree share a symbol."""
    import cutlass
    import cutlass.cute as cute
    from cutlass.cute.runtime import make_fake_compact_tensor, make_fake_stream

    types = {
        torch.uint8: cutlass.Uint8,
        torch.float32: cutlass.Float32,
        torch.bfloat16: cutlass.BFloat16,
        torch.int32: cutlass.Int32,
    }
    symbols = {name: cute.sym_int32(divisibility=step) for name, step in SYMBOLS.items()}
    fakes: list[Any] = []
    for dtype, names, align in signature(form):
        shape = tuple(symbols[name] for name in names)
        order = tuple(reversed(range(len(shape))))
        fakes.append(make_fake_compact_tensor(types[dtype], shape, stride_order=order, assumed_align=align))
    return [*fakes, cutlass.Int32(1), make_fake_stream(use_tvm_ffi_env_stream=True)]
