"""Do two models decide alike? Beside the size of an error, what a user sees of it. Letters: B batch, S sequence."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from exporter.parity import ONE_VALUE_PER_TOKEN, kept_values
from pruning.batching import Batch, Predict

VECTORS = ("last_hidden_state", "sentence_embedding")
"""Outputs that are vectors to compare by angle; all others are logits that decide."""
LEAST_AGREEMENT = {"fp32": 0.995, "fp16": 0.98, "int8": 0.97}
"""Share of equal decisions on real text that each precision owes, or mean cosine of vectors."""


def agreements(name: str, expected: Tensor, found: Tensor, mask: Tensor) -> Tensor:
    """One number for each decision or vector, (N,): 1 where the largest logit is the same, or the cosine.

    Decisions are compared per row for a classifier, per kept token where there are logits for each, and per row among
    its kept tokens for start and end of an answer.

    Args:
        name: of the output.
        expected: of the reference.
        found: of the candidate, the same shape.
        mask: bool (B, S), False = padding.
    """
    if name in ONE_VALUE_PER_TOKEN:
        rows = mask.any(1)
        x, y = (value.masked_fill(~mask, -torch.inf)[rows] for value in (expected, found))
    else:
        x, y = (kept_values(name, value, mask).double() for value in (expected, found))
    return torch.cosine_similarity(x, y, dim=-1) if name in VECTORS else (x.argmax(-1) == y.argmax(-1)).double()


def mean_agreement(reference: Predict, candidate: Predict, batches: Iterable[Batch]) -> float:
    """Mean of `agreements` over all batches together, of the output that agrees least; 1 if there is no batch."""
    found: dict[str, list[Tensor]] = {}
    for batch in batches:
        expected, outputs, mask = reference(batch), candidate(batch), batch["attention_mask"].bool()
        for name, value in expected.items():
            found.setdefault(name, []).append(agreements(name, value, outputs[name], mask))
    return min((float(torch.cat(values).mean()) for values in found.values()), default=1.0)
