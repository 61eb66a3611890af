"""Batches of an exact shape in which every token is real."""

from __future__ import annotations

import pytest
import torch

from bench.inputs import input_batches, random_batches
from pruning.errors import InputError
from tests.tiny import VOCAB, tiny_tokenizer

TEXTS = ["the cat sat on the mat", "a happy bird flew", "bad dog ran under the house"]


@pytest.mark.parametrize(("batch", "seq"), [(1, 1), (2, 2), (3, 3), (4, 37)])
def test_batches_have_exactly_the_shape_and_no_padding(batch: int, seq: int) -> None:
    batches = input_batches(tiny_tokenizer(), TEXTS, batch, seq)
    assert len(batches) == 8
    for item in batches:
        assert {name: tensor.shape for name, tensor in item.items()} == dict.fromkeys(
            ("input_ids", "attention_mask", "token_type_ids"), (batch, seq)
        )
        assert all(tensor.dtype == torch.int64 and tensor.is_contiguous() for tensor in item.values())
        assert item["attention_mask"].all()
        assert not (item["input_ids"] == VOCAB["[PAD]"]).any()


def test_rows_are_text_between_special_tokens() -> None:
    ids = input_batches(tiny_tokenizer(), ["cat sat mat"], 2, 7)[0]["input_ids"]
    assert (ids[:, 0] == VOCAB["[CLS]"]).all()
    assert (ids[:, -1] == VOCAB["[SEP]"]).all()
    inner = ids[0, 1:-1].tolist()
    cycle = [VOCAB[word] for word in ("cat", "sat", "mat")] * 3
    assert inner in [cycle[start : start + 5] for start in range(3)]


def test_a_tokenizer_without_special_tokens_gives_only_text() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.cls_token = None
    ids = input_batches(tokenizer, ["cat"], 1, 4)[0]["input_ids"]
    assert ids.tolist() == [[VOCAB["cat"]] * 4]


def test_batches_differ_and_follow_the_seed() -> None:
    first, again, other = (input_batches(tiny_tokenizer(), TEXTS, 2, 9, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(a["input_ids"], b["input_ids"]) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a["input_ids"], b["input_ids"]) for a, b in zip(first, other, strict=True))
    assert len({item["input_ids"].numpy().tobytes() for item in first}) > 1


def test_random_batches_stay_in_the_vocabulary() -> None:
    batches = random_batches(5, 3, 11, count=9, seed=1)
    ids = torch.stack([item["input_ids"] for item in batches])
    assert ids.shape == (9, 3, 11)
    assert set(ids.unique().tolist()) == {0, 1, 2, 3, 4}
    assert all(item["attention_mask"].all() for item in batches)


@pytest.mark.parametrize("texts", [[], [""]])
def test_texts_without_a_token_are_refused(texts: list[str]) -> None:
    with pytest.raises(InputError, match="no token in the texts"):
        input_batches(tiny_tokenizer(), texts, 1, 4)


@pytest.mark.parametrize("sizes", [(0, 4), (1, 0)])
def test_sizes_below_one_are_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="must be at least 1"):
        random_batches(5, *sizes)


def test_an_empty_vocabulary_is_refused() -> None:
    with pytest.raises(InputError, match="at least one id; got 0"):
        random_batches(0, 1, 4)
