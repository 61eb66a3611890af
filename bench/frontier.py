"""Accuracy beside speed: metrics that the user brings, and published points to look at next to them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.result import BenchModel
from pruning.errors import InputError

METRIC_COLUMNS = ("model", "metric", "value")
PUBLISHED_COLUMNS = ("system", "method", "task", "metric", "value", "speedup")


@dataclass(frozen=True)
class Quality:
    """One metric of the models that were measured, by their keys; ``task`` is empty if it was not named."""

    metric: str
    task: str
    values: dict[str, float]


@dataclass(frozen=True)
class PublishedPoint:
    """A result as its authors published it, on their hardware."""

    system: str
    method: str
    task: str
    metric: str
    value: float
    speedup: float

    def __str__(self) -> str:
        return f"{self.system}, {self.method}: {self.value:g} at {self.speedup:g}x"


def read_metrics(path: Path, models: Sequence[BenchModel]) -> Quality:
    """Metrics from a CSV file with the columns model, metric, value and perhaps task, or a JSON list of such objects.

    ``model`` is the name that the tables show, or the path that was measured.

    Raises:
        InputError: if the file cannot be read, names a model that was not measured, or mixes metrics.
    """
    rows = _objects(path, METRIC_COLUMNS) if path.suffix == ".json" else csv_rows(path, METRIC_COLUMNS)
    keys = {name: model.key for model in models for name in (model.path, model.label)}
    unknown = sorted({row["model"] for row in rows} - set(keys))
    if unknown or not rows:
        raise InputError(
            f"{path} names {', '.join(unknown) or 'no model'}; measured were: {', '.join(x.label for x in models)}."
        )
    kinds = {(row["metric"], row.get("task") or "") for row in rows}
    if len(kinds) > 1:
        raise InputError(f"{path} holds several metrics or tasks, {sorted(kinds)}; one plot shows one. Keep one.")
    ((metric, task),) = kinds
    return Quality(metric, task, {keys[row["model"]]: _number(path, row, "value") for row in rows})


def read_published(path: Path, quality: Quality) -> tuple[PublishedPoint, ...]:
    """Published points of the same metric and task, from a CSV file with the columns of `PUBLISHED_COLUMNS`.

    Rows without a speedup or value, and rows of other metrics or tasks, are left out.

    Raises:
        InputError: if the file cannot be read, or no row fits.
    """
    points = [
        PublishedPoint(
            row["system"],
            row["method"],
            row["task"],
            row["metric"],
            _number(path, row, "value"),
            _number(path, row, "speedup"),
        )
        for row in csv_rows(path, PUBLISHED_COLUMNS)
        if row["value"] and row["speedup"] and _fits(row, quality)
    ]
    if not points:
        wanted = f"{quality.metric} {quality.task}".strip()
        raise InputError(f"{path} has no row with a speedup for {wanted}. Check its metric and task columns.")
    return tuple(points)


def _fits(row: dict[str, str], quality: Quality) -> bool:
    same_task = not quality.task or row["task"].casefold() == quality.task.casefold()
    return same_task and row["metric"].casefold() == quality.metric.casefold()


def csv_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a CSV file by column name.

    Raises:
        InputError: if the file cannot be read, or lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}). Pass a CSV file.") from error
    missing = sorted(set(columns) - set(reader.fieldnames or ()))
    if missing:
        raise InputError(f"{path} lacks the columns {', '.join(missing)}; it needs {', '.join(columns)}.")
    return rows


def _objects(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """As `csv_rows`, from a JSON list of objects."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}). Pass a JSON list of objects, or a CSV file.") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) and set(columns) <= set(row) for row in rows):
        raise InputError(f"{path} must be a JSON list of objects, each with {', '.join(columns)}.")
    return [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]


def _number(path: Path, row: dict[str, str], column: str) -> float:
    try:
        return float(row[column])
    except ValueError as error:
        raise InputError(f"{path}: {column} must be a number; got {row[column]!r}.") from error
