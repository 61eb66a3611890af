"""A module of ours in a fresh interpreter: found whether the package is installed or not, silent unless it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pruning.errors import InputError

ROOT = Path(__file__).parents[1]


def search_path() -> str:
    """``PYTHONPATH`` with which a fresh interpreter finds this package."""
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


def run_module(module: str, argument: str, failure: str, variables: Mapping[str, str] | None = None) -> None:
    """Run ``python -m module argument`` to its end.

    Args:
        module: of this package.
        argument: its only one.
        failure: what could not be done, for the error message.
        variables: of the environment, beside those of this process.

    Raises:
        InputError: if it fails; its last line says why.
    """
    done = subprocess.run(  # our own interpreter and module
        [sys.executable, "-m", module, argument],
        env={**os.environ, **(variables or {}), "PYTHONPATH": search_path()},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"{failure}: {reason}")
