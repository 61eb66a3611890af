"""The folder that ``--out`` names, where it has to be new."""

from __future__ import annotations

from pathlib import Path

from pruning.atomic import require_writable
from pruning.errors import InputError


def require_free(out: Path) -> None:
    """Make sure that a folder can be written, before the work is done.

    Raises:
        InputError: if something is there, or the disk takes no files.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not an empty folder. Choose another --out.")
    require_writable(out)
