"""The report of a whole run: one page that a manager can read and an engineer can check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bench.report import wording
from bench.report.artifact_rows import agreement_text, artifact_metric, artifact_rows
from bench.report.bench_report import environment_rows, latency_plot, method_text, speedup_plot
from bench.report.plots import kept_svg
from bench.report.render import render
from bench.report.rows import caveats_from_result, columns_from_cells, rows_from_result, tail_note
from bench.report.schema import LatencyRow, MeasuredModel, Metric, Report, report_from_dict
from bench.report.wording import change_text, count_text, ms_text, size_text, speedup_text
from bench.result import BenchResult


@dataclass(frozen=True)
class Change:
    """One line of the before/after table."""

    name: str
    before: str
    after: str
    change: str


def headline_from_report(report: Mapping[str, Any]) -> str:
    """One sentence: how much faster and where, how much smaller, what it cost.

    Raises:
        InputError: if ``report`` is not a report of schema 1.
    """
    return _headline(report_from_dict(report))


def markdown_from_report(report: Mapping[str, Any]) -> str:
    """``report.md`` from the contents of ``report.json``.

    Raises:
        InputError: if ``report`` is not a report of schema 1.
    """
    checked = report_from_dict(report)
    values = _values(checked) | {"environment": _environment_rows(checked.environment)}
    if checked.environment.get("loaded"):
        values["warnings"].append("The machine was busy with other work during the measurement.")
    return render("run.md.jinja", values)


def html_from_report(report: Mapping[str, Any], bench: BenchResult) -> str:
    """``report.html``: self-contained, without scripts, with plots from the raw samples in ``bench``.

    Raises:
        InputError: if ``report`` is not a report of schema 1.
    """
    checked = report_from_dict(report)
    cells = rows_from_result(bench)
    values = _values(checked)
    return render(
        "run.html.jinja",
        values
        | {
            "warnings": [*values["warnings"], *caveats_from_result(bench, cells)],
            "kept_plots": kept_plots(checked.baseline, checked.candidate),
            "columns": columns_from_cells(cells),
            "latency_plots": [latency_plot(cell) for cell in cells],
            "speedup_plot": speedup_plot(cells) if len(cells) > 1 else None,
            "cells": cells,
            "method": method_text(bench),
            "tail_note": tail_note(bench),
            "environment": environment_rows(bench),
        },
    )


def metric_sentence(before: Metric, after: Metric) -> str:
    """What the change of a metric means, given how many examples it was measured on."""
    name = wording.metric_name_text(before.name)
    change = wording.metric_change_text(before.name, after.value - before.value)
    error = before.standard_error
    if error is None:
        return f"The {name} changed by {change} on {before.n:,} examples."
    verdict = "within this noise" if abs(after.value - before.value) <= error else "larger than this noise"
    return (
        f"The {name} was measured on {before.n:,} examples, so each value has a standard error of about "
        f"{error * 100:.1f} points. Differences smaller than that are noise; the change of {change} is {verdict}."
    )


def kept_plots(before: MeasuredModel, after: MeasuredModel) -> list[str]:
    """Heads and FFN neurons of each layer: kept and removed."""
    full, kept = before.arch.layers, after.arch.layers
    return [
        kept_svg("Attention heads per layer", [x.heads for x in kept], [x.heads for x in full]),
        kept_svg("FFN neurons per layer", [x.ffn for x in kept], [x.ffn for x in full]),
    ]


def _values(report: Report) -> dict[str, Any]:
    before, after = report.baseline.metric, report.candidate.metric
    return {
        "report": report,
        "headline": _headline(report),
        "short_headline": ", ".join((_speed(report), *_rest(report))),
        "conditions": _conditions(report),
        "cards": _cards(report),
        "changes": _changes(report),
        "metric_sentence": metric_sentence(before, after) if before and after else None,
        "layers": list(zip(report.baseline.arch.layers, report.candidate.arch.layers, strict=True)),
        "warnings": _warnings(report),
        "artifacts": artifact_rows(report),
        "artifact_metric": artifact_metric(report),
        "agreement": agreement_text,
    }


def _headline(report: Report) -> str:
    return ", ".join((f"{_speed(report)} on {_conditions(report)}", *_rest(report)))


def _speed(report: Report) -> str:
    speed = report.measured_speedup
    return speedup_text(speed.value, *speed.ci95, speed.verdict)


def _conditions(report: Report) -> str:
    speed = report.measured_speedup
    return f"{speed.runtime} {speed.dtype} at batch {speed.batch}, sequence {speed.seq}"


def _rest(report: Report) -> list[str]:
    """What else the headline says: size, and quality where it was measured."""
    parts = [change_text(report.baseline.bytes, report.candidate.bytes)]
    before, after = report.baseline.metric, report.candidate.metric
    if before and after:
        name = wording.metric_name_text(before.name)
        values = (wording.metric_text(metric.name, metric.value) for metric in (before, after))
        parts.append(f"{name} {' → '.join(values)}")
    return parts


def _cards(report: Report) -> list[Change]:
    """The figures at the top of the page."""
    speed, rows = report.measured_speedup, _paired_latency(report)
    before, after = report.baseline, report.candidate
    cards = [
        Change("Speedup", "", f"{speed.value:.2f}x", f"95 % interval {speed.ci95[0]:.2f} to {speed.ci95[1]:.2f}"),
        Change("Latency", ms_text(rows[0][0].p50_ms), ms_text(rows[0][1].p50_ms), "median per call"),
        Change(
            "Weights, fp32", size_text(before.bytes), size_text(after.bytes), change_text(before.bytes, after.bytes)
        ),
    ]
    if before.metric and after.metric:
        change = _metric_change(before.metric, after.metric)
        cards.append(replace(change, name=change.name.capitalize()))
    return cards


def _changes(report: Report) -> list[Change]:
    before, after = report.baseline, report.candidate
    sizes = [
        ("parameters", before.params, after.params, count_text),
        ("encoder weights", before.encoder_linear_params, after.encoder_linear_params, count_text),
        ("weights in fp32", before.bytes, after.bytes, size_text),
    ]
    changes = [Change(name, text(x), text(y), change_text(x, y)) for name, x, y, text in sizes]
    changes += [
        Change(f"{label} latency, {_where(x)}", ms_text(ms_x), ms_text(ms_y), f"{ms_x / ms_y:.2f}x")
        for x, y in _paired_latency(report)
        for label, ms_x, ms_y in (("median", x.p50_ms, y.p50_ms), ("p99", x.p99_ms, y.p99_ms))
        if ms_x is not None and ms_y is not None
    ]
    if before.metric and after.metric:
        changes.append(_metric_change(before.metric, after.metric))
    return changes


def _metric_change(before: Metric, after: Metric) -> Change:
    name = before.name
    return Change(
        wording.metric_name_text(name),
        wording.metric_text(name, before.value),
        wording.metric_text(name, after.value),
        wording.metric_change_text(name, after.value - before.value),
    )


def _paired_latency(report: Report) -> list[tuple[LatencyRow, LatencyRow]]:
    """Rows of both models in the same cell, on the headline clock; the headline's cell comes first."""
    pairs = zip(report.baseline.latency, report.candidate.latency, strict=True)
    return [pair for pair in pairs if pair[0].clock == report.measured_speedup.clock]


def _where(row: LatencyRow) -> str:
    return f"{row.runtime}, batch {row.batch}, sequence {row.seq}"


def _warnings(report: Report) -> list[str]:
    """What the run itself gives reason to warn about; the benchmark's own caveats are added in HTML."""
    speed, warnings = report.measured_speedup, []
    if report.requested_speedup is not None and speed.ci95[1] < report.requested_speedup:
        asked = f"{report.requested_speedup:g}x was asked for"
        warnings.append(
            f"{asked} in measured time; this measurement, with more blocks than those of the rounds, is "
            f"{1 - speed.value / report.requested_speedup:.1%} below it."
            if report.speed_rounds
            else f"{asked}, as a budget in encoder FLOPs; in time it is less here."
        )
    warnings += [f"{row.artifact} was not shipped: {row.reason}" for row in report.not_shipped if row.asked]
    failed = [row.artifact for row in report.parity if not row.passed]
    if failed:
        warnings.append(f"Answers differ from the checkpoint beyond the tolerance: {', '.join(failed)}.")
    return warnings


def _environment_rows(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Whatever was recorded, one line each."""
    return [
        (
            name.replace("_", " "),
            ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value),
        )
        for name, value in environment.items()
    ]
