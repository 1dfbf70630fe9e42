"""A counter-based generator whose numbers have the same bits on every device, platform and torch version.

A stream is a key; number i of a stream is a hash of (key, i), so that any part of a tensor can be drawn alone. Uniform
16-bit numbers become values through quantile tables. Only integer arithmetic that cannot overflow int64, and table
look-ups, touch a tensor. The tables come from Python's own arithmetic and are checked against pinned digests.
"""

import functools
import hashlib
import math
from statistics import NormalDist

import torch

UNIT = 128  # numbers are addressed in units of 128
MASK = 0xFFFFFFFF
# Odd constants below 2**31: with a 32-bit factor the product stays below 2**63. Chosen for their avalanche (see the
# tests).
SPREAD, MIX_1, MIX_2 = 0x5C493F97, 0x5ABF2ADF, 0x72BED749

LOGIT_MEAN, LOGIT_STD = -1.6706, 0.656  # of the public data set's routing logits
WEIGHT_STD = 0.02  # of realistic weights
FIXED = 40  # bits after the point of fixed-point scores
FP8_MAX = 448  # largest finite e4m3
Z_BITS = 16  # bits after the point of a fixed-point normal value
RECIPROCAL_BITS = 40
CODE_BITS = 10  # a value is rounded to 2**-10, half the smallest step of e4m3, before it is looked up

TABLE_DIGESTS = {
    "fp8_normal": "415bd1c42b650496f11146493d82361bec00e57a0fe3f655eff13d2a083c4707",
    "normal": "cd5582450610298f4538af221cfc3df257ff90c349daecc36a8e17010fe8b994",
    "logit": "90a8ac781b0fd01fb0266c2a0ef22dbd4d1c97a554d0441ebca66c57e8b46908",
    "fixed_score": "912e516d922d41f2c0bb4fa34e3672a52ceb5d8475e04e899f83cc71108dded8",
    "z_fixed": "bcbbbadba8bbb35289901e0e09f4543917bb1ac16ae72416e115f4aa9ebf6d14",
    "reciprocal": "a884edcc660e15abf8f0d28df9dd85529225958701cc689ec1f1375a141615e4",
    "state_scale": "7ce9ed621a5afe2fb32bb2a5c8e2782cb0021d4b14fe1a38e8c081772cac1ef2",
    "weight_scale": "58165addfe6d7562f5ab5e5e9a9aa028441826c3863dbe749e8785cca5328c0f",
    "fp8_code": "834426caa9f3b4bfddd2000a5ce9af1f4fa9004c586056c404027c7bd657ab34",
}

Key = tuple[int, int]


def stream_key(*parts: object) -> Key:
    """The key of the stream that is named by `parts` (joined by "/")."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def draw(key: Key, units: torch.Tensor) -> torch.Tensor:
    """units: (n,) int64 in [0, 2**25). Returns (n, 128) int64, uniform in [0, 65536)."""
    half = UNIT // 2  # one hash gives two numbers
    counter = units.unsqueeze(1) * half + torch.arange(half, device=units.device)
    h = counter.mul_(SPREAD).add_(key[0]).bitwise_and_(MASK)
    h = (h ^ (h >> 16)).mul_(MIX_1).bitwise_and_(MASK).bitwise_xor_(key[1])
    h = (h ^ (h >> 13)).mul_(MIX_2).bitwise_and_(MASK)
    h ^= h >> 16
    return torch.cat([h & 0xFFFF, h >> 16], dim=1)


def draw_flat(key: Key, count: int, device: torch.device | str) -> torch.Tensor:
    """The first `count` numbers of a stream, (count,) int64."""
    units = torch.arange(-(-count // UNIT), device=device)
    return draw(key, units).flatten()[:count]


@functools.lru_cache(maxsize=32)
def table(name: str, device: str) -> torch.Tensor:
    """A table of TABLE_DIGESTS on a device. Raises RuntimeError if this platform computes other values."""
    if device != "cpu":
        return table(name, "cpu").to(device)
    values = _BUILDERS[name]()
    digest = hashlib.sha256(values.view(torch.uint8).numpy().tobytes()).hexdigest()
    if digest != TABLE_DIGESTS[name]:
        raise RuntimeError(
            f"table {name}: found sha256 {digest}, expected {TABLE_DIGESTS[name]}; this platform's math library rounds "
            "differently, so its inputs would not be those of other machines: run on another Python build"
        )
    return values


@functools.cache
def _magnitudes() -> tuple[float, ...]:
    """|z| of the standard normal at 32768 equally likely magnitudes, ascending."""
    normal = NormalDist()
    return tuple(normal.inv_cdf(0.5 + (m + 0.5) / 65536) for m in range(32768))


def _signed() -> list[float]:
    """Normal values by 16-bit number: bit 15 is the sign, the rest the magnitude's rank."""
    return [*_magnitudes(), *(-z for z in _magnitudes())]


def _logits() -> torch.Tensor:
    return torch.tensor([LOGIT_MEAN + LOGIT_STD * z for z in _signed()]).bfloat16().float()


def _fixed_scores() -> torch.Tensor:
    return torch.tensor([round(2**FIXED / (1 + math.exp(-x))) for x in _logits().tolist()])


def _z_fixed() -> list[int]:
    return [round(z * 2**Z_BITS) for z in _magnitudes()]


_BUILDERS = {
    # e4m3 codes of N(0, 1) clamped to +-2, by 16-bit number
    "fp8_normal": lambda: torch.tensor(_signed()).clamp(-2, 2).to(torch.float8_e4m3fn).view(torch.uint8),
    # N(0, 1) in float32, by 16-bit number
    "normal": lambda: torch.tensor(_signed()),
    # routing logits rounded to bfloat16, as float32, by 16-bit number
    "logit": _logits,
    # their sigmoid in units of 2**-40
    "fixed_score": _fixed_scores,
    # |z| in units of 2**-16, by 15-bit magnitude
    "z_fixed": lambda: torch.tensor(_z_fixed()),
    # 448 / |z| such that z_fixed * reciprocal is in units of 2**-40
    "reciprocal": lambda: torch.tensor([(FP8_MAX << RECIPROCAL_BITS) // z for z in _z_fixed()]),
    # amax / 448 in float32, by the 15-bit magnitude of the largest value: of N(0, 1), and of N(0, 0.02)
    "state_scale": lambda: torch.tensor([z / 2**Z_BITS / FP8_MAX for z in _z_fixed()]),
    "weight_scale": lambda: torch.tensor([z / 2**Z_BITS / FP8_MAX * WEIGHT_STD for z in _z_fixed()]),
    # e4m3 code of n * 2**-10
    "fp8_code": lambda: (torch.arange((FP8_MAX << CODE_BITS) + 1) / 2**CODE_BITS)
    .to(torch.float8_e4m3fn)
    .view(torch.uint8),
}
