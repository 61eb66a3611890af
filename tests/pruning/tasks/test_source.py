"""Files, folders and hub names to training and evaluation data."""

from __future__ import annotations

import os
from pathlib import Path

import datasets
import pytest

from pruning.errors import InputError
from pruning.tasks.columns import ColumnNames
from pruning.tasks.source import DataSource, load_evaluation, load_splits


def write_csv(path: Path, rows: int, word: str = "row") -> str:
    path.write_text("text,label\n" + "".join(f"{word} {i},{i % 2}\n" for i in range(rows)))
    return str(path)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, datasets.DatasetDict]:
    """A hub that knows the data sets put in here, by name and configuration."""
    known: dict[str, datasets.DatasetDict] = {}

    def load_dataset(name: str, config: str | None) -> datasets.DatasetDict:
        if name not in known:
            raise datasets.exceptions.DatasetNotFoundError(f"Dataset '{name}' doesn't exist\non the hub")
        return known[name]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return known


def split_of(word: str) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"sentence": [f"{word} {i}" for i in range(3)], "label": [0, 1, 0]})


def test_a_single_file_is_split_and_says_so(tmp_path: Path) -> None:
    splits = load_splits(DataSource(write_csv(tmp_path / "a.csv", 10)), seed=3)
    assert (len(splits.train), len(splits.evaluation)) == (8, 2)
    assert not set(splits.train.texts) & set(splits.evaluation.texts)
    assert "2 of 10 rows" in splits.note
    assert "shuffle with seed 3" in splits.note
    assert splits == load_splits(DataSource(write_csv(tmp_path / "a.csv", 10)), seed=3)


def test_an_evaluation_file_leaves_the_training_data_whole(tmp_path: Path) -> None:
    source = DataSource(write_csv(tmp_path / "a.csv", 10), evaluation=write_csv(tmp_path / "b.csv", 3))
    splits = load_splits(source)
    assert (len(splits.train), len(splits.evaluation)) == (10, 3)
    assert splits.note.endswith("b.csv")


@pytest.mark.parametrize("name", ["dev", "valid", "validation", "test"])
def test_a_folder_brings_its_own_splits(tmp_path: Path, name: str) -> None:
    write_csv(tmp_path / "train.csv", 5)
    write_csv(tmp_path / f"{name}.csv", 2)
    (tmp_path / "train.log").touch()
    splits = load_splits(DataSource(str(tmp_path)))
    assert (len(splits.train), len(splits.evaluation)) == (5, 2)


def test_a_folder_prefers_development_data_to_test_data(tmp_path: Path) -> None:
    for name in ("train", "dev", "test"):
        write_csv(tmp_path / f"{name}.csv", 2, word=name)
    assert load_splits(DataSource(str(tmp_path))).evaluation.texts[0] == "dev 0"


def test_evaluation_alone_reads_a_whole_file(tmp_path: Path) -> None:
    assert len(load_evaluation(DataSource(write_csv(tmp_path / "a.csv", 10)))) == 10


def test_evaluation_alone_needs_no_training_data(tmp_path: Path) -> None:
    write_csv(tmp_path / "dev.csv", 2)
    assert len(load_evaluation(DataSource(str(tmp_path)))) == 2


def test_column_names_reach_the_file(tmp_path: Path) -> None:
    source = DataSource(write_csv(tmp_path / "a.csv", 4), columns=ColumnNames("text", "text", "text"))
    assert load_evaluation(source).labels == ("row 0", "row 1", "row 2", "row 3")


def test_a_hub_data_set_brings_its_own_splits(hub: dict[str, datasets.DatasetDict]) -> None:
    hub["org/data"] = datasets.DatasetDict(train=split_of("t"), validation=split_of("v"), test=split_of("x"))
    splits = load_splits(DataSource("org/data"))
    assert (splits.train.texts[0], splits.evaluation.texts[0]) == ("t 0", "v 0")
    assert splits.note == "evaluated on org/data (validation)"


def test_hub_splits_can_be_chosen(hub: dict[str, datasets.DatasetDict]) -> None:
    hub["data"] = datasets.DatasetDict(train=split_of("t"), extra=split_of("e"), test=split_of("x"))
    splits = load_splits(DataSource("data", train_split="extra", evaluation_split="test"))
    assert (splits.train.texts[0], splits.evaluation.texts[0]) == ("e 0", "x 0")


def test_a_hub_data_set_with_training_data_only_is_split(hub: dict[str, datasets.DatasetDict]) -> None:
    hub["data"] = datasets.DatasetDict(train=split_of("t"))
    assert len(load_splits(DataSource("data")).train) == 2


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (DataSource("data", train_split="extra"), r"data has no split extra; it has: train\."),
        (DataSource("data", evaluation_split="extra"), r"data has no split extra; it has: train\."),
        (DataSource("nowhere/data"), r"nowhere/data is neither a local file nor .*doesn't exist on the hub"),
    ],
)
def test_what_the_hub_lacks_is_refused(hub: dict[str, datasets.DatasetDict], source: DataSource, message: str) -> None:
    hub["data"] = datasets.DatasetDict(train=split_of("t"))
    with pytest.raises(InputError, match=message):
        load_splits(source)


@pytest.mark.parametrize("name", ["missing.csv", "/missing/folder", "./missing"])
def test_a_missing_path_is_not_looked_up_on_the_hub(name: str) -> None:
    with pytest.raises(InputError, match="there is no data file"):
        load_splits(DataSource(name))


def test_a_folder_without_training_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no train file"):
        load_splits(DataSource(str(tmp_path)))


def test_a_folder_with_two_candidates_is_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", 2)
    write_csv(tmp_path / "train.csv.gz", 2)
    with pytest.raises(InputError, match=r"several train files: train\.csv, train\.csv\.gz"):
        load_splits(DataSource(str(tmp_path)))


def test_a_single_row_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has a single row"):
        load_splits(DataSource(write_csv(tmp_path / "a.csv", 1)))


@pytest.mark.data
@pytest.mark.parametrize(("name", "rows", "label"), [("sst2", (67349, 872), 0), ("stsb", (5749, 1500), 5.0)])
def test_glue_folders_are_read_whole(name: str, rows: tuple[int, int], label: float) -> None:
    if "SLIMBERT_DATA" not in os.environ:
        pytest.skip("SLIMBERT_DATA does not name a folder of data sets")
    splits = load_splits(DataSource(str(Path(os.environ["SLIMBERT_DATA"]) / name)))
    assert (len(splits.train), len(splits.evaluation)) == rows
    assert splits.train.labels is not None
    assert splits.train.labels[0] == label
