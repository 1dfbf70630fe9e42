import torch

GROUPS, KEPT_GROUPS, TOP_K, BLOCK = 8, 4, 8, 128


@torch.no_grad()
def run(
    routing_logits: torch.Tensor,
    routing_bias: torch.Tensor,
    hidden_states: torch.Tensor,
    hidden_states_scale: torch.Tensor,
    gemm1_weights: torch.Tensor,
    gemm1_weights_scale: torch.Tensor,
    gemm2_weights: torch.Tensor,
    gemm2_weights_scale: torch.Tensor,
    local_expert_offset: int,
    routed_scaling_factor: float,
) -> torch.Tensor:
    """FP8 block-scaled mixture of experts with DeepSeek-V3 routing, one rank's experts, in float32.

    Dequantizes the activations (1 x 128 blocks) and all weights (128 x 128 blocks) on every call.
    Returns output (T, H) bfloat16; a token that chose no local expert gets an exactly zero row.
    """
    tokens, hidden = hidden_states.shape
    local_experts, _, inner = gemm2_weights.shape
    offset = int(local_expert_offset)

    chosen, weights = choose_experts(routing_logits, routing_bias, float(routed_scaling_factor))
    x = hidden_states.float() * hidden_states_scale.t().repeat_interleave(BLOCK, dim=1)
    w1 = dequantize(gemm1_weights, gemm1_weights_scale)  # (E, 2I, H): rows :I are "up", rows I: are the gate
    w2 = dequantize(gemm2_weights, gemm2_weights_scale)  # (E, H, I)

    output = torch.zeros(tokens, hidden, dtype=torch.float32, device=hidden_states.device)
    for e in range(local_experts):
        token, k = (chosen == offset + e).nonzero(as_tuple=True)
        if token.numel() == 0:
            continue
        up, gate = (x[token] @ w1[e].t()).split(inner, dim=1)
        result = (torch.nn.functional.silu(gate) * up) @ w2[e].t()
        output.index_add_(0, token, result * weights[token, k].unsqueeze(1))
    return output.to(torch.bfloat16)


def choose_experts(logits: torch.Tensor, bias: torch.Tensor, factor: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns expert ids (T, 8) and weights (T, 8). Ties go to the lowest group id and the lowest expert id."""
    scores, biased = choice_scores(logits, bias)
    _, candidates = keep_groups(biased)
    chosen = largest(candidates, TOP_K)
    weights = scores.gather(1, chosen)
    return chosen, weights / (weights.sum(dim=1, keepdim=True) + 1e-20) * factor


def choice_scores(logits: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns sigmoid scores (T, 256), and the same with the bias, by which experts are chosen."""
    # Through float64, so that equal logits give equal scores on every device and in every loop of a library.
    scores = torch.sigmoid(logits.double()).float()
    return scores, scores + bias.float()


def keep_groups(biased: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns group scores (T, 8), and the biased scores with all but the best 4 groups at minus infinity."""
    groups = biased.view(len(biased), GROUPS, -1)
    group_scores = groups.topk(2, dim=2).values.sum(dim=2)
    dropped = torch.ones_like(group_scores, dtype=torch.bool)
    dropped.scatter_(1, largest(group_scores, KEPT_GROUPS), False)
    return group_scores, groups.masked_fill(dropped.unsqueeze(2), float("-inf")).flatten(1)


def largest(values: torch.Tensor, count: int) -> torch.Tensor:
    """Returns the columns of each row's `count` largest values; of equal ones the lowest, which topk does not
    promise."""
    values = values.clone()
    columns = []
    for _ in range(count):
        columns.append(values.argmax(dim=1, keepdim=True))  # argmax: the first of equal maxima
        values.scatter_(1, columns[-1], float("-inf"))
    return torch.cat(columns, dim=1)


def dequantize(weights: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """weights: (E, N, K) e4m3; scale: (E, N/128, K/128), one for 128 x 128 values. Returns (E, N, K) float32."""
    # The scales are spread to full size, which broadcasting would spare: published speedups are over a baseline that
    # pays for it.
    return weights.float() * scale.repeat_interleave(BLOCK, dim=1).repeat_interleave(BLOCK, dim=2)
