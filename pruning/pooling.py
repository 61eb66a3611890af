"""From token states to one vector per text."""

from __future__ import annotations

from torch import Tensor


def mean_pooled(states: Tensor, attention_mask: Tensor) -> Tensor:
    """Mean over the tokens that are not padding.

    Args:
        states: (B, S, E).
        attention_mask: (B, S), 1 = token, 0 = padding. A row without tokens gives zeros.

    Returns:
        (B, E).

    Source: Reimers and Gurevych 2019, arXiv:1908.10084.
    """
    weights = attention_mask.to(states)[..., None]  # (B, S, 1)
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
