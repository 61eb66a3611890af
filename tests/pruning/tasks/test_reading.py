"""What a model reads at once."""

from __future__ import annotations

import pytest

from pruning.tasks.reading import rows_as_read
from pruning.tasks.text_data import TextData
from tests.tiny import tiny_bert

PAIRS = TextData(("a cat", "a dog"), ("a bird", "a tree"), (0.5, 4.0))


def test_an_encoder_without_a_head_reads_the_texts_of_a_pair_alone() -> None:
    assert rows_as_read(tiny_bert("encoder"), PAIRS) == TextData(("a cat", "a dog", "a bird", "a tree"))


@pytest.mark.parametrize(
    ("head", "rows"),
    [("sequence-classification", PAIRS), ("encoder", TextData(("a cat", "a dog"), labels=(0.5, 4.0)))],
)
def test_all_else_is_read_as_it_is(head: str, rows: TextData) -> None:
    assert rows_as_read(tiny_bert(head), rows) is rows
