"""Local files to columns: CSV, TSV, JSON Lines, JSON (SQuAD's too) and Parquet, plain or compressed."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from pruning.errors import InputError
from pruning.tasks.columns import Columns
from pruning.tasks.squad_json import columns_from_squad, is_squad


def columns_from_file(path: Path) -> Columns:
    """Read one table, by its suffix: those of ``READERS``, and after it one of ``COMPRESSIONS`` or none.

    CSV and TSV have a header row and every value stays text; TSV is read as GLUE writes it, without quoting.

    Raises:
        InputError: if the file is missing, of another kind, truncated, corrupted or not a table.
    """
    if not path.is_file():
        raise InputError(f"there is no data file {path}. Check the path.")
    reader = READERS.get(_table_suffix(path))
    if reader is None:
        raise InputError(f"{path} is of no known kind; known: {', '.join(READERS)}, each also {_compressions()}.")
    try:
        return reader(_content(path))
    except (ValueError, OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path} cannot be read ({reason}). Check the file, or write it again.") from error


def is_data_file(path: Path) -> bool:
    """Whether the name ends like a table that `columns_from_file` reads."""
    return _table_suffix(path) in READERS


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    decompress = COMPRESSIONS.get(path.suffix.lower())
    return content if decompress is None else decompress(content)


def _table_suffix(path: Path) -> str:
    name = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
    return name.suffix.lower()


def _compressions() -> str:
    return ", ".join(COMPRESSIONS)


def _read_csv(content: bytes) -> Columns:
    frame = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False, encoding="utf-8-sig")
    overflowing = not isinstance(frame.index, pd.RangeIndex)
    if overflowing:
        raise ValueError("the rows have more fields than the header")
    return _columns_from_frame(frame)


def _read_tsv(content: bytes) -> Columns:
    lines = [line for line in content.decode("utf-8-sig").replace("\r\n", "\n").split("\n") if line.strip()]
    if not lines:
        raise ValueError("the file is empty")
    header, *rows = [line.split("\t") for line in lines]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise ValueError(f"row {number} has {len(row)} fields, the header has {len(header)}")
    return {name: [row[index] for row in rows] for index, name in enumerate(header)}


def _read_json(content: bytes) -> Columns:
    """A list of records, SQuAD's layout, or lines of records under the wrong name."""
    text = content.decode("utf-8-sig")
    try:
        document = json.loads(text)
    except json.JSONDecodeError:
        if text.lstrip().startswith("["):
            raise
        return _read_json_lines(content)
    if is_squad(document):
        return columns_from_squad(document)
    return _columns_from_records(document if isinstance(document, list) else [document])


def _read_json_lines(content: bytes) -> Columns:
    records = []
    for number, line in enumerate(content.decode("utf-8-sig").split("\n"), start=1):
        if line.strip():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number} is not JSON: {error}") from error
    return _columns_from_records(records)


def _read_parquet(content: bytes) -> Columns:
    return _columns_from_frame(pd.read_parquet(io.BytesIO(content)))


def _columns_from_frame(frame: pd.DataFrame) -> Columns:
    return {str(name): frame[name].tolist() for name in frame.columns}


def _columns_from_records(records: list[object]) -> Columns:
    objects = [record for record in records if isinstance(record, dict)]
    if len(objects) < len(records):
        odd = next(record for record in records if not isinstance(record, dict))
        raise ValueError(f"every record must be a JSON object; one is {str(odd)[:40]}")
    names = dict.fromkeys(name for record in objects for name in record)  # in order of appearance
    if not names:
        raise ValueError("it holds no records")
    return {name: [record.get(name) for record in objects] for name in names}


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".xz": lzma.decompress,
    ".bz2": bz2.decompress,
}
READERS: dict[str, Callable[[bytes], Columns]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_json_lines,
    ".json": _read_json,
    ".parquet": _read_parquet,
}
