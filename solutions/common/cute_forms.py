"""Which token tile of the swapped GEMM runs up to how many tokens, by chip. `benchmarks/tune_forms.py --write` writes
it.

Beyond the last limit the plain form runs. Every table has the limit up to which a call's kernels overlap.
"""

# fmt: off
FORMS: dict[str, dict[int, int]] = {
    "NVIDIA H100 80GB HBM3": {192: 16, 1100: 64, 3400: 128},
    "NVIDIA H200": {400: 16, 1100: 64},
}
# fmt: on
# Blocks of a cluster of the plain form where four are faster than two; `benchmarks/tune_forms.py` prints it.
PLAIN_CLUSTER: dict[str, int] = {}
DEFAULT = "NVIDIA H100 80GB HBM3"  # for chips without a table


def limits(chip: str) -> dict[int, int]:
    """Most tokens of a call -> rows of the token tile, in rising order; chip: the device's name, '' for any."""
    return FORMS.get(chip, FORMS[DEFAULT])
