"""The samples file, ``bench.json``: written whole or not at all, checked when read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.result import BenchResult
from pruning.atomic import require_writable, write_text
from pruning.errors import InputError


def write_samples(path: Path, result: BenchResult) -> None:
    """Replace the samples file by everything measured so far."""
    write_text(path, json.dumps(result.to_dict(), allow_nan=False) + "\n")


def read_samples(path: Path) -> BenchResult:
    """Read a samples file; every figure can be recomputed from what it returns.

    Raises:
        InputError: if the file is missing, broken, or something else.
    """
    data = json_object(path, "the --json file of slimbert bench")
    try:
        return BenchResult.from_dict(data)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def json_object(path: Path, wanted: str) -> dict[str, Any]:
    """The JSON object in a file; ``wanted`` says in an error message what should have been passed.

    Raises:
        InputError: if the file cannot be read, or holds something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}). Pass {wanted}.") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not a samples file: invalid JSON ({error}). Pass {wanted}.") from error
    if not isinstance(data, dict):
        raise InputError(
            f"{path} is not a samples file: it holds {type(data).__name__}, not a JSON object. Pass {wanted}."
        )
    return data


def require_samples_or_nothing(path: Path) -> None:
    """Refuse to write over a file that holds anything but samples, or where the disk takes no files.

    Raises:
        InputError: if it is so.
    """
    require_writable(path)
    if path.exists():
        try:
            read_samples(path)
        except InputError as error:
            raise InputError(f"{path} would be overwritten, and it is no samples file. Pass another --json.") from error
