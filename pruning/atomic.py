"""Files and folders that appear only when complete: written aside, flushed to disk, then renamed.

Standard library only. A process killed at any moment leaves the old state or the new one, plus at most a
``.partial`` sibling that the next writer removes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from pruning.errors import InputError


def partial_path(target: Path) -> Path:
    """Where ``target`` is written before it is complete: a hidden sibling, so that the rename stays on one device."""
    return target.with_name(f".{target.name}.partial")


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a sibling path to write to; on success it is flushed and renamed to ``target``, else removed.

    Raises:
        InputError: if the folder of ``target`` can not be made.
    """
    _make_folder(target.parent)
    partial = partial_path(target)
    try:
        yield partial
        _flush(partial)
        os.replace(partial, target)  # noqa: PTH105  # Path.replace hides that this is the atomic call
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty sibling folder to fill; on success it becomes ``target``, replacing what was there.

    A folder cannot be replaced in one call, so an existing ``target`` is renamed away first; if the process dies
    between the two renames, ``recover_folder`` puts things right.

    Raises:
        InputError: if ``target`` is a file, or no folder can be made there.
    """
    if target.is_file():
        raise InputError(f"{target} is a file, and a folder is to be written there. Move it or pass another name.")
    _make_folder(target.parent)
    partial, old = partial_path(target), _old_path(target)
    recover_folder(target)
    shutil.rmtree(partial, ignore_errors=True)
    _make_folder(partial)
    try:
        yield partial
        for path in partial.rglob("*"):
            if path.is_file():
                _flush(path)
        if target.exists():
            target.rename(old)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        recover_folder(target)


def require_writable(target: Path) -> None:
    """Find out before the work that its result can not be written; leaves nothing behind.

    The disk is asked, not the permission bits, which an administrator or a read-only file system makes untrue.

    Args:
        target: the file or folder to write; its folders need not exist yet.

    Raises:
        InputError: if the nearest folder that exists takes no new file.
    """
    folder = next(parent for parent in (target.absolute(), *target.absolute().parents) if parent.exists())
    if folder == target.absolute() and not folder.is_dir():
        folder = folder.parent  # a file is replaced by a rename
    try:
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(
            f"{target} can not be written: {folder} takes no files ({error.strerror}). Choose another place."
        ) from error


def recover_folder(target: Path) -> None:
    """Bring ``target`` back if the second rename of `atomic_folder` did not happen; clean up if it did."""
    old = _old_path(target)
    if old.exists() and not target.exists():
        old.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def write_text(target: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_file(target) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(target: Path, data: object) -> None:
    """Write indented JSON atomically. NaN is refused: no other JSON reader accepts it."""
    write_text(target, json.dumps(data, indent=2, allow_nan=False) + "\n")


def _make_folder(folder: Path) -> None:
    """Make a folder where one can be made; some places, such as /proc, take none and say that they do not exist."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileNotFoundError, NotADirectoryError, FileExistsError) as error:
        raise InputError(
            f"no folder can be made at {folder} ({error.strerror}). Choose another place to write to."
        ) from error


def _old_path(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
