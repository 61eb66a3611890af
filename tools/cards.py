"""The model card of a run or of an export: facts from the tools, text from the exporter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.report.run_report import headline_from_report
from bench.report.schema import MeasuredModel, Metric, Report, report_from_dict
from exporter.model_card import (
    CARD_FILE,
    CardLatency,
    CardMetric,
    ModelCardFacts,
    ModelSize,
    files_from_deploy,
    license_from_folder,
    model_card_text,
)
from pruning.arch import ArchSpec
from pruning.atomic import write_text
from pruning.checkpoint import Checkpoint
from pruning.introspect import head_from_model
from tools.model_facts import facts_from_model


def write_run_card(deploy: Path, report: Mapping[str, Any], dense: Checkpoint, model: str, data: str) -> None:
    """Write the card of a deploy folder with everything that a run measured.

    Args:
        deploy: the folder.
        report: contents of ``report.json``.
        dense: the model that was pruned.
        model: what the user called it.
        data: what the user called the data that the metric was measured on.
    """
    found = report_from_dict(report)
    facts = ModelCardFacts(
        name=f"{_short_name(model)}, pruned",
        head=head_from_model(dense.model),
        size=_size_from_report(found.candidate),
        files=files_from_deploy(deploy, _notes(found)),
        source=_short_name(model),
        base_model=hub_name(model),
        license=license_from_folder(dense.path),
        dense=_size_from_report(found.baseline),
        metric=_metric(found.baseline.metric, found.candidate.metric, _short_name(data)),
        latencies=_latencies(found),
        headline=headline_from_report(report),
        machine=f"{found.environment['cpu']}, {found.environment['os']}",
    )
    write_text(deploy / CARD_FILE, model_card_text(facts))


def write_export_card(deploy: Path, loaded: Checkpoint, checkpoint: str, notes: Mapping[str, str | None]) -> None:
    """Write the card of a deploy folder that was exported without measuring its speed.

    Args:
        deploy: the folder.
        loaded: the checkpoint.
        checkpoint: what the user called it.
        notes: how each file was made, by its path inside the folder.
    """
    facts = facts_from_model(loaded.model)
    card = ModelCardFacts(
        name=_short_name(checkpoint),
        head=head_from_model(loaded.model),
        size=ModelSize(ArchSpec.from_dict(facts["arch"]), facts["params"], facts["bytes"]),
        files=files_from_deploy(deploy, notes),
        source=_short_name(checkpoint),
        base_model=hub_name(checkpoint),
        license=license_from_folder(loaded.path),
    )
    write_text(deploy / CARD_FILE, model_card_text(card))


def hub_name(model: str) -> str | None:
    """The model's name on the hub; None if it is a folder here."""
    return None if Path(model).exists() else model


def _short_name(model: str) -> str:
    """A hub name as it is, a path without the folders above it, which are nobody else's business."""
    return Path(model).resolve().name if Path(model).exists() else model


def _size_from_report(model: MeasuredModel) -> ModelSize:
    return ModelSize(ArchSpec.from_dict(model.arch.model_dump()), model.params, model.bytes)


def _metric(baseline: Metric | None, candidate: Metric | None, dataset: str) -> CardMetric | None:
    if baseline is None or candidate is None:
        return None
    return CardMetric(candidate.name, baseline.value, candidate.value, candidate.n, dataset)


def _notes(report: Report) -> dict[str, str | None]:
    """Of the files of the deploy folder, by their path inside it."""
    return {artifact.path.partition("/")[2]: artifact.note for artifact in report.artifacts}


def _latencies(report: Report) -> tuple[CardLatency, ...]:
    return tuple(
        CardLatency(
            runtime=after.runtime,
            batch=after.batch,
            seq=after.seq,
            clock=after.clock,
            threads=after.threads,
            baseline_dtype=before.dtype,
            baseline_ms=before.p50_ms,
            candidate_dtype=after.dtype,
            candidate_ms=after.p50_ms,
        )
        for before, after in zip(report.baseline.latency, report.candidate.latency, strict=True)
    )
