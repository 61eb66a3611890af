"""Input batches of exactly (B, S) in which every token is real: what a fixed grid is measured on.

No padding, so the attention mask is all ones. Letters: B batch, S sequence, N tokens in the texts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from bench.paired import MIN_BUFFERS
from pruning.batching import Batch
from pruning.errors import InputError


def input_batches(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    batch: int,
    seq: int,
    *,
    count: int = MIN_BUFFERS,
    seed: int = 0,
) -> list[Batch]:
    """``count`` different batches of shape (B, S), cut from the token ids of ``texts`` laid end to end.

    Each row begins and ends with the tokenizer's own special tokens where it has them and S leaves room.

    Raises:
        InputError: if a size is below 1, or the texts hold no token.
    """
    _check_sizes(batch, seq, count)
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"] if texts else []
    stream = torch.tensor([token for ids in encoded for token in ids], dtype=torch.int64)  # (N,)
    if not len(stream):
        raise InputError("no token in the texts for the benchmark; pass some text, or none for random ids.")
    first, last = _special_ids(tokenizer, seq)
    body = seq - len(first) - len(last)
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(len(stream), (count, batch, 1), generator=generator)
    ids = stream[(starts + torch.arange(body)) % len(stream)]  # (count, B, body)
    edges = [torch.tensor(edge, dtype=torch.int64).expand(count, batch, -1) for edge in (first, last)]
    return [_batch_from_ids(part) for part in torch.cat([edges[0], ids, edges[1]], dim=2)]


def random_batches(vocab_size: int, batch: int, seq: int, *, count: int = MIN_BUFFERS, seed: int = 0) -> list[Batch]:
    """``count`` batches of shape (B, S) of ids drawn evenly from the vocabulary, for when there is no text.

    Raises:
        InputError: if a size is below 1.
    """
    _check_sizes(batch, seq, count)
    if vocab_size < 1:
        raise InputError(f"random inputs need a vocabulary of at least one id; got {vocab_size}.")
    generator = torch.Generator().manual_seed(seed)
    return [_batch_from_ids(ids) for ids in torch.randint(vocab_size, (count, batch, seq), generator=generator)]


def _check_sizes(batch: int, seq: int, count: int) -> None:
    if min(batch, seq, count) < 1:
        raise InputError(f"batch, sequence length and count must be at least 1; got {batch}, {seq} and {count}.")


def _special_ids(tokenizer: PreTrainedTokenizerBase, length: int) -> tuple[list[int], list[int]]:
    """What goes before and after the text in one row: [CLS] and [SEP], or nothing if three tokens do not fit."""
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    if length < 3 or first is None or last is None:
        return [], []
    return [first], [last]


def _batch_from_ids(ids: Tensor) -> Batch:
    ids = ids.contiguous()
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": torch.zeros_like(ids),
    }
