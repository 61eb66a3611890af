"""Parity of one artifact, as the report states it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from exporter.parity import Parity


def parity_row(artifact: str, cases: Sequence[Parity]) -> dict[str, Any]:
    """The case that came closest to its tolerance, and whether all of them passed."""
    worst = max(cases, key=lambda case: case.max_abs_diff / case.tolerance)
    return {
        "artifact": artifact,
        "max_abs_diff": worst.max_abs_diff,
        "tolerance": worst.tolerance,
        "passed": all(case.passed for case in cases),
    }
