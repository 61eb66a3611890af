"""Where the data come from: a hub name, one local file, or a folder of them; and how they are split."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pruning.errors import InputError
from pruning.tasks.columns import ColumnNames, text_data_from_columns
from pruning.tasks.hub import columns_from_hub
from pruning.tasks.readers import READERS, columns_from_file, is_data_file
from pruning.tasks.text_data import TextData

TRAIN_NAMES = ("train",)
EVALUATION_NAMES = ("validation", "valid", "dev", "test")
"""In order of preference: a test set often comes without labels."""

HELD_OUT_PERCENT = 20


@dataclass(frozen=True)
class DataSource:
    """Data as the user names them.

    Args:
        data: name of a hub data set, a file, or a folder with ``train.*`` and ``validation.*`` (or ``valid``,
            ``dev``, ``test``) files.
        evaluation: a file to evaluate on; otherwise the source's own evaluation split, otherwise a held-out part.
        columns: the columns to read where the usual names do not fit.
        hub_config: configuration of the hub data set, such as ``sst2`` of ``nyu-mll/glue``.
        train_split: hub split to train and calibrate on.
        evaluation_split: hub split to evaluate on.
    """

    data: str
    evaluation: str | None = None
    columns: ColumnNames = field(default_factory=ColumnNames)
    hub_config: str | None = None
    train_split: str | None = None
    evaluation_split: str | None = None


@dataclass(frozen=True)
class Splits:
    """Disjoint data to learn from and to report on. ``note`` says in words where the evaluation data come from."""

    train: TextData
    evaluation: TextData
    note: str


def load_splits(source: DataSource, *, seed: int = 0) -> Splits:
    """Read training and evaluation data; without evaluation data, 20 % of the rows are held out by a seeded shuffle.

    Raises:
        InputError: if something cannot be found or read, a column is absent, or there are too few rows.
    """
    train = _train_data(source)
    found = _evaluation_data(source)
    if found is not None:
        return Splits(train, found[0], f"evaluated on {found[1]}")
    held_out = max(1, len(train) * HELD_OUT_PERCENT // 100)
    if held_out == len(train):
        raise InputError(f"{source.data} has a single row, too few to hold some out. Pass --eval-data or more rows.")
    kept, evaluation = train.split([len(train) - held_out, held_out], seed)
    note = f"evaluated on {held_out} of {len(train)} rows of {source.data}, held out by a shuffle with seed {seed}"
    return Splits(kept, evaluation, note)


def load_evaluation(source: DataSource) -> TextData:
    """The data to evaluate on, when nothing is trained: the evaluation data of the source, or else all of its rows.

    Raises:
        InputError: as `load_splits`.
    """
    found = _evaluation_data(source)
    return _train_data(source) if found is None else found[0]


def _train_data(source: DataSource) -> TextData:
    path = Path(source.data)
    if path.is_dir():
        file = _file_in_folder(path, TRAIN_NAMES)
        if file is None:
            raise InputError(f"{path} has no train file (train{', train'.join(READERS)}). Add one, or name a file.")
        return _text_data_from_file(file, source.columns)
    if _looks_local(source.data):
        return _text_data_from_file(path, source.columns)
    names = TRAIN_NAMES if source.train_split is None else (source.train_split,)
    split, columns = columns_from_hub(source.data, source.hub_config, names)
    if columns is None:
        raise InputError(f"{source.data} has no split {' or '.join(names)}; it has: {split}. Name another split.")
    return text_data_from_columns(columns, source.columns, f"{source.data} ({split})")


def _evaluation_data(source: DataSource) -> tuple[TextData, str] | None:
    """The evaluation data and their name, if the source has any."""
    if source.evaluation is not None:
        return _text_data_from_file(Path(source.evaluation), source.columns), source.evaluation
    path = Path(source.data)
    if path.is_dir():
        file = _file_in_folder(path, EVALUATION_NAMES)
        return None if file is None else (_text_data_from_file(file, source.columns), str(file))
    if _looks_local(source.data):
        return None
    return _hub_evaluation(source)


def _hub_evaluation(source: DataSource) -> tuple[TextData, str] | None:
    names = EVALUATION_NAMES if source.evaluation_split is None else (source.evaluation_split,)
    split, columns = columns_from_hub(source.data, source.hub_config, names)
    if columns is None and source.evaluation_split is not None:
        raise InputError(f"{source.data} has no split {names[0]}; it has: {split}. Name another split.")
    origin = f"{source.data} ({split})"
    return None if columns is None else (text_data_from_columns(columns, source.columns, origin), origin)


def _looks_local(data: str) -> bool:
    path = Path(data)
    return path.exists() or is_data_file(path) or data.count("/") > 1 or data.startswith((".", "/", "~"))


def _text_data_from_file(path: Path, columns: ColumnNames) -> TextData:
    return text_data_from_columns(columns_from_file(path), columns, str(path))


def _file_in_folder(folder: Path, names: tuple[str, ...]) -> Path | None:
    for name in names:
        files = sorted(path for path in folder.glob(f"{name}.*") if is_data_file(path))
        if len(files) > 1:
            listed = ", ".join(path.name for path in files)
            raise InputError(f"{folder} holds several {name} files: {listed}. Keep one, or name a file.")
        if files:
            return files[0]
    return None
