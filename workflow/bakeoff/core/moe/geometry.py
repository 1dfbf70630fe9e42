"""The sizes of one rank's mixture-of-experts layer."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bakeoff.errors import InputError

if TYPE_CHECKING:
    from bakeoff.traces.models import Definition

OP = "moe_fp8_block_scale_ds_routing"
# Geometry field -> the definition's axis.
AXES = {
    "hidden": "hidden_size",
    "intermediate": "intermediate_size",
    "experts": "num_experts",
    "local_experts": "num_local_experts",
}


@dataclass(frozen=True)
class Geometry:
    """Sizes in elements. DeepSeek-V3 routing: `groups` groups of experts, of which the best `top_groups` stay."""

    hidden: int
    intermediate: int
    experts: int = 256
    local_experts: int = 32
    groups: int = 8
    top_groups: int = 4
    top_k: int = 8
    block: int = 128

    @classmethod
    def of(cls, definition: "Definition") -> "Geometry":
        """Read the constant axes; an axis that is missing or does not fit is an InputError."""
        sizes = {}
        for field, axis in AXES.items():
            value = getattr(definition.axes.get(axis), "value", None)
            if value is None:
                raise InputError(
                    f"definition {definition.name}: axes.{axis}",
                    found="no constant axis of this name",
                    expected=f"constant axes {', '.join(AXES.values())}",
                    hint=f"use a definition of the family {OP}_*",
                )
            sizes[field] = int(value)
        geometry = cls(**sizes)
        geometry._check(definition.name)
        return geometry

    @property
    def name(self) -> str:
        """Name of the definition that has these sizes."""
        return (
            f"{OP}_topk{self.top_k}_ng{self.groups}_kg{self.top_groups}"
            f"_e{self.local_experts}_h{self.hidden}_i{self.intermediate}"
        )

    @property
    def hidden_blocks(self) -> int:
        return self.hidden // self.block

    @property
    def intermediate_blocks(self) -> int:
        return self.intermediate // self.block

    @property
    def group_size(self) -> int:
        return self.experts // self.groups

    def shapes(self, tokens: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensor inputs, by name, in the definition's order."""
        experts, h_blocks, i_blocks = self.local_experts, self.hidden_blocks, self.intermediate_blocks
        return {
            "routing_logits": (tokens, self.experts),
            "routing_bias": (self.experts,),
            "hidden_states": (tokens, self.hidden),
            "hidden_states_scale": (h_blocks, tokens),
            "gemm1_weights": (experts, 2 * self.intermediate, self.hidden),
            "gemm1_weights_scale": (experts, 2 * i_blocks, h_blocks),
            "gemm2_weights": (experts, self.hidden, self.intermediate),
            "gemm2_weights_scale": (experts, h_blocks, i_blocks),
        }

    def _check(self, name: str) -> None:
        wrong = [
            f"{AXES[field]} = {size} (not a multiple of {step})"
            for field, size, step in (
                ("hidden", self.hidden, self.block),
                ("intermediate", self.intermediate, self.block),
                ("experts", self.experts, self.groups),
            )
            if size % step
        ]
        if self.local_experts > self.experts:
            wrong.append(f"{AXES['local_experts']} = {self.local_experts} (more than {self.experts} experts)")
        if wrong:
            raise InputError(
                f"definition {name}: axes",
                found="; ".join(wrong),
                expected=f"whole blocks of {self.block}, {self.groups} groups of equal size, no more local experts "
                f"than experts",
                hint="correct the axis, or use another definition",
            )
