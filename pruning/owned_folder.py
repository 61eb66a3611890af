"""Whose an output folder is: free, or holding this very run, to be continued. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from pruning.atomic import require_writable
from pruning.errors import InputError


def check_owner(
    out: Path,
    stored: Mapping[str, Any] | None,
    request: Mapping[str, Any],
    *,
    kind: str,
    resume: bool,
    remains: Set[str] = frozenset(),
) -> None:
    """Make sure that ``out`` is free, or holds the run of ``request`` and may be continued. Writes nothing.

    Args:
        out: the output folder.
        stored: the request of the run that it holds, None if it holds none.
        request: what is asked for now.
        kind: what to call such a run.
        resume: whether a run that is there may be continued.
        remains: names in a folder that count as free, such as what a run leaves that was stopped at its very start.

    Raises:
        InputError: if it holds something else, or the disk takes no files.
    """
    require_writable(out)
    if stored is None:
        if out.exists() and not (out.is_dir() and {path.name for path in out.iterdir()} <= remains):
            raise InputError(f"{out} exists and holds no {kind}. Choose another output folder.")
        return
    if dict(stored) != dict(request):
        changed = ", ".join(sorted(name for name in request if stored.get(name) != request[name]))
        raise InputError(f"{out} holds a {kind} with other settings ({changed}). Choose another output folder.")
    if not resume:
        raise InputError(
            f"{out} already holds this {kind}. Pass --resume to continue it, or choose another output folder."
        )
