"""``manifest.json``: a checksum of every file of a run, and what it takes to make them again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pruning.atomic import write_json
from pruning.errors import InputError

MANIFEST = "manifest.json"
SCHEMA = 1


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """Checksum every file below ``folder``, hidden ones left out, and write them with ``facts``."""
    files = {path.relative_to(folder).as_posix(): file_facts(path) for path in visible_files(folder)}
    write_json(folder / MANIFEST, {"schema": SCHEMA, **facts, "files": files})


def read_manifest(folder: Path) -> dict[str, Any]:
    """What `write_manifest` wrote.

    Raises:
        InputError: if there is none, or it is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(
            f"{folder} is not a finished run: it has no {MANIFEST}. Pass the --out folder of slimbert run."
        )
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for facts in manifest["files"].values():
            _ = facts["sha256"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error!r}). Run again into another folder.") from error
    return manifest


def changed_files(folder: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    """Files that are not as the manifest says, with the reason: missing, changed, or not listed."""
    listed = manifest["files"]
    problems = {}
    for name, facts in listed.items():
        path = folder / name
        if not path.is_file():
            problems[name] = "missing"
        elif file_facts(path)["sha256"] != facts["sha256"]:
            problems[name] = "changed"
    found = {path.relative_to(folder).as_posix() for path in visible_files(folder)}
    return problems | dict.fromkeys(sorted(found - set(listed)), "not listed")


def file_facts(path: Path) -> dict[str, Any]:
    """Checksum and size of one file."""
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": path.stat().st_size}


def visible_files(folder: Path) -> list[Path]:
    """Every file but the manifest itself and what lies in or is a hidden name, sorted."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in files if not _hidden(path.relative_to(folder)) and path != folder / MANIFEST]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
