"""Routing of v4, device code: choose each token's local experts and give every pair a rank within its expert.

One warp a token. Lane l holds experts 8 l to 8 l + 7, so that four lanes hold a group of 32; lane e deals with local
expert e
afterwards. Ties go to the lowest group and the lowest expert. A pair's rank is the order of arrival at its expert's
counter: rows may swap places between calls, but what a row holds does not depend on its place.
"""

# No "from __future__ import annotations" in CuTeDSL modules: Constexpr annotations are read as objects.

from typing import Any

import cutlass
import cutlass.cute as cute

from . import geometry as geo
from .common import cute_ptx as ptx
from .common.cute_tiles import F32, I32, Bundle

I64 = cutlass.Int64
WARPS = 4  # tokens of a block
GROUPS, KEPT_GROUPS, LANES = 8, 4, 4  # lanes of a group
EACH = 8  # experts of a lane
LOWEST = -(1 << 31)
LOG2_E = 1.4426950408889634


class Routing:
    """The routing kernel. Calling `launch` (inside `cute.compile`) records its launch."""

    @cute.jit
    def launch(self, call: Bundle, spots: Bundle, stream: Any) -> None:
        """Record the launch. call: addresses and numbers of the call; spots: addresses of the scratch
        (`geometry.Places`)."""
        values = (call.logits, call.bias, call.out, call.tokens, call.hidden, call.first_expert, call.factor)
        places = (spots.counters, spots.code, spots.weight, spots.index)
        type(self).kernel.set_name_prefix("route_tokens", remove_cutlass_symbol=True, keep_mangled_name=False)
        self.kernel(values, places).launch(
            grid=[(call.tokens + (WARPS - 1)) // WARPS, 1, 1], block=[32 * WARPS, 1, 1], stream=stream
        )

    @cute.kernel
    def kernel(self, values: tuple[Any, ...], places: tuple[Any, ...]) -> None:
        cute.arch.griddepcontrol_launch_dependents()
        names = ("logits", "bias", "out", "tokens", "hidden", "first_expert", "factor")
        call = Bundle(**dict(zip(names, values, strict=True)))
        spots = Bundle(**dict(zip(("counters", "code", "weight", "index"), places, strict=True)))
        thread, _, _ = cute.arch.thread_idx()
        token = cute.arch.block_idx()[0] * WARPS + cute.arch.make_warp_uniform(thread // 32)
        if token < call.tokens:
            self.route(call, spots, token)

    @cute.jit
    def route(self, call: Bundle, spots: Bundle, token: I32) -> None:
        """Everything about one token."""
        lane = cute.arch.lane_idx()
        scores, keys, kept = self.choices(call, token, lane)
        home = call.first_expert // geo.EXPERTS * LANES  # first lane of the rank's group
        chosen = I32(0)  # the token's local experts, a bit each
        share = F32(0.0)  # weight of local expert `lane`
        if ptx.lane_value(ptx.select(kept, I32(1), I32(0)), home) == 1:  # few tokens keep the rank's group
            mask = self.top_experts(keys, kept, lane)
            total = F32(0.0)
            for j in cutlass.range_constexpr(EACH):
                total += ptx.select((mask >> j) & 1 == 1, scores[j], F32(0.0))
            for bit in cutlass.range_constexpr(5):
                total += cute.arch.shuffle_sync_bfly(total, offset=1 << bit)
            chosen = I32(ptx.warp_or(ptx.select(lane // LANES == home // LANES, mask << (lane % LANES * EACH), I32(0))))
            for j in cutlass.range_constexpr(EACH):
                score = ptx.lane_value(scores[j], home + lane // EACH)
                share = ptx.select(lane % EACH == j, score, share)
            share = share * (call.factor / (total + F32(1e-20)))
        self.record(call, spots, token, lane, chosen, share)

    def choices(self, call: Bundle, token: Any, lane: Any) -> tuple[list[Any], list[Any], Any]:
        """A lane's eight scores, their keys (integers in the order of score + bias), and whether its group is kept."""
        at = call.logits + I64(1024) * I64(token) + I64(32) * I64(lane)
        logits = ptx.load_global(at, 4, F32) + ptx.load_global(at + I64(16), 4, F32)
        words = ptx.load_global(call.bias + I64(16) * I64(lane), 4, I32)
        bias = [value for word in words for value in ptx.bf16_pair(word)]
        scores = [F32(1.0) / (F32(1.0) + ptx.power_of_two(x * F32(-LOG2_E))) for x in logits]
        values = [score + b for score, b in zip(scores, bias, strict=True)]
        first, second = values[0], F32(float("-inf"))
        for value in values[1:]:
            second = cute.arch.fmax(second, cute.arch.fmin(first, value))
            first = cute.arch.fmax(first, value)
        for bit in (1, 2):
            other_first = cute.arch.shuffle_sync_bfly(first, offset=bit)
            other_second = cute.arch.shuffle_sync_bfly(second, offset=bit)
            low = cute.arch.fmin(first, other_first)
            second = cute.arch.fmax(low, cute.arch.fmax(second, other_second))
            first = cute.arch.fmax(first, other_first)
        total = first + second
        before = I32(0)
        for group in range(GROUPS):
            other = cute.arch.shuffle_sync(total, group * LANES)
            tie = ptx.select(other == total, ptx.select(lane // LANES > group, I32(1), I32(0)), I32(0))
            before += ptx.select(other > total, I32(1), tie)
        bits = [I32(ptx.bits_of(value)) for value in values]
        return scores, [b ^ ((b >> 31) & I32(0x7FFFFFFF)) for b in bits], before < KEPT_GROUPS

    def top_experts(self, keys: list[Any], kept: Any, lane: Any) -> Any:
        """Which of a lane's eight experts are among the best eight of the kept groups, a bit each."""
        keys = [ptx.select(kept, key, I32(LOWEST)) for key in keys]
        mask = I32(0)
        for _ in range(geo.SLOTS):
            largest = keys[0]
            for key in keys[1:]:
                largest = ptx.select(key > largest, key, largest)
            best = I32(ptx.warp_max(largest))
            ballot = I32(cute.arch.vote_ballot_sync(largest == best))
            winner = cute.arch.popc((ballot & -ballot) - 1)
            left = ptx.select(lane == winner, I32(1), I32(0))
            for j in range(EACH):
                hit = ptx.select(keys[j] == best, left, I32(0))
                left -= hit
                keys[j] = ptx.select(hit == 1, I32(LOWEST), keys[j])
                mask = mask | (hit << j)
        return mask

    @cute.jit
    def record(self, call: Bundle, spots: Bundle, token: I32, lane: I32, chosen: I32, share: F32) -> None:
        """Count the pairs and write them down; a token without any gets its row of zeros here."""
        pairs = I64(token) * I64(geo.SLOTS)
        found = cute.arch.popc(chosen)
        if (chosen >> lane) & 1 == 1:
            rank = I32(ptx.count_up(spots.counters + I64(4 * geo.COUNTER_INTS) * I64(lane), I32(1)))
            slot = cute.arch.popc(chosen & ((I32(1) << lane) - 1))
            at = I64(4) * (pairs + I64(slot))
            ptx.store_global(spots.code + at, [(lane << geo.RANK_BITS) | rank])
            ptx.store_global(spots.weight + at, [share])
            ptx.store_global(spots.index + I64(4) * (I64(lane) * I64(call.tokens) + I64(rank)), [token])
        if lane >= found and lane < geo.SLOTS:
            ptx.store_global(spots.code + I64(4) * (pairs + I64(lane)), [I32(-1)])
        if found == 0:
            zero = [I32(0)] * 4
            row = call.out + I64(2) * I64(token) * I64(call.hidden)
            piece = lane
            while piece < call.hidden // 8:
                ptx.store_global(row + I64(16) * I64(piece), zero)
                piece += 32
