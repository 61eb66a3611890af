"""Rows that stay together, and seeded parts that do not overlap."""

from __future__ import annotations

import pytest

from pruning.errors import InputError
from pruning.tasks.text_data import TextData

DATA = TextData(tuple("abcdefgh"), tuple("ABCDEFGH"), tuple(range(8)))


def test_subset_keeps_rows_together() -> None:
    assert DATA.subset([2, 0]) == TextData(("c", "a"), ("C", "A"), (2, 0))


def test_sample_is_seeded_and_without_replacement() -> None:
    sample = DATA.sample(5, seed=1)
    assert len(set(sample.texts)) == 5
    assert sample == DATA.sample(5, seed=1)
    assert sample != DATA.sample(5, seed=2)


def test_sample_of_everything_keeps_the_order() -> None:
    assert DATA.sample(100, seed=1) is DATA


def test_split_gives_disjoint_parts() -> None:
    fit, select, report = DATA.split([4, 2, 1], seed=3)
    assert list(map(len, (fit, select, report))) == [4, 2, 1]
    assert len({*fit.texts, *select.texts, *report.texts}) == 7


def test_refuses_no_rows() -> None:
    with pytest.raises(InputError, match="the data set is empty"):
        TextData(())


@pytest.mark.parametrize("field", ["pairs", "labels"])
def test_refuses_columns_of_other_lengths(field: str) -> None:
    with pytest.raises(InputError, match=f"{field} must be one per text; got 1 for 2"):
        TextData(("a", "b"), **{field: ("c",)})


def test_sample_refuses_none() -> None:
    with pytest.raises(InputError, match="at least 1 row; got 0"):
        DATA.sample(0, seed=0)


@pytest.mark.parametrize("counts", [[8, 1], [3, 0], []])
def test_split_refuses_impossible_parts(counts: list[int]) -> None:
    with pytest.raises(InputError, match="cannot split 8 rows"):
        DATA.split(counts, seed=0)
