"""Batches with the lengths of real texts: padded, bucketed and packed, to be compared in real tokens per second.

Letters: B rows of a batch, S longest text in tokens.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

import torch
from transformers import PreTrainedTokenizerBase

from bench.cell import FULL
from bench.contestants import InputSource
from bench.inputs import input_batches
from pruning.batching import Batch, Encodings, bucketed_indices, encode
from pruning.errors import InputError

PADDED, BUCKETED, PACKED = "padded", "bucketed", "packed"
BUFFERS = 32
"""Batches drawn from the data: enough for the lengths of a data set to show, few enough for a short measurement."""


def text_sources(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], seed: int) -> dict[str, InputSource]:
    """The fixed grid's inputs, cut from real text."""
    return {FULL: partial(input_batches, tokenizer, texts, seed=seed)}


def length_sources(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], seed: int) -> dict[str, InputSource]:
    """Inputs that keep the lengths of the texts: the same drawn texts in three kinds of batches.

    ``padded`` keeps the order in which the texts were drawn and pads to the longest of each batch. ``bucketed`` puts
    texts of similar length together first. ``packed`` lays texts end to end in rows of exactly S tokens: no padding,
    but a text then sees its neighbours, so it bounds what removing all padding could give.
    """

    def encodings(batch: int, seq: int) -> Encodings:
        if not texts:
            raise InputError("no text in the data for --lengths; pass data with at least one row.")
        drawn = random.Random(seed).choices(range(len(texts)), k=BUFFERS * batch)
        return encode(tokenizer, [texts[index] for index in drawn], max_length=seq)

    return {
        PADDED: lambda batch, seq: padded_batches(encodings(batch, seq), batch),
        BUCKETED: lambda batch, seq: bucketed_batches(encodings(batch, seq), batch, seed),
        PACKED: lambda batch, seq: packed_batches(encodings(batch, seq), batch, seq),
    }


def padded_batches(encodings: Encodings, batch: int) -> list[Batch]:
    """Texts as they come, B at a time, padded to the longest of each batch."""
    return [encodings.padded(range(start, start + batch)) for start in range(0, len(encodings), batch)]


def bucketed_batches(encodings: Encodings, batch: int, seed: int) -> list[Batch]:
    """Texts of similar length together; the batches in random order."""
    indices = bucketed_indices(encodings.lengths, batch)
    random.Random(seed).shuffle(indices)
    return [encodings.padded(rows) for rows in indices]


def packed_batches(encodings: Encodings, batch: int, seq: int) -> list[Batch]:
    """Texts end to end in rows of exactly S tokens; the stream is repeated until eight batches are full."""
    stream = torch.tensor([token for ids in encodings.input_ids for token in ids])
    count = max(8, len(stream) // (batch * seq))
    ids = stream.repeat(-(-count * batch * seq // len(stream)))[: count * batch * seq].reshape(count, batch, seq)
    return [
        {"input_ids": rows, "attention_mask": torch.ones_like(rows), "token_type_ids": torch.zeros_like(rows)}
        for rows in ids.unbind()
    ]
