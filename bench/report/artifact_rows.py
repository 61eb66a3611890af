"""The deployed files as rows of a table."""

from __future__ import annotations

from dataclasses import dataclass

from bench.report.schema import ArtifactFacts, ParityRow, Report
from bench.report.wording import metric_change_text, metric_name_text, metric_text, percent_text, size_text

NOTHING = "-"


@dataclass(frozen=True)
class ArtifactRow:
    """One file, every figure as text."""

    path: str
    dtype: str
    size: str
    metric: str
    change: str
    speedup: str
    form: str
    note: str | None


def artifact_rows(report: Report) -> list[ArtifactRow]:
    """One row per deployed file."""
    return [_row(artifact) for artifact in report.artifacts]


def artifact_metric(report: Report) -> str:
    """Name of the metric that the files were scored by."""
    names = [artifact.metric.name for artifact in report.artifacts if artifact.metric]
    return metric_name_text(names[0]) if names else "score"


def agreement_text(row: ParityRow) -> str:
    """Share of equal decisions, and what is required."""
    if row.agreement is None or row.least_agreement is None:
        return NOTHING
    return f"{percent_text(row.agreement, 1)} (at least {percent_text(row.least_agreement, 1)})"


def _row(artifact: ArtifactFacts) -> ArtifactRow:
    metric, change, ratio = artifact.metric, artifact.metric_change, artifact.speedup
    return ArtifactRow(
        path=artifact.path,
        dtype=artifact.dtype,
        size=size_text(artifact.bytes),
        metric=metric_text(metric.name, metric.value) if metric else NOTHING,
        change=metric_change_text(metric.name, change) if metric and change is not None else NOTHING,
        speedup=f"{ratio.value:.2f}x ({ratio.ci95[0]:.2f} to {ratio.ci95[1]:.2f})" if ratio else NOTHING,
        form=", ".join(filter(None, (artifact.form, artifact.fusion))),
        note=artifact.note,
    )
