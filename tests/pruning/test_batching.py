"""Tokenising, length buckets, padding, and models as `Predict`."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pruning.batching import (
    Encodings,
    bucketed_batches,
    bucketed_indices,
    encode,
    predict_from_model,
    predict_rows,
)
from pruning.errors import InputError
from tests.tiny import tiny_bert, tiny_tokenizer

TEXTS = ("a cat sat", "the dog", "a bird flew under the big red house", "happy")


def test_encode_frames_a_text_with_special_tokens() -> None:
    tokenizer = tiny_tokenizer()
    encodings = encode(tokenizer, TEXTS)
    assert encodings.lengths == (5, 4, 10, 3)
    assert tokenizer.decode(encodings.input_ids[1]) == "[CLS] the dog [SEP]"
    assert set(encodings.token_type_ids[1]) == {0}


def test_encode_marks_the_second_text_of_a_pair() -> None:
    encodings = encode(tiny_tokenizer(), ["a cat"], ["the dog sat"])
    assert encodings.token_type_ids[0] == (0, 0, 0, 0, 1, 1, 1, 1)


@pytest.mark.parametrize(("max_length", "longest"), [(6, 6), (1000, 10)])
def test_encode_truncates(max_length: int, longest: int) -> None:
    assert max(encode(tiny_tokenizer(), TEXTS, max_length=max_length).lengths) == longest


def test_encode_respects_the_limit_of_the_tokenizer() -> None:
    encodings = encode(tiny_tokenizer(), ["cat " * 100], max_length=512)
    assert encodings.lengths == (40,)


@given(st.lists(st.integers(1, 60), max_size=400), st.integers(1, 9), st.none() | st.integers(0, 99))
def test_every_index_appears_once(lengths: list[int], batch_size: int, seed: int | None) -> None:
    batches = bucketed_indices(lengths, batch_size, seed=seed)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    assert batches == bucketed_indices(lengths, batch_size, seed=seed)


def test_buckets_without_a_seed_are_sorted_longest_first() -> None:
    assert bucketed_indices([3, 9, 1, 9], 2) == [(1, 3), (0, 2)]


def test_buckets_with_a_seed_are_shuffled_yet_of_similar_length() -> None:
    lengths = [1 + index % 40 for index in range(1600)]
    batches = bucketed_indices(lengths, 8, seed=1)
    assert batches != bucketed_indices(lengths, 8, seed=2)
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    assert padded < 1.1 * sum(lengths)


def test_batches_are_padded_on_the_right() -> None:
    (item,) = bucketed_batches(encode(tiny_tokenizer(), TEXTS), 4)
    assert item.indices == (2, 0, 1, 3)
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in item.batch.items()} == dict.fromkeys(
        ("input_ids", "attention_mask", "token_type_ids"), (torch.Size([4, 10]), torch.int64)
    )
    assert item.batch["attention_mask"][3].tolist() == [1] * 3 + [0] * 7
    assert item.batch["input_ids"][3, 3:].tolist() == [0] * 7


def test_predictions_do_not_depend_on_the_batching() -> None:
    model, encodings = tiny_bert(), encode(tiny_tokenizer(), TEXTS)
    predict = predict_from_model(model)
    one, many = (
        predict_rows(predict, bucketed_batches(encodings, size), lambda outputs, _: outputs["logits"])
        for size in (1, 3)
    )
    torch.testing.assert_close(one, many, atol=1e-5, rtol=1e-4)
    alone = predict(encodings.padded([2]))["logits"]
    torch.testing.assert_close(one[2:3], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("head", "names"),
    [
        ("sequence-classification", {"logits"}),
        ("token-classification", {"logits"}),
        ("masked-lm", {"logits"}),
        ("question-answering", {"start_logits", "end_logits"}),
        ("encoder", {"last_hidden_state"}),
    ],
)
def test_predict_names_the_outputs_of_each_head(head: str, names: set[str]) -> None:
    outputs = predict_from_model(tiny_bert(head))(encode(tiny_tokenizer(), TEXTS).padded([0, 1]))
    assert set(outputs) == names


def test_predict_restores_the_training_flag_and_switches_dropout_off() -> None:
    model = tiny_bert().train()
    predict, batch = predict_from_model(model), encode(tiny_tokenizer(), TEXTS).padded([0])
    assert torch.equal(predict(batch)["logits"], predict(batch)["logits"])
    assert model.training


def test_encode_refuses_no_text() -> None:
    with pytest.raises(InputError, match="no text to tokenise"):
        encode(tiny_tokenizer(), [])


def test_encode_refuses_a_missing_pair() -> None:
    with pytest.raises(InputError, match="2 texts and 1 pairs"):
        encode(tiny_tokenizer(), ["a", "b"], ["a"])


def test_encode_refuses_a_length_without_room() -> None:
    with pytest.raises(InputError, match="beside the 2 special ones; got 2"):
        encode(tiny_tokenizer(), ["a"], max_length=2)


def test_encode_refuses_a_tokenizer_that_cannot_pad() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    with pytest.raises(InputError, match="no padding token"):
        encode(tokenizer, ["a"])


def test_encodings_need_token_types() -> None:
    with pytest.raises(InputError, match="got 1 for 2 texts"):
        Encodings(((1,), (2,)), ((0,),), 0)


def test_buckets_refuse_an_empty_batch() -> None:
    with pytest.raises(InputError, match="at least 1; got 0"):
        bucketed_indices([1], 0)
