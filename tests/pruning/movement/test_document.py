"""The way from formula to file, as the document describes it, leads somewhere."""

import importlib
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "methods" / "block-movement.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
TABLE = TEXT.split("## Formula to file")[1].split("\n## ")[0]


def test_named_files_and_links_exist():
    for name in re.findall(r"`((?:pruning|exporter|bench|tools|benchmarks|docs)/[\w/.-]*)`", TEXT):
        assert (ROOT / name).exists(), name
    for link in re.findall(r"\]\((?!http)([^)#]+)", TEXT):
        assert (DOCUMENT.parent / link).exists(), link


def test_every_formula_names_what_computes_it():
    rows = [row for row in TABLE.splitlines() if row.startswith("| ")][1:]
    assert len(rows) > 10
    for row in rows:
        found = re.findall(r"`(pruning/[\w/]+)\.py`, `(\w+)`", row.rsplit(" | ", 1)[1])
        assert found, row
        for path, name in found:
            assert hasattr(importlib.import_module(path.replace("/", ".")), name), (path, name)
