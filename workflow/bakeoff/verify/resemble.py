"""Which known mistake a wrong output resembles: the mutant whose output on the same inputs is nearest.

Entry point: `resemblance`. A mutant is named only if it is clearly nearest; a mistake that leaves the active rows as
they are cannot be told from the right output.
"""

from collections import defaultdict
from dataclasses import dataclass
from math import inf

import torch

from bakeoff.core.moe.emulate import Inputs
from bakeoff.core.moe.geometry import Geometry
from bakeoff.schema.gates import Rounding
from bakeoff.verify.mutants import MUTANTS, Honest, Shared, routed

# Farther than this from an output, in relative L2, is no resemblance (right outputs are within 0.06 of the reference).
ALIKE_L2 = 0.2
# A mutant is named if its distance is at most this part of that to the right output and to the next mutant.
CLEARLY = 1 / 3


@dataclass(frozen=True)
class Resemblance:
    """mutants: name and mistake of those whose one output is nearest, empty if none is clearly so; distance: to that
    output; from_right: to the right one (relative L2 over active rows; infinite where that is not defined)."""

    mutants: tuple[tuple[str, str], ...]
    distance: float
    from_right: float


def resemblance(geometry: Geometry, inputs: Inputs, rounding: Rounding, output: torch.Tensor) -> Resemblance:
    """What `output`, (T, H) bfloat16 on the inputs' device, is nearest to. rounding: what its solution declares."""
    weights = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}
    honest = Honest(geometry, inputs, routed(geometry, inputs), rounding, Shared.of(weights))

    def distance(expected: torch.Tensor) -> float:
        rows = expected[honest.active].float()
        ratio = float((output[honest.active].float() - rows).norm() / rows.norm())
        return ratio if ratio == ratio else inf

    from_right = distance(honest.output)
    # Mutants that put out the same are equally far, and are one.
    found: dict[float, list[tuple[str, str]]] = defaultdict(list)
    for mutant in MUTANTS:
        found[distance(mutant.make(honest))].append((mutant.name, mutant.mistake))
    found.pop(from_right, None)  # without an effect here
    nearest, *others = sorted(found) or [inf]
    is_clear = nearest <= min(ALIKE_L2, CLEARLY * min([from_right, *others[:1]]))
    return Resemblance(tuple(found[nearest]) if is_clear else (), nearest, from_right)
