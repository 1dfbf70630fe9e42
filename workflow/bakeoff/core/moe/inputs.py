"""The inputs of a workload: routing from the synthetic generator or a data set, everything else drawn.

Entry points: `make_inputs`, `make_routing`, `routing_stats`. The same arguments give the same bits on every device;
what a seed decides is drawn in `values`.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import torch

from bakeoff.core.moe import routing
from bakeoff.core.moe.geometry import Geometry
from bakeoff.core.moe.seeds import choose_seed
from bakeoff.core.moe.values import Family, Steering, Tensors, draw_routing, in_order, make_activations, make_weights

if TYPE_CHECKING:
    from bakeoff.traces.dataset import PublicDataset
    from bakeoff.traces.models import RoutingStats

FULL_HIDDEN, FULL_INTERMEDIATE = 7168, 2048  # of the public data set's definition


class WorkloadFacts(Protocol):
    """What the generator needs to know of a workload (bakeoff.traces.store.Case has it)."""

    @property
    def seq_len(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def factor(self) -> float: ...
    @property
    def seed(self) -> int | None: ...
    @property
    def routing(self) -> Steering | None: ...


def make_inputs(
    geometry: Geometry,
    case: WorkloadFacts,
    family: Family,
    seed: int,
    device: torch.device | str = "cpu",
    dataset: "PublicDataset | None" = None,
    weights: Tensors | None = None,
) -> dict[str, torch.Tensor | int | float]:
    """All ten inputs in the definition's order: tensors on `device`, then the offset (int) and the factor (float).

    weights: the result of `make_weights` for the same geometry, family, seed and device, to share it between cases.
    """
    drawn = make_activations(geometry, case, family, seed, device)
    weights = make_weights(geometry, family, seed, device) if weights is None else weights
    return in_order(make_routing(geometry, case, device, dataset), drawn, weights, case.offset, case.factor)


def make_routing(
    geometry: Geometry, case: WorkloadFacts, device: torch.device | str = "cpu", dataset: "PublicDataset | None" = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """routing_logits (T, 256) float32 and routing_bias (256,) bfloat16; they depend on the case alone.

    No data set has the routing of a case that names its own.
    """
    if dataset is not None and case.routing is None:
        logits, bias = dataset.routing_inputs(dataset_name(geometry), case.seq_len, case.offset)
        return logits.to(device), bias.to(device)
    return draw_routing(geometry, case, routing_seed(geometry, case), device)


def dataset_name(geometry: Geometry) -> str:
    """The data set's definition for a geometry of any width: it knows the full one only, and routing does not depend on
    the width."""
    return replace(geometry, hidden=FULL_HIDDEN, intermediate=FULL_INTERMEDIATE).name


def routing_stats(geometry: Geometry, case: WorkloadFacts, dataset: "PublicDataset | None" = None) -> "RoutingStats":
    """How much work the case's routing, synthetic or the data set's, gives the local experts."""
    logits, bias = make_routing(geometry, case, dataset=dataset)
    routed = routing.route(logits, bias, case.factor, geometry)
    return routing.stats(routed, case.offset, geometry)


def routing_seed(geometry: Geometry, case: WorkloadFacts) -> int:
    """The case's own seed, or, for a case without one, the seed that `choose_seed` finds."""
    return choose_seed(geometry, case.seq_len, case.offset) if case.seed is None else case.seed
