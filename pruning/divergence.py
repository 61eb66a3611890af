"""How far a model's answers are from another's, without labels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from pruning.batching import Batch, Predict
from pruning.pooling import mean_pooled

Outputs = dict[str, Tensor]


def divergence(reference: Predict, candidate: Predict, batches: Sequence[Batch]) -> float:
    """Mean over texts of the distance between two models' outputs; 0 if they agree.

    Class probabilities: Kullback-Leibler divergence in nats, KL(reference || candidate); summed over start and end for
    question answering, averaged over tokens for token outputs. A single output (regression): squared difference.
    Token states: 1 - cosine similarity of the mean-pooled embeddings.
    """
    total, texts = 0.0, 0
    for batch in batches:
        total += float(_distances(reference(batch), candidate(batch), batch).double().sum())
        texts += len(batch["input_ids"])
    return total / texts


def _distances(reference: Outputs, candidate: Outputs, batch: Batch) -> Tensor:
    """One distance per text, (B,)."""
    mask = batch["attention_mask"].float()
    if "last_hidden_state" in reference:
        a, b = (mean_pooled(x["last_hidden_state"], mask) for x in (reference, candidate))
        return 1 - F.cosine_similarity(a, b)
    if "start_logits" in reference:
        hidden = (1 - mask) * -1e9
        names = ("start_logits", "end_logits")
        start, end = (_kl(reference[name] + hidden, candidate[name] + hidden) for name in names)
        return start + end
    a, b = reference["logits"], candidate["logits"]
    if a.dim() == 3:  # (B, S, C)
        return (_kl(a, b) * mask).sum(1) / mask.sum(1).clamp(min=1)
    return (a - b).square().squeeze(-1) if a.shape[-1] == 1 else _kl(a, b)


def _kl(reference: Tensor, candidate: Tensor) -> Tensor:
    p, q = reference.double().log_softmax(-1), candidate.double().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)
