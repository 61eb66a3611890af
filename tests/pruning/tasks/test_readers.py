"""Every file kind, plain and compressed, and every way in which a file can be broken."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from pruning.errors import InputError
from pruning.tasks.readers import columns_from_file

CSV = 'text,label\n"a ""quoted"", text",1\nNone,0\n'
TSV = 'sentence\tlabel\na "quoted text\t1\nN/A\u2028\t0\n'
JSONL = '{"text": "a", "label": 1}\n\n{"text": "b"}\n'


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_csv_keeps_every_value_as_text(tmp_path: Path) -> None:
    columns = columns_from_file(write(tmp_path / "a.csv", CSV))
    assert columns == {"text": ['a "quoted", text', "None"], "label": ["1", "0"]}


def test_tsv_knows_no_quotes(tmp_path: Path) -> None:
    columns = columns_from_file(write(tmp_path / "a.tsv", TSV))
    assert columns == {"sentence": ['a "quoted text', "N/A\u2028"], "label": ["1", "0"]}


def test_byte_order_mark_and_windows_line_ends_are_no_content(tmp_path: Path) -> None:
    for name, separator in (("a.csv", ","), ("a.tsv", "\t")):
        path = write(tmp_path / name, f"\ufefftext{separator}label\r\nhello{separator}1\r\n")
        assert columns_from_file(path) == {"text": ["hello"], "label": ["1"]}


def test_json_lines_fill_missing_keys(tmp_path: Path) -> None:
    columns = columns_from_file(write(tmp_path / "a.jsonl", JSONL))
    assert columns == {"text": ["a", "b"], "label": [1, None]}


@pytest.mark.parametrize("content", [JSONL, '[{"text": "a", "label": 1}, {"text": "b"}]'])
def test_json_is_a_list_or_lines(tmp_path: Path, content: str) -> None:
    assert columns_from_file(write(tmp_path / "a.json", content)) == {"text": ["a", "b"], "label": [1, None]}


def test_parquet_keeps_types(tmp_path: Path) -> None:
    pd.DataFrame({"text": ["a", "b"], "label": [1, 0]}).to_parquet(tmp_path / "a.parquet")
    assert columns_from_file(tmp_path / "a.parquet") == {"text": ["a", "b"], "label": [1, 0]}


@pytest.mark.parametrize(
    ("suffix", "compress"), [(".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress)]
)
def test_compressed_files_are_read_alike(tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]) -> None:
    path = write(tmp_path / f"a.tsv{suffix}", compress(TSV.encode()))
    assert columns_from_file(path)["label"] == ["1", "0"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", b"", "of no known kind; known: .csv, .tsv"),
        ("a.csv", b"", "cannot be read"),
        ("a.csv", b"text,label\na,1\nb,2,3\n", "Expected 2 fields in line 3, saw 3"),
        ("a.csv", b"text,label\na,1,2\nb,2,3\n", "more fields than the header"),
        ("a.csv", b"text\n\xff\xfe\n", "cannot be read .*utf-8"),
        ("a.tsv", b"\n", "the file is empty"),
        ("a.tsv", b"text\tlabel\na\n", "row 1 has 1 fields, the header has 2"),
        ("a.jsonl", b'{"text": "a"}\n{"text": ', "line 2 is not JSON"),
        ("a.jsonl", b"[1]\n", "every record must be a JSON object"),
        ("a.jsonl", b"\n", "it holds no records"),
        ("a.json", b"[1, 2]", "every record must be a JSON object; one is 1"),
        ("a.parquet", b"PAR1 no", "cannot be read"),
        ("a.tsv.gz", b"not gzip", "cannot be read"),
        ("a.tsv.gz", gzip.compress(b"text\nabc\n")[:-9], "cannot be read"),
        ("a.tsv.xz", b"not xz", "cannot be read"),
        ("a.tsv.xz", lzma.compress(b"text\nabc\n")[:-9], "cannot be read"),
        ("a.tsv.bz2", b"not bz2", "cannot be read"),
    ],
)
def test_broken_files_are_refused_in_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        columns_from_file(write(tmp_path / name, content))
    assert "\n" not in str(refusal.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no data file .*a\.csv"):
        columns_from_file(tmp_path / "a.csv")
