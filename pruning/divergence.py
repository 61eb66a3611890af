"""How far a model's answers are from another's, without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.nn import functional as F

from pruning.batching import Batch, Predict
from pruning.pooling import mean_pooled

Outputs = Mapping[str, Tensor]
"""A model's answers by name: see `pruning.batching.OUTPUT_NAMES`."""


def divergence(reference: Predict, candidate: Predict, batches: Sequence[Batch]) -> float:
    """Mean over texts of `output_distances`; 0 if the two models agree."""
    return divergences(reference, [candidate], batches)[0]


def divergences(reference: Predict, candidates: Sequence[Predict], batches: Sequence[Batch]) -> list[float]:
    """`divergence` of each candidate; the reference answers once."""
    totals = [0.0] * len(candidates)
    for batch in batches:
        expected = reference(batch)
        for index, candidate in enumerate(candidates):
            totals[index] += float(output_distances(expected, candidate(batch), batch).sum())
    texts = sum(len(batch["input_ids"]) for batch in batches)
    return [total / texts for total in totals]


def output_distances(reference: Outputs, candidate: Outputs, batch: Batch, *, temperature: float = 1.0) -> Tensor:
    """How far the answers to each text are from another model's, (B,).

    Class probabilities: Kullback-Leibler divergence in nats, KL(reference || candidate); summed over start and end for
    question answering, averaged over tokens for token outputs. A single output (regression): squared difference.
    Token states: 1 - cosine similarity of the mean-pooled embeddings.

    Args:
        reference: answers of the model to compare with.
        candidate: answers of the other.
        batch: the texts.
        temperature: T, divides logits before the softmax; divergences are multiplied by T squared, so that gradients
            keep their size (Hinton et al. 2015, arXiv:1503.02531).
    """
    mask = batch["attention_mask"].float()
    if "last_hidden_state" in reference:
        a, b = (mean_pooled(x["last_hidden_state"], mask) for x in (reference, candidate))
        return 1 - F.cosine_similarity(a, b).double()
    if "start_logits" in reference:
        hidden = (1 - mask) * -1e9
        names = ("start_logits", "end_logits")
        start, end = (_kl(reference[name] + hidden, candidate[name] + hidden, temperature) for name in names)
        return start + end
    a, b = reference["logits"], candidate["logits"]
    if a.dim() == 3:  # (B, S, C)
        return (_kl(a, b, temperature) * mask).sum(1) / mask.sum(1).clamp(min=1)
    return (a - b).double().square().squeeze(-1) if a.shape[-1] == 1 else _kl(a, b, temperature)


def _kl(reference: Tensor, candidate: Tensor, temperature: float) -> Tensor:
    p, q = ((x.double() / temperature).log_softmax(-1) for x in (reference, candidate))
    return temperature**2 * (p.exp() * (p - q)).sum(-1)
