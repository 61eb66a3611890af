"""``report.json``: the keys that other programs rely on, checked when written and when read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.cell import BASELINE
from bench.result import BenchResult
from bench.statistics import Verdict
from pruning.errors import InputError

ONE_GUESS_PER_EXAMPLE = frozenset({"accuracy", "exact_match"})
"""Metrics that are the share of right answers, so that the binomial error applies."""


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)


class Metric(_Facts):
    """How good the answers are, on ``n`` examples."""

    name: str
    value: float
    n: int = Field(ge=1)

    @property
    def standard_error(self) -> float | None:
        """Of a share of right answers, sqrt(p (1 - p) / n); None for metrics of another kind."""
        if self.name not in ONE_GUESS_PER_EXAMPLE:
            return None
        return sqrt(max(self.value * (1 - self.value), 0.0) / self.n)


class LayerFacts(_Facts):
    """Heads and FFN neurons of one layer."""

    heads: int = Field(ge=0)
    ffn: int = Field(ge=0)


class ArchFacts(_Facts):
    """As ``ArchSpec.to_dict`` writes it."""

    hidden: int
    head_dim: int
    layers: tuple[LayerFacts, ...]


class ModelFacts(_Facts):
    """A model's size, shape and quality. ``metric`` is None if there were no labelled data."""

    params: int
    encoder_linear_params: int
    bytes: int
    arch: ArchFacts
    metric: Metric | None = None


class LatencyRow(_Facts):
    """Milliseconds per call in one cell; ``samples`` is their number, and too few leave a percentile out (None)."""

    runtime: str
    dtype: str
    batch: int
    seq: int
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    samples: int
    clock: str
    threads: int


class MeasuredModel(ModelFacts):
    """A model with its latencies."""

    latency: tuple[LatencyRow, ...]


class MeasuredSpeedup(_Facts):
    """The headline: ratio, its interval, the A/A interval it was judged by, and the candidate's precision and cell."""

    value: float
    ci95: tuple[float, float]
    aa95: tuple[float, float]
    verdict: Verdict
    runtime: str
    dtype: str
    batch: int
    seq: int
    clock: str
    threads: int


class ParityRow(_Facts):
    """How far an artifact's answers are from the checkpoint's.

    ``max_abs_diff`` and ``tolerance`` are those of ``worst_case``; ``agreement`` is the share of equal decisions on
    real text (mean cosine of vectors), of which ``least_agreement`` is required.
    """

    artifact: str
    max_abs_diff: float
    tolerance: float
    passed: bool
    worst_case: str | None = None
    cases: int | None = None
    agreement: float | None = None
    least_agreement: float | None = None


class Ratio(_Facts):
    """A measured ratio of speeds and its 95 % interval."""

    value: float
    ci95: tuple[float, float]


class ArtifactFacts(_Facts):
    """A file that is deployed.

    ``form`` says which operators, scheme or library; ``fusion`` in how many layers attention is one operator;
    ``fusion_speedup`` how much faster the fused graph was than the unfused one; ``kinds`` how much faster int8 is in
    each kind of product; ``quantised`` products in int8, ``left_out`` those left in fp32; ``relative_error`` what int8
    costs on text that chose nothing; ``fp32_parts`` what an fp16 graph keeps in fp32; ``metric_change`` compares with
    the fp32 file; ``speedup`` with the dense model of the headline, in its precision and cell.
    """

    path: str
    dtype: str
    form: str
    bytes: int
    fusion: str | None = None
    fusion_speedup: Ratio | None = None
    kinds: dict[str, Ratio] = Field(default_factory=dict)
    quantised: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    relative_error: float | None = None
    fp32_parts: tuple[str, ...] = ()
    note: str | None = None
    metric: Metric | None = None
    metric_change: float | None = None
    speedup: Ratio | None = None


class NotShipped(_Facts):
    """An artifact that broke its tolerance, and why; ``asked`` if it was named in the command."""

    artifact: str
    reason: str
    asked: bool


class SpeedRound(_Facts):
    """One pruned model on the way to a requested speedup.

    Latency prices were ``asked`` for a speedup and ``predicted`` one for the model, which then ``measured`` another;
    ``kept`` if it is the one that was deployed.
    """

    asked: float
    predicted: float
    measured: Ratio
    kept: bool


class SpeedTarget(_Facts):
    """What a requested speedup is for: runtime, precision and input shape of the dense and the pruned model."""

    runtime: str
    dtype: str
    batch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.runtime} {self.dtype}, batch {self.batch}, sequence {self.seq}"


class DropRow(_Facts):
    """A model of a ``speedup``: it loses ``loss_points`` of the metric, with their standard error where it is known."""

    speedup: float
    loss_points: float
    error_points: float | None
    kept: bool


class DropSearch(_Facts):
    """The search for the fastest model that loses at most ``allowed_points`` on ``n`` rows, which only choose it."""

    allowed_points: float
    n: int
    trials: tuple[DropRow, ...]


class RunFacts(_Facts):
    """What was asked, deployed and refused, and what the stages took. ``notes`` are sentences for the reader."""

    task: str
    method: str
    requested_speedup: float | None
    command: str
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()
    artifacts: tuple[ArtifactFacts, ...] = ()
    not_shipped: tuple[NotShipped, ...] = ()
    speed_rounds: tuple[SpeedRound, ...] = ()
    speed_target: SpeedTarget | None = None
    drop_search: DropSearch | None = None


class Report(_Facts):
    """The whole of ``report.json``."""

    schema_version: Literal[1] = Field(alias="schema")
    task: str
    method: str
    requested_speedup: float | None
    measured_speedup: MeasuredSpeedup
    baseline: MeasuredModel
    candidate: MeasuredModel
    parity: tuple[ParityRow, ...]
    artifacts: tuple[ArtifactFacts, ...] = ()
    not_shipped: tuple[NotShipped, ...] = ()
    speed_rounds: tuple[SpeedRound, ...] = ()
    speed_target: SpeedTarget | None = None
    drop_search: DropSearch | None = None
    seconds: dict[str, float]
    environment: dict[str, Any]
    command: str
    notes: tuple[str, ...]

    @model_validator(mode="after")
    def _check_pairs(self) -> Report:
        for name, before, after in (
            ("layers", self.baseline.arch.layers, self.candidate.arch.layers),
            ("latency rows", self.baseline.latency, self.candidate.latency),
        ):
            if len(before) != len(after):
                raise ValueError(
                    f"baseline and candidate differ in their number of {name}, {len(before)} and {len(after)}"
                )
        return self


def build_report(
    run: RunFacts, baseline: ModelFacts, candidate: ModelFacts, parity: Sequence[ParityRow], bench: BenchResult
) -> dict[str, Any]:
    """``report.json`` as plain data, from the facts of a run and its benchmark.

    The headline is the benchmark's first cell, and its first candidate is the candidate.

    Raises:
        InputError: if a figure is missing, of the wrong type, NaN or infinite.
    """
    key = bench.candidates[0].key
    report = {
        "schema": 1,
        "task": run.task,
        "method": run.method,
        "requested_speedup": run.requested_speedup,
        "measured_speedup": _measured_speedup(bench, key),
        "baseline": {**baseline.model_dump(), "latency": _latency_rows(bench, BASELINE)},
        "candidate": {**candidate.model_dump(), "latency": _latency_rows(bench, key)},
        "parity": [row.model_dump() for row in parity],
        "artifacts": [artifact.model_dump() for artifact in run.artifacts],
        "not_shipped": [artifact.model_dump() for artifact in run.not_shipped],
        "speed_rounds": [x.model_dump() for x in run.speed_rounds],
        "speed_target": None if run.speed_target is None else run.speed_target.model_dump(),
        "drop_search": None if run.drop_search is None else run.drop_search.model_dump(),
        "seconds": run.seconds,
        "environment": _environment(bench),
        "command": run.command,
        "notes": run.notes,
    }
    return report_from_dict(report).model_dump(mode="json", by_alias=True)


def report_from_dict(data: Mapping[str, Any]) -> Report:
    """Check what ``report.json`` holds.

    Raises:
        InputError: if it is not a report of this schema; the first wrong field is named.
    """
    try:
        return Report.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"not a report of schema 1: {where}: {first['msg']}. Run again to write a new one.") from error


def _measured_speedup(bench: BenchResult, key: str) -> dict[str, Any]:
    cell = bench.cells[0]
    comparison = bench.comparison(cell, key)
    return {
        "value": comparison.ratio.value,
        "ci95": (comparison.ratio.low, comparison.ratio.high),
        "aa95": (comparison.control.low, comparison.control.high),
        "verdict": comparison.verdict,
        "runtime": cell.runtime,
        "dtype": cell.dtypes[key],
        "batch": cell.batch,
        "seq": cell.seq,
        "clock": bench.settings.headline_clock,
        "threads": bench.settings.threads,
    }


def _latency_rows(bench: BenchResult, key: str) -> list[dict[str, Any]]:
    """One row per cell and clock, the headline clock's rows first."""
    clocks = sorted(
        (clock.name for clock in bench.settings.clocks), key=lambda name: name != bench.settings.headline_clock
    )
    return [
        {
            "runtime": cell.runtime,
            "dtype": cell.dtypes[key],
            "batch": cell.batch,
            "seq": cell.seq,
            "p50_ms": latency.p50_ms,
            "p90_ms": latency.p90_ms,
            "p99_ms": latency.p99_ms,
            "samples": len(latency.samples_ms),
            "clock": clock,
            "threads": bench.settings.threads,
        }
        for clock in clocks
        for cell in bench.cells
        for latency in [cell.latency(key, clock)]
    ]


def _environment(bench: BenchResult) -> dict[str, Any]:
    return {
        **bench.environment.to_dict(),
        "threads": bench.settings.threads,
        "other_load": bench.other_load,
        "loaded": bench.loaded,
        "inputs": bench.inputs,
    }
