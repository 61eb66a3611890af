"""Train a smaller model to answer, and to think, like its teacher. Letters: B batch, S sequence, E hidden."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pruning.batching import Batch, Encodings
from pruning.divergence import Outputs, output_distances
from pruning.errors import InputError
from pruning.introspect import arch_from_model, head_from_model
from pruning.modes import evaluating
from pruning.objective import Objective

TARGETS = "targets"
"""The one entry of an objective's batch that is no input of the model."""


@dataclass(frozen=True)
class DistillationOptions:
    """``logits * T^2 KL(teacher || student) + hidden * relative distance of the states + truth * the task's own loss``.

    Args:
        temperature: T, softens both distributions.
        logits: weight of the answers.
        hidden: weight of the hidden states, layers matched one to one.
        truth: weight of the loss against the labels.

    Raises:
        InputError: unless the temperature is above 0, and no weight below 0 and not all of them 0.
    """

    temperature: float = 2.0
    logits: float = 1.0
    hidden: float = 0.0
    truth: float = 0.0

    def __post_init__(self) -> None:
        weights = (self.logits, self.hidden, self.truth)
        if self.temperature <= 0 or min(weights) < 0 or not any(weights):
            raise InputError(
                "distillation needs a temperature above 0, and weights of at least 0 with one above it; got "
                f"temperature {self.temperature:g} and weights {', '.join(f'{x:g}' for x in weights)}."
            )


class Distillation(Objective):
    """The loss of a student against a teacher on the same texts; labels are optional.

    Args:
        teacher: a dense or compact BERT, or a larger one; it is moved to the batch's device and never trained.
        encodings: N texts, tokenised as both models read them; None: as ``truth`` does it (windows of long contexts,
            both texts of a pair).
        options: the parts of the loss.
        truth: the task's objective on the same N texts, in the same order; needed where ``options.truth`` is above 0.

    Raises:
        InputError: if labels are asked for but not given, or are of other texts, or there are no texts at all.

    Source: Hinton et al. 2015, arXiv:1503.02531 (softened answers); hidden states as in ZipLM (Kurtic et al. 2023,
    arXiv:2302.04089).
    """

    def __init__(
        self,
        teacher: PreTrainedModel,
        encodings: Encodings | None,
        options: DistillationOptions,
        truth: Objective | None = None,
    ) -> None:
        if options.truth and truth is None:
            raise InputError(f"a weight of {options.truth:g} on the labels needs labelled data; there are no labels.")
        if truth is None and encodings is None:
            raise InputError("distillation needs texts, with labels or without; there are neither.")
        if truth is not None and encodings is not None and truth.lengths != encodings.lengths:
            raise InputError("the labelled texts are not the texts to distil on, or are tokenised in another way.")
        self._teacher, self._encodings, self._options, self._truth = teacher, encodings, options, truth

    @property
    def lengths(self) -> tuple[int, ...]:
        """See `Objective.lengths`."""
        return self._texts.lengths

    @property
    def _texts(self) -> Encodings | Objective:
        found = self._truth if self._encodings is None else self._encodings
        assert found is not None
        return found

    def batch(self, indices: Sequence[int]) -> Batch:
        """The padded texts, with the labels' tensor where the labels count."""
        if self._truth is not None and (self._options.truth or self._encodings is None):
            return self._truth.batch(indices)
        assert self._encodings is not None
        return self._encodings.padded(indices)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """See `Objective.loss`; computed in fp32."""
        options = self._options
        inputs = {name: tensor for name, tensor in batch.items() if name != TARGETS}
        student = model(**inputs, output_hidden_states=options.hidden > 0)
        teacher = self._taught(inputs)
        parts = []
        if options.logits:
            parts.append(options.logits * answer_loss(teacher, student, inputs, options.temperature))
        if options.hidden:
            mask = batch["attention_mask"]
            parts.append(options.hidden * hidden_loss(teacher["hidden_states"], student["hidden_states"], mask))
        if options.truth and self._truth is not None:
            parts.append(options.truth * self._truth.loss(_Answered(student), batch))
        return torch.stack(parts).sum()

    def _taught(self, inputs: Batch) -> Any:
        teacher = self._teacher.to(inputs["input_ids"].device)
        with evaluating(teacher), torch.no_grad():
            return teacher(**inputs, output_hidden_states=self._options.hidden > 0)


class _Answered(nn.Module):
    """A model that has answered already: the task's loss needs no second forward pass."""

    def __init__(self, outputs: Any) -> None:
        super().__init__()
        self._outputs = outputs

    def forward(self, **_inputs: Tensor) -> Any:
        return self._outputs


def check_teacher(teacher: PreTrainedModel, student: PreTrainedModel, options: DistillationOptions) -> None:
    """Make sure that a student can learn from a teacher.

    Raises:
        InputError: if their heads, classes or vocabularies differ, or hidden states are asked for and do not match one
            to one.
    """
    heads = head_from_model(teacher), head_from_model(student)
    if heads[0] != heads[1]:
        raise InputError(
            f"the teacher's head is {heads[0]}, the student's {heads[1]}. Take a teacher of the same task."
        )
    for what, name in (("token ids", "vocab_size"), ("classes", "num_labels")):
        theirs, ours = getattr(teacher.config, name), getattr(student.config, name)
        if theirs != ours:
            raise InputError(f"the teacher has {theirs} {what}, the student {ours}. Take a teacher that fits.")
    sizes = [(len(arch.layers), arch.hidden) for arch in map(arch_from_model, (teacher, student))]
    if options.hidden and sizes[0] != sizes[1]:
        raise InputError(
            "hidden states are matched one to one, but the teacher has {} layers of hidden size {}, the student {} of "
            "{}. Set the weight of the hidden states to 0.".format(*sizes[0], *sizes[1])
        )


def answer_loss(teacher: Outputs, student: Outputs, batch: Batch, temperature: float) -> Tensor:
    """``T^2`` times the mean distance of the answers softened by T; of start and end, the mean.

    See `pruning.divergence.output_distances`. What has no temperature (a score, an embedding) counts as it is.
    """
    distances = output_distances(teacher, student, batch, temperature=temperature).mean()
    return distances / 2 if "start_logits" in teacher else distances


def hidden_loss(teacher: Sequence[Tensor], student: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Squared distance of the states after every layer, over the squared length of the teacher's; padding left out.

    Args:
        teacher: embeddings and L layers, (B, S, E) each; the embeddings are not compared.
        student: alike.
        mask: (B, S), 1 = token.
    """
    kept = mask.bool()
    pairs = [(a[kept].float(), b[kept].float()) for a, b in zip(teacher[1:], student[1:], strict=True)]
    return torch.stack([(a - b).square().sum() for a, b in pairs]).sum() / sum(a.square().sum() for a, _ in pairs)
