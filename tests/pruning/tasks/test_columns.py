"""Which column is which, and what their values may be."""

from __future__ import annotations

import pytest

from pruning.errors import InputError
from pruning.tasks.columns import ColumnNames, Columns, text_data_from_columns

AUTO = ColumnNames()


@pytest.mark.parametrize(
    ("names", "text", "pair"),
    [
        (("idx", "sentence", "label"), "sentence", None),
        (("sentence1", "sentence2", "score"), "sentence1", "sentence2"),
        (("premise", "hypothesis", "label"), "premise", "hypothesis"),
        (("question1", "question2", "label"), "question1", "question2"),
        (("question", "sentence", "label"), "question", "sentence"),
        (("category", "text", "source"), "text", None),
        (("prompt_injections",), "prompt_injections", None),
    ],
)
def test_usual_names_are_found(names: tuple[str, ...], text: str, pair: str | None) -> None:
    columns = {name: [f"{name} value"] for name in names}
    data = text_data_from_columns(columns, AUTO, "x")
    assert data.texts == (f"{text} value",)
    assert data.pairs == (None if pair is None else (f"{pair} value",))


def test_named_columns_win() -> None:
    columns = {"text": ["a"], "body": ["b"], "title": ["c"], "label": [0], "mood": [1]}
    data = text_data_from_columns(columns, ColumnNames("body", "title", "mood"), "x")
    assert (data.texts, data.pairs, data.labels) == (("b",), ("c",), (1,))


def test_naming_only_the_text_asks_for_single_texts() -> None:
    columns = {"sentence1": ["a"], "sentence2": ["b"]}
    assert text_data_from_columns(columns, ColumnNames("sentence2"), "x").pairs is None


def test_naming_only_the_pair_finds_its_text() -> None:
    columns = {"sentence1": ["a"], "sentence2": ["b"], "title": ["c"], "text": ["d"]}
    both = text_data_from_columns(columns, ColumnNames(pair="sentence2"), "x")
    other = text_data_from_columns(columns, ColumnNames(pair="title"), "x")
    assert (both.texts, both.pairs) == (("a",), ("b",))
    assert (other.texts, other.pairs) == (("d",), ("c",))


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["1", "0"], (1, 0)),
        (["5.000", "3"], (5.0, 3.0)),
        ([1, 2.5], (1.0, 2.5)),
        (["pos", "1"], ("pos", "1")),
        ([True, False], (1, 0)),
        (["-1", "1e-3"], (-1.0, 0.001)),
        (["007", "1_0"], ("007", "1_0")),
    ],
)
def test_labels_take_the_strictest_reading_that_fits_all(values: list[object], labels: tuple[object, ...]) -> None:
    data = text_data_from_columns({"text": ["a", "b"], "label": values}, AUTO, "x")
    assert data.labels == labels
    assert data.labels is not None
    assert list(map(type, data.labels)) == list(map(type, labels))


@pytest.mark.parametrize("columns", [{"text": ["a"]}, {"text": ["a"], "label": [None]}, {"text": ["a"], "label": [""]}])
def test_labels_may_be_absent(columns: Columns) -> None:
    assert text_data_from_columns(columns, AUTO, "x").labels is None


@pytest.mark.parametrize(
    ("columns", "names", "message"),
    [
        ({"text": ["a"]}, ColumnNames("body"), r"f.csv has no column 'body'; it has: text\."),
        ({"text": ["a"]}, ColumnNames(pair="b"), "has no column 'b'"),
        ({"text": ["a"]}, ColumnNames(label="y"), "has no column 'y'"),
        ({"one": ["a"], "two": ["b"]}, AUTO, r"cannot tell which column of f.csv holds the text; it has: one, two\."),
        ({"text": [], "label": []}, AUTO, "f.csv is empty"),
        ({"text": ["a", 3]}, AUTO, "row 2 of column 'text' in f.csv is not text but 3"),
        ({"text": ["a", None]}, AUTO, "row 2 of column 'text' in f.csv is not text but None"),
        ({"text": ["a", " "]}, AUTO, "row 2 of column 'text' in f.csv is empty"),
        ({"premise": ["a"], "hypothesis": [""]}, AUTO, "row 1 of column 'hypothesis' in f.csv is empty"),
        ({"text": ["a", "b"], "label": ["1", ""]}, AUTO, "row 2 of column 'label' in f.csv has no label"),
        ({"text": ["a", "b"], "label": [1.0, float("nan")]}, AUTO, "row 2 of column 'label' in f.csv has no label"),
        ({"text": ["a"], "label": [["x"]]}, AUTO, r"is no label: \['x'\]"),
    ],
)
def test_bad_columns_are_refused(columns: Columns, names: ColumnNames, message: str) -> None:
    with pytest.raises(InputError, match=message):
        text_data_from_columns(columns, names, "f.csv")
