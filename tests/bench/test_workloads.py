"""Batches with the lengths of real texts: the same texts, more or less padding."""

from __future__ import annotations

import pytest

from bench.inputs import MIN_BUFFERS
from bench.workloads import BUFFERS, length_sources, text_sources
from pruning.errors import InputError
from tests.tiny import tiny_tokenizer

TEXTS = ["the cat", "the cat sat on the mat", "sat", "the cat sat on", "on the mat the cat sat on the mat"]


def drawn(name: str, batch: int = 3, seq: int = 12, seed: int = 0):
    return length_sources(tiny_tokenizer(), TEXTS, seed)[name](batch, seq)


def tokens(batches) -> int:
    return sum(int(batch["attention_mask"].sum()) for batch in batches)


def positions(batches) -> int:
    return sum(batch["input_ids"].numel() for batch in batches)


def test_padded_and_bucketed_batches_hold_the_same_texts() -> None:
    padded, bucketed = drawn("padded"), drawn("bucketed")
    assert len(padded) == len(bucketed) == BUFFERS

    def rows(batches) -> list[list[int]]:
        pairs = (pair for batch in batches for pair in zip(batch["input_ids"], batch["attention_mask"], strict=True))
        return sorted(ids[mask.bool()].tolist() for ids, mask in pairs)

    assert rows(padded) == rows(bucketed)


def test_bucketing_pads_less_and_packing_not_at_all() -> None:
    padded, bucketed, packed = (drawn(name) for name in ("padded", "bucketed", "packed"))
    assert tokens(padded) == tokens(bucketed)
    assert positions(bucketed) < positions(padded)
    assert tokens(packed) == positions(packed)
    assert {tuple(batch["input_ids"].shape) for batch in packed} == {(3, 12)}
    assert len(packed) >= MIN_BUFFERS


def test_texts_are_cut_to_the_longest_length() -> None:
    assert max(batch["input_ids"].shape[1] for batch in drawn("padded", seq=5)) == 5


def test_the_seed_decides_which_texts() -> None:
    first, again, other = (drawn("padded", seed=seed) for seed in (0, 0, 1))
    assert [x["input_ids"].tolist() for x in first] == [x["input_ids"].tolist() for x in again]
    assert [x["input_ids"].tolist() for x in first] != [x["input_ids"].tolist() for x in other]


def test_the_fixed_grid_is_cut_from_the_same_texts() -> None:
    (batch, *_) = text_sources(tiny_tokenizer(), TEXTS, 0)["full"](2, 9)
    assert batch["input_ids"].shape == (2, 9)


def test_no_text_is_refused() -> None:
    with pytest.raises(InputError, match="no text in the data for --lengths"):
        length_sources(tiny_tokenizer(), [], 0)["padded"](1, 8)
