"""The models of a benchmark as rows of a table: which files were measured."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.wording import size_text
from bench.result import BenchModel


def model_rows(models: Sequence[BenchModel]) -> list[tuple[str, str]]:
    """What people call each model, and what identifies it: path, size and checksum of its file, architecture."""
    return [(model.label, _model_text(model)) for model in models]


def _model_text(model: BenchModel) -> str:
    if model.facts is None:
        return model.path
    arch = "" if model.arch is None else f", {model.arch}"
    return f"{model.path}, {size_text(model.facts.bytes)}, SHA-256 {model.facts.sha256[:12]}{arch}"
