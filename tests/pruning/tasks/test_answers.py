"""Answers in every form that data sets use."""

import json
import lzma
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pruning.errors import InputError
from pruning.tasks.answers import Answer, answers_from_column, holds_answers
from pruning.tasks.columns import ColumnNames, text_data_from_columns
from pruning.tasks.readers import columns_from_file

CONTEXT = "the cat sat under the tree"
RECORD = {"text": ["cat", "the cat"], "answer_start": [4, 0]}
LIST = [{"text": "cat", "answer_start": 4}, {"text": "the cat", "answer_start": 0}]
FOUND = (Answer("cat", 4), Answer("the cat", 0))
SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "cats",
            "paragraphs": [
                {
                    "context": CONTEXT,
                    "qas": [
                        {"id": "1", "question": "who sat?", "answers": LIST, "is_impossible": False},
                        {"id": "2", "question": "who ran?", "answers": LIST, "is_impossible": True},
                    ],
                }
            ],
        }
    ],
}


@pytest.mark.parametrize(
    "value",
    [
        RECORD,
        LIST,
        tuple(LIST),
        json.dumps(RECORD),
        json.dumps(LIST),
        {"text": np.array(["cat", "the cat"]), "answer_start": np.array([4, 0])},
        np.array(LIST),
    ],
    ids=str,
)
def test_forms(value):
    assert holds_answers([value])
    assert answers_from_column([value], [CONTEXT], "answers", "x") == (FOUND,)


@pytest.mark.parametrize("value", [[], {"text": [], "answer_start": []}, "[]"], ids=str)
def test_no_answer(value):
    assert answers_from_column([value], [CONTEXT], "answers", "x") == ((),)


def test_labels_are_no_answers():
    assert not holds_answers([1, "yes", 0.5, None])


@pytest.mark.parametrize("value", ["{", '{"text": ["cat"]}', "[1]", 3, {"text": ["cat"], "answer_start": []}], ids=str)
def test_other_forms_are_refused(value):
    with pytest.raises(InputError, match=r"row 1 of column 'answers' in x holds no answers"):
        answers_from_column([value], [CONTEXT], "answers", "x")


@pytest.mark.parametrize(("text", "start"), [("cat", 5), ("cat", -1), ("tree!", 22), ("", 3)])
def test_answer_outside_its_context_is_refused(text, start):
    value = {"text": [text], "answer_start": [start]}
    with pytest.raises(InputError, match=r"row 2 of x: the answer .* does not stand at character .*Fix answer_start"):
        answers_from_column([[], value], [CONTEXT, CONTEXT], "answers", "x")


@pytest.mark.parametrize("suffix", [".json", ".json.xz"])
def test_squad_file(tmp_path, suffix):
    path = tmp_path / f"squad{suffix}"
    content = json.dumps(SQUAD).encode()
    path.write_bytes(lzma.compress(content) if suffix.endswith("xz") else content)
    data = text_data_from_columns(columns_from_file(path), ColumnNames(), str(path))
    assert data.texts == ("who sat?", "who ran?")
    assert data.pairs == (CONTEXT, CONTEXT)
    assert data.answers == (FOUND, ())
    assert data.labels is None
    assert data.subset([1, 0]).answers == ((), FOUND)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json", ".parquet"])
def test_tables(tmp_path, suffix):
    path = tmp_path / f"qa{suffix}"
    row = {"question": "who sat?", "context": CONTEXT, "answers": RECORD}
    match suffix:
        case ".csv":
            pd.DataFrame([row | {"answers": json.dumps(RECORD)}]).to_csv(path, index=False)
        case ".parquet":
            pd.DataFrame([row]).to_parquet(path)
        case ".json":
            path.write_text(json.dumps([row]), encoding="utf-8")
        case _:
            path.write_text(json.dumps(row), encoding="utf-8")
    assert text_data_from_columns(columns_from_file(path), ColumnNames(), "x").answers == (FOUND,)


def test_answers_under_another_name():
    columns = {"question": ["who sat?"], "context": [CONTEXT], "gold": [RECORD]}
    assert text_data_from_columns(columns, ColumnNames(label="gold"), "x").answers == (FOUND,)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"data": []}, "it holds no questions"),
        ({"data": [{"paragraphs": [{"qas": [{}]}]}]}, "not the layout of SQuAD: KeyError"),
        ({"data": [1]}, "not the layout of SQuAD: TypeError"),
    ],
    ids=str,
)
def test_broken_squad_files(tmp_path, document, reason):
    path = tmp_path / "squad.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(InputError, match=reason):
        columns_from_file(path)


@pytest.mark.data
@pytest.mark.skipif("SLIMBERT_DATA" not in os.environ, reason="SLIMBERT_DATA names no data folder")
def test_the_real_dev_set():
    path = Path(os.environ["SLIMBERT_DATA"]) / "squad" / "dev-v1.1.json.xz"
    data = text_data_from_columns(columns_from_file(path), ColumnNames(), "dev")
    assert len(data) == 10570
    assert data.answers[0][0] == Answer("October 1973", 29)
