"""Parity of one artifact, as the report states it."""

from __future__ import annotations

from typing import Any

from exporter.artifact_parity import ArtifactParity


def parity_row(artifact: str, parity: ArtifactParity) -> dict[str, Any]:
    """The case that came closest to its tolerance, how often the decisions agree, and whether everything passed."""
    worst = max(parity.cases, key=lambda case: case.max_abs_diff / case.tolerance)
    return {
        "artifact": artifact,
        "max_abs_diff": worst.max_abs_diff,
        "tolerance": worst.tolerance,
        "passed": parity.passed,
        "worst_case": worst.case,
        "cases": len(parity.cases),
        "agreement": parity.agreement,
        "least_agreement": parity.least_agreement,
    }
