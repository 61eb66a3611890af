"""Experiments as tables of text, once for the terminal, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.experiments.cold_start import ColdStartResult, ColdStartRow
from bench.experiments.load import LoadPoint, LoadResult
from bench.experiments.results import Experiments
from bench.experiments.throughput import ThroughputPoint, ThroughputResult
from bench.profiling.breakdown import OperatorTimes, ProfileResult
from bench.profiling.places import Part, Place
from bench.report.wording import count_text, ms_text, percent_text, size_text

UNKNOWN = "-"
LAYER_PARTS = (Part.ATTENTION, Part.FFN, Part.NORMS, Part.OTHER)
Labels = Mapping[str, str]
"""What people call a model, by its key."""


@dataclass(frozen=True)
class ReportTable:
    """A titled table. The first ``text_columns`` columns hold words, the others figures; ``note`` stands below."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int
    note: str


def tables_from_experiments(found: Experiments, labels: Labels) -> tuple[ReportTable, ...]:
    """All tables, in the order in which a reader asks: where, how fast, how long under load, how long at first."""
    return (
        *(table for result in found.profile for table in profile_tables(result, labels)),
        *(throughput_table(result, labels) for result in found.throughput),
        *(load_table(result, labels) for result in found.load),
        *(cold_start_table(result, labels) for result in found.cold_start),
    )


def profile_tables(result: ProfileResult, labels: Labels) -> list[ReportTable]:
    """For every candidate, its times beside the baseline's: by layer and part, and by operator."""
    before, *candidates = result.models
    tables = []
    for after in candidates:
        pair = (before.operators, after.operators)
        where = f"{labels[before.key]} → {labels[after.key]} ({result.runtime}, batch {result.batch}, "
        where += f"sequence {result.seq})"
        tables += [_layer_table(where, *pair), _operator_table(where, *pair)]
    return tables


def throughput_table(result: ThroughputResult, labels: Labels) -> ReportTable:
    """One row per batch size and model."""
    rows = [
        _throughput_row(result, curve.key, labels[curve.key], point)
        for batch in sorted({point.batch for curve in result.curves for point in curve.points})
        for curve in result.curves
        for point in curve.points
        if point.batch == batch
    ]
    growing = [labels[curve.key] for curve in result.curves if not curve.saturated]
    ends = [
        f"{labels[curve.key]} at its best does {result.best_ratio(curve.key):.2f} times the tokens of "
        f"{labels[result.curves[0].key]} at its best."
        for curve in result.curves[1:]
    ]
    if growing:
        ends.append(f"The sweep ended before two doublings brought less than 5 % for: {', '.join(growing)}.")
    return ReportTable(
        f"Throughput: {result.runtime}, sequence {result.seq}",
        ("batch", "model", "requests/s", "tokens/s", "speed (95 % interval)", ""),
        tuple(rows),
        2,
        " ".join([f"Closed loop, {result.clock} clock, every token real.", *ends]),
    )


def load_table(result: LoadResult, labels: Labels) -> ReportTable:
    """One row per rate and model."""
    rules = result.rules
    batching = (
        f"batches of up to {rules.max_batch}, formed within {rules.max_delay_ms:g} ms"
        if rules.max_batch > 1
        else "one request at a time"
    )
    return ReportTable(
        f"Response time under load: {result.runtime}, sequence {result.seq}",
        ("arrivals", "model", "requests", "p50", "p90", "p99", "dropped", "server busy"),
        tuple(_load_row(point, labels[point.key]) for point in result.points),
        2,
        f"Open loop: Poisson arrivals, timed from the arrival, so that waiting counts; {batching}. At most "
        f"{rules.queue_limit:,} wait, for {rules.timeout_s:g} s; the rest is dropped. Shares are of the "
        f"{result.saturation_per_second:.1f} requests/s that {labels[result.points[0].key]} reaches in a closed loop. "
        f"{UNKNOWN}: fewer than ten answers were slower.",
    )


def cold_start_table(result: ColdStartResult, labels: Labels) -> ReportTable:
    """One row per model and state of the file cache."""
    starts = len(result.rows[0].starts)
    imports = result.rows[0].median_s("imports_s")
    return ReportTable(
        f"Cold start: {result.runtime}, batch {result.batch}, sequence {result.seq}",
        ("model", "its files", "size", "load", "first answer", "ready", "second answer", "peak memory", "of it model"),
        tuple(_cold_start_row(row, labels[row.key]) for row in result.rows),
        2,
        f"Medians of {starts} fresh processes each, counted after Python and its libraries were imported (about "
        f"{imports:.1f} s here). In memory: the files were read just before. On disk: the kernel was asked to forget "
        "them, which a virtual disk may still cache.",
    )


def _layer_table(where: str, before: OperatorTimes, after: OperatorTimes) -> ReportTable:
    left, right = before.by_place(), after.by_place()
    layers = sorted({place.layer for place in (*left, *right) if place.layer is not None})
    rows = [
        (f"layer {layer + 1}", *_cells(left, right, [[Place(part, layer)] for part in LAYER_PARTS])) for layer in layers
    ]
    outside = ((Part.ATTENTION, "attention mask"), (Part.EMBEDDINGS, "embeddings"), (Part.HEAD, "head"))
    rows += [(name, "", "", "", "", _change(left, right, [Place(part)])) for part, name in outside]
    rows.append(("outside operators", "", "", "", "", _change(left, right, [Place(Part.OTHER)])))
    sums = [[place for place in {*left, *right} if place.part is part and place.layer is not None]
            for part in LAYER_PARTS]  # fmt: skip
    totals = [_change(left, right, places) for places in sums]
    rows.append(("total", *totals, _change(left, right, [*{*left, *right}])))
    return ReportTable(
        f"Where the time went: {where}",
        ("", "attention", "FFN", "norms", "other", "sum"),
        tuple(rows),
        1,
        f"Milliseconds per call; mean of the faster half of {before.profiled_calls} profiled calls. Profiling makes "
        "calls slower: compare the parts, and take the times from the latency table.",
    )


def _operator_table(where: str, before: OperatorTimes, after: OperatorTimes) -> ReportTable:
    left, right = before.by_operator(), after.by_operator()
    names = sorted({*left, *right}, key=lambda name: -left.get(name, 0.0))
    rows = [
        (name, *_operator_cells(left.get(name, 0.0), right.get(name, 0.0), before.total_ms, after.total_ms))
        for name in names
    ]
    rows.append(("total", *_operator_cells(before.total_ms, after.total_ms, before.total_ms, after.total_ms)))
    return ReportTable(
        f"By operator: {where}", ("operator", "before", "share", "after", "share", "saved"), tuple(rows), 1, ""
    )


def _operator_cells(before: float, after: float, before_total: float, after_total: float) -> tuple[str, ...]:
    return (
        ms_text(before),
        percent_text(before / before_total, 1),
        ms_text(after),
        percent_text(after / after_total, 1),
        ms_text(before - after) if before >= after else f"-{ms_text(after - before)}",
    )


def _cells(left: Mapping[Place, float], right: Mapping[Place, float], groups: list[list[Place]]) -> list[str]:
    """One cell per group of places, and one for all of them."""
    return [_change(left, right, group) for group in [*groups, [place for group in groups for place in group]]]


def _change(left: Mapping[Place, float], right: Mapping[Place, float], places: list[Place]) -> str:
    before, after = (sum(side.get(place, 0.0) for place in places) for side in (left, right))
    return f"{before:.2f} → {after:.2f}" if before or after else ""


def _throughput_row(result: ThroughputResult, key: str, label: str, point: ThroughputPoint) -> tuple[str, ...]:
    is_baseline = key == result.curves[0].key
    return (
        str(point.batch),
        label,
        f"{point.requests_per_second:,.1f}",
        count_text(point.tokens_per_second),
        "" if is_baseline else str(result.ratio(key, point.batch)),
        "best" if point == result.curve(key).best else "",
    )


def _load_row(point: LoadPoint, label: str) -> tuple[str, ...]:
    offered = f"{point.offered_per_second:.1f}/s"
    return (
        offered if point.share is None else f"{offered} ({percent_text(point.share)})",
        label,
        f"{len(point.outcomes):,}",
        *(UNKNOWN if (value := point.percentile_ms(percent)) is None else ms_text(value) for percent in (50, 90, 99)),
        percent_text(point.dropped_share, 1),
        percent_text(point.busy_share),
    )


def _cold_start_row(row: ColdStartRow, label: str) -> tuple[str, ...]:
    memory = (row.peak_resident_bytes, row.model_bytes)
    times = [row.median_s(name) for name in ("load_s", "first_answer_s", "ready_s", "second_answer_s")]
    return (
        label,
        row.cache.value,
        size_text(row.file_bytes),
        *(ms_text(seconds * 1_000) for seconds in times),
        *(UNKNOWN if value is None else size_text(value) for value in memory),
    )
