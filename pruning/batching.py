"""Texts in, padded batches out: the one place that tokenises, sorts by length and pads.

Letters: N texts, B batch, S sequence. Padding is always on the right, whatever the tokenizer prefers: what
is padded must not change an answer, and one convention is easier to trust than two.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pruning.errors import InputError
from pruning.modes import evaluating

Batch = dict[str, Tensor]
"""``input_ids``, ``attention_mask`` and ``token_type_ids``: int64, (B, S)."""

Predict = Callable[[Batch], dict[str, Tensor]]
"""A model in any runtime, as a function to named outputs: see ``OUTPUT_NAMES``."""

OUTPUT_NAMES = ("logits", "start_logits", "end_logits", "last_hidden_state", "sentence_embedding")
"""Logits of a classifier or masked LM, start and end for question answering, states of a bare encoder, one vector per
text."""

BATCHES_PER_CHUNK = 50


@dataclass(frozen=True)
class Encodings:
    """N tokenised texts without padding, special tokens included.

    Raises:
        InputError: unless there is one list of token types per text.
    """

    input_ids: tuple[tuple[int, ...], ...]
    token_type_ids: tuple[tuple[int, ...], ...]
    pad_id: int

    def __post_init__(self) -> None:
        if len(self.input_ids) != len(self.token_type_ids):
            raise InputError(
                f"encodings need token types for every text; got {len(self.token_type_ids)} "
                f"for {len(self.input_ids)} texts."
            )

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each text."""
        return tuple(map(len, self.input_ids))

    def padded(self, indices: Sequence[int]) -> Batch:
        """The chosen texts as one batch, padded on the right to the longest of them."""
        ids = [self.input_ids[i] for i in indices]
        types = [self.token_type_ids[i] for i in indices]
        lengths = torch.tensor([len(row) for row in ids])  # (B,)
        longest = max(map(len, ids))
        mask = torch.arange(longest) < lengths[:, None]  # (B, S)
        return {
            "input_ids": _padded_tensor(ids, longest, self.pad_id),
            "attention_mask": mask.long(),
            "token_type_ids": _padded_tensor(types, longest, 0),
        }


@dataclass(frozen=True, eq=False)
class IndexedBatch:
    """A padded batch, and which texts its rows are."""

    indices: tuple[int, ...]
    batch: Batch


def encode(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    max_length: int = 128,
) -> Encodings:
    """Tokenise ``texts``, or ``texts`` and ``pairs`` side by side, cut to ``max_length`` tokens.

    The tokenizer's own limit applies too. Of a pair, the longer text is cut first.

    Raises:
        InputError: if there is no text, a pair is missing, ``max_length`` leaves no room for a token, or
            the tokenizer cannot pad.
    """
    _check_encodable(tokenizer, texts, pairs, max_length)
    encoded = tokenizer(
        list(texts),
        None if pairs is None else list(pairs),
        truncation=True,
        max_length=min(max_length, tokenizer.model_max_length),
        return_token_type_ids=True,
        return_attention_mask=False,
        verbose=False,
    )
    return Encodings(
        input_ids=tuple(map(tuple, encoded["input_ids"])),
        token_type_ids=tuple(map(tuple, encoded["token_type_ids"])),
        pad_id=int(tokenizer.pad_token_id),
    )


def bucketed_indices(lengths: Sequence[int], batch_size: int, *, seed: int | None = None) -> list[tuple[int, ...]]:
    """Split 0 .. N - 1 into batches of similar length; each index appears once.

    Without a seed: sorted by length, longest first (so that a batch too large for the memory fails at once).
    With one: shuffled, sorted only inside chunks of 50 batches, and the batches shuffled again, which keeps
    training random while padding stays small. The same arguments always give the same answer.

    Raises:
        InputError: if ``batch_size`` is below 1.
    """
    if batch_size < 1:
        raise InputError(f"the batch size must be at least 1; got {batch_size}.")
    order = list(range(len(lengths)))
    chunk = len(order) if seed is None else batch_size * BATCHES_PER_CHUNK
    generator = random.Random(seed)
    if seed is not None:
        generator.shuffle(order)
    batches = [
        batch
        for start in range(0, len(order), max(chunk, 1))
        for batch in _longest_first(order[start : start + chunk], lengths, batch_size)
    ]
    if seed is not None:
        generator.shuffle(batches)
    return batches


def bucketed_batches(encodings: Encodings, batch_size: int, *, seed: int | None = None) -> list[IndexedBatch]:
    """All texts in padded batches of similar length; see `bucketed_indices` for the order.

    Raises:
        InputError: if ``batch_size`` is below 1.
    """
    return [
        IndexedBatch(indices, encodings.padded(indices))
        for indices in bucketed_indices(encodings.lengths, batch_size, seed=seed)
    ]


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The same batch on ``device``."""
    return {name: tensor.to(device) for name, tensor in batch.items()}


def predict_from_model(model: PreTrainedModel) -> Predict:
    """The model as a `Predict`: in evaluation mode and without gradients.

    Inputs are moved to the model's device; outputs come back on the CPU in fp32. Each call leaves the training
    flag as it was.
    """

    def predict(batch: Batch) -> dict[str, Tensor]:
        with evaluating(model), torch.no_grad():
            outputs = model(**on_device(batch, model.device))
        return {name: outputs[name].float().cpu() for name in OUTPUT_NAMES if name in outputs}

    return predict


def predict_rows(
    predict: Predict,
    batches: Sequence[IndexedBatch],
    row_from_outputs: Callable[[dict[str, Tensor], Batch], Tensor],
) -> Tensor:
    """Run every batch and put one row per text, (N, ...), back into the texts' order.

    ``row_from_outputs`` turns the outputs of one batch into a tensor of shape (B, ...).

    Raises:
        InputError: if a row holds NaN or infinite values, which no metric should quietly score.
    """
    rows = torch.cat([row_from_outputs(predict(item.batch), item.batch) for item in batches])
    indices = torch.tensor([index for item in batches for index in item.indices])
    if not torch.isfinite(rows).all():
        raise InputError("the model gives NaN or infinite outputs. Check its weights and precision.")
    return rows[indices.argsort()]


def _check_encodable(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int
) -> None:
    if not texts:
        raise InputError("there is no text to tokenise; pass at least one.")
    if pairs is not None and len(pairs) != len(texts):
        raise InputError(f"every text needs its pair; got {len(texts)} texts and {len(pairs)} pairs.")
    special = tokenizer.num_special_tokens_to_add(pair=pairs is not None)
    if max_length <= special:
        raise InputError(f"max_length must leave room for a token beside the {special} special ones; got {max_length}.")
    if tokenizer.pad_token_id is None:
        raise InputError("the tokenizer has no padding token; set tokenizer.pad_token before batching.")


def _padded_tensor(rows: Sequence[Sequence[int]], longest: int, fill: int) -> Tensor:
    padded = np.full((len(rows), longest), fill, dtype=np.int64)  # numpy reads Python numbers faster than torch
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return torch.from_numpy(padded)  # (B, S)


def _longest_first(order: Sequence[int], lengths: Sequence[int], batch_size: int) -> list[tuple[int, ...]]:
    ranked = sorted(order, key=lambda index: -lengths[index])  # stable: ties keep the given order
    return [tuple(ranked[i : i + batch_size]) for i in range(0, len(ranked), batch_size)]
