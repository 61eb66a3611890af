"""How much each head and each FFN neuron matters: higher = keep.

Every score is also the *cost* of removing the unit, so that costs add up over units and can be traded against prices
(FLOPs, parameters, later milliseconds). Letters: B batch, S sequence, E hidden, D head_dim, H heads, F ffn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from pruning.arch import ArchSpec, head_params, neuron_params
from pruning.batching import Batch, on_device
from pruning.errors import InputError
from pruning.introspect import arch_from_model, head_from_model, layers_from_model
from pruning.masks import gated
from pruning.modes import evaluating
from pruning.pooling import mean_pooled

Progress = Callable[[int, int], None]
"""Called with what is done and the total."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Float tensors: ``heads[i]`` (H_i,) and ``neurons[i]`` (F_i,) of layer ``i``.

    Raises:
        InputError: if a score is negative, NaN or infinite; the layer is named.
    """

    heads: tuple[Tensor, ...]
    neurons: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        for name in ("heads", "neurons"):
            for layer, row in enumerate(getattr(self, name)):
                if not (torch.isfinite(row).all() and (row >= 0).all()):
                    raise InputError(f"scores of the {name} in layer {layer} must be finite and >= 0; got {row}.")


def random_scores(arch: ArchSpec, seed: int) -> Scores:
    """Uniform noise in proportion to a unit's weights: the control that any method has to beat.

    Scaled by weights, a head of many weights is not cheaper to remove than the neurons that hold as many.
    """
    generator = torch.Generator().manual_seed(seed)
    heads = [torch.rand(x.heads, generator=generator) * head_params(arch) for x in arch.layers]
    neurons = [torch.rand(x.ffn, generator=generator) * neuron_params(arch) for x in arch.layers]
    return Scores(tuple(heads), tuple(neurons))


def magnitude_scores(model: PreTrainedModel) -> Scores:
    """Sum of the squared weights of each unit, over all matrices that it takes part in."""
    arch, layers = arch_from_model(model), layers_from_model(model)
    heads = [
        _head_magnitude(x, arch.head_dim) if n else torch.zeros(0) for x, n in zip(layers, arch.heads, strict=True)
    ]
    neurons = [_neuron_magnitude(x) if n else torch.zeros(0) for x, n in zip(layers, arch.ffn, strict=True)]
    return Scores(tuple(heads), tuple(neurons))


def fisher_scores(
    model: PreTrainedModel, batches: Sequence[Batch], *, seed: int = 0, progress: Progress | None = None
) -> Scores:
    """Diagonal of the Fisher information of a gate on each unit, under the model's own predictions.

    Needs no labels: where the expectation over the model's answers has no cheap closed form, answers are sampled.

    Args:
        model: dense or compact BERT; not modified.
        batches: calibration text, (B, S) each; gradients are taken per example.
        seed: of the sampled answers.
        progress: called after every batch.

    Source: Kwon et al. 2022, arXiv:2204.09656, section 4.1 (there with labels).
    """
    arch = arch_from_model(model)
    objective = OBJECTIVES[head_from_model(model)]
    generator = torch.Generator().manual_seed(seed)
    sums = [torch.zeros(size) for size in (*arch.heads, *arch.ffn)]
    for done, batch in enumerate(batches, start=1):
        gates = [torch.ones(len(batch["input_ids"]), 1, len(row), requires_grad=True) for row in sums]
        depth = len(arch.layers)
        inputs = on_device(batch, model.device)
        with torch.enable_grad(), evaluating(model), gated(model, gates[:depth], gates[depth:]):
            value = objective(model(**inputs), inputs, generator)
        used = [index for index, gate in enumerate(gates) if gate.shape[-1]]
        gradients = torch.autograd.grad(value, [gates[index] for index in used]) if used else ()
        for index, gradient in zip(used, gradients, strict=True):
            sums[index] += gradient.square().sum(dim=(0, 1))
        if progress is not None:
            progress(done, len(batches))
    return Scores(tuple(sums[: len(arch.layers)]), tuple(sums[len(arch.layers) :]))


def _head_magnitude(layer: Any, head_dim: int) -> Tensor:
    own, output = layer.attention.self, layer.attention.output.dense
    rows = own.query.weight.square() + own.key.weight.square() + own.value.weight.square()  # (H D, E)
    squares = rows.sum(dim=1) + output.weight.square().sum(dim=0)  # (H D,)
    return squares.detach().cpu().unflatten(0, (-1, head_dim)).sum(dim=1)  # type: ignore[no-any-return]


def _neuron_magnitude(layer: Any) -> Tensor:
    squares = layer.intermediate.dense.weight.square().sum(dim=1) + layer.output.dense.weight.square().sum(dim=0)
    return squares.detach().cpu()  # type: ignore[no-any-return]


def _sampled_log_likelihood(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Log-probability (...,) of one class drawn from each row of ``logits`` (..., C)."""
    log_p = logits.log_softmax(-1)
    flat = log_p.detach().exp().flatten(0, -2).cpu()  # drawn there, so that a seed means the same on every device
    drawn = torch.multinomial(flat, 1, generator=generator).view(*log_p.shape[:-1], 1)
    return log_p.gather(-1, drawn.to(log_p.device)).squeeze(-1)


def _classification(outputs: ModelOutput, _batch: Batch, generator: torch.Generator) -> Tensor:
    logits = outputs["logits"]  # (B, C)
    if logits.shape[1] == 1:  # regression: a Gaussian of unit variance around the prediction
        return logits.sum()  # type: ignore[no-any-return]
    if logits.shape[1] == 2:  # two answers: the expectation over them is exact
        p = logits.detach().softmax(-1)
        return (p.prod(-1).sqrt() * (logits[:, 1] - logits[:, 0])).sum()  # type: ignore[no-any-return]
    return _sampled_log_likelihood(logits, generator).sum()


def _per_token(outputs: ModelOutput, batch: Batch, generator: torch.Generator) -> Tensor:
    likelihood = _sampled_log_likelihood(outputs["logits"], generator)  # (B, S)
    return (likelihood * batch["attention_mask"]).sum()


def _answer_span(outputs: ModelOutput, batch: Batch, generator: torch.Generator) -> Tensor:
    padding = (1.0 - batch["attention_mask"]) * torch.finfo(torch.float32).min
    ends = [_sampled_log_likelihood(outputs[name] + padding, generator) for name in ("start_logits", "end_logits")]
    return (ends[0] + ends[1]).sum()


def _embedding(outputs: ModelOutput, batch: Batch, generator: torch.Generator) -> Tensor:
    """A random direction of the sentence embedding: in expectation, the squared norm of its Jacobian."""
    embeddings = mean_pooled(outputs["last_hidden_state"], batch["attention_mask"])  # (B, E)
    unit = torch.nn.functional.normalize(embeddings, dim=-1)
    return (unit * torch.randn(unit.shape, generator=generator).to(unit.device)).sum()


OBJECTIVES: dict[str, Callable[[ModelOutput, Batch, torch.Generator], Tensor]] = {
    "sequence-classification": _classification,
    "question-answering": _answer_span,
    "token-classification": _per_token,
    "masked-lm": _per_token,
    "encoder": _embedding,
}
"""What is differentiated, per head: the square of its gradient has the Fisher information as its mean."""
