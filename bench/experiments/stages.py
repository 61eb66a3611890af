"""The experiments on loaded models. Each yields its result after every step, so that Ctrl-C loses one step at most.

Each takes what it found before it was stopped, None at first, and does what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from bench.cell import BASELINE
from bench.experiments.cold_start import ColdStartResult, count_starts, repeat_starts, start_process
from bench.experiments.load import LoadPoint, LoadResult, Rate, TimeSource, poisson_arrivals, serve_open_loop
from bench.experiments.plan import Experiment
from bench.experiments.site import Site
from bench.experiments.throughput import ThroughputPoint, ThroughputResult, sweep
from bench.paired import Blocks
from bench.profiling.breakdown import ModelProfile, ProfileResult, operator_times
from bench.profiling.registry import profiler_from_runtime
from bench.profiling.request import ProfileRequest
from bench.runners.base import Runner
from bench.telemetry.cpu import file_bytes
from bench.timer import WALL
from pruning.batching import Batch
from pruning.errors import InputError

PROFILE_WARMUP = 3
"""Calls before those that count: the first one allocates."""


def measure_throughput(site: Site, seq: int, before: ThroughputResult | None) -> Iterator[ThroughputResult]:
    """The batch sweep at one sequence length, models interleaved at every size."""
    largest = site.plan.largest_batch

    def measure(batch: int) -> Mapping[str, Blocks]:
        batches = site.inputs(batch, seq)
        site.warm_up(batches)
        samples = site.time_closed_loop(site.runners, batches, site.clock)
        site.tell(Experiment.THROUGHPUT, batch.bit_length(), largest.bit_length(), f"sequence {seq}, batch {batch}")
        return samples

    for curves in sweep(measure, seq=seq, largest=largest, before=before.curves if before else ()):
        yield ThroughputResult(site.runtime, seq, curves, site.clock.name)


def measure_load(site: Site, seq: int, before: LoadResult | None) -> Iterator[LoadResult]:
    """The open loop at one sequence length; every model meets the same arrivals.

    Raises:
        InputError: if what was found before is of other rates, times or rules.
    """
    saturation = before.saturation_per_second if before else measure_saturation(site, seq)
    rows = site.inputs(1, seq)
    visits = [(key, *visit) for visit in _visits(site, saturation) for key in site.runners]
    points = list(before.points) if before else []
    _check_visits(site, before, visits)
    for key, rate, arrivals in visits[len(points) :]:
        serve = partial(serve_rows, site.runners[key], rows)
        points.append(serve_open_loop(key, rate, arrivals, serve, site.plan.rules, TimeSource()))
        site.tell(Experiment.LOAD, len(points), len(visits), f"sequence {seq}, {key} at {rate}")
        yield LoadResult(site.runtime, seq, site.plan.rules, saturation, tuple(points))


def measure_saturation(site: Site, seq: int) -> float:
    """Requests per second that the baseline answers in a closed loop, at the largest batch that the queue forms."""
    size = site.plan.rules.max_batch
    batches = site.inputs(size, seq)
    site.warm_up(batches)
    blocks = site.time_closed_loop({BASELINE: site.runners[BASELINE]}, batches, WALL)[BASELINE]
    return ThroughputPoint(size, seq, blocks).requests_per_second


def serve_rows(runner: Runner, rows: Sequence[Batch], requests: Sequence[int]) -> None:
    """Answer some requests as one batch; each asks with one of the rows, in turn."""
    chosen = [rows[request % len(rows)] for request in requests]
    runner.run({name: torch.cat([row[name] for row in chosen]) for name in chosen[0]})


def measure_cold_start(site: Site, before: ColdStartResult | None) -> Iterator[ColdStartResult]:
    """Fresh processes on the first batch and sequence length."""
    settings, repeats = site.settings, site.plan.repeats
    batch, seq = settings.batches[0], settings.seqs[0]
    start = partial(start_process, site.runtime, settings.threads, site.inputs(batch, seq)[0], dtype=settings.dtype)
    sizes = {key: file_bytes(path) for key, path in site.prepared.items()}
    for rows in repeat_starts(site.prepared, sizes, start, repeats, before.rows if before else ()):
        total = 2 * repeats * len(site.prepared)
        site.tell(Experiment.COLD_START, count_starts(rows), total, "fresh process")
        yield ColdStartResult(site.runtime, batch, seq, rows)


def measure_profile(site: Site, batch: int, seq: int, before: ProfileResult | None) -> Iterator[ProfileResult]:
    """Every model's time by operator, after warming up; profiling slows the small operators down a little."""
    profiler = profiler_from_runtime(site.runtime)
    inputs = site.inputs(batch, seq)
    calls = [inputs[index % len(inputs)] for index in range(site.plan.profile_calls)]
    profiles = list(before.models) if before else []
    for key in [key for key in site.prepared if key not in {model.key for model in profiles}]:
        with TemporaryDirectory(dir=site.scratch) as folder:
            batches = [*calls[:PROFILE_WARMUP], *calls]
            profiled = profiler(
                ProfileRequest(
                    site.prepared[key], batches, site.settings.threads, Path(folder), site.settings.runner_options
                )
            )
        profiles.append(ModelProfile(key, operator_times(profiled[PROFILE_WARMUP:])))
        site.tell(Experiment.PROFILE, len(profiles), len(site.prepared), f"batch {batch}, sequence {seq}, {key}")
        yield ProfileResult(site.runtime, batch, seq, tuple(profiles))


def _visits(site: Site, saturation: float) -> list[tuple[Rate, tuple[float, ...]]]:
    """Every rate with its arrivals."""
    rates, seed = site.plan.rates, site.settings.seed
    return [
        (
            rate,
            poisson_arrivals(rate.per_second(saturation), site.plan.load_seconds, seed=seed * len(rates) + index),
        )
        for index, rate in enumerate(rates)
    ]


def _check_visits(site: Site, before: LoadResult | None, visits: Sequence[tuple[str, Rate, tuple[float, ...]]]) -> None:
    """Refuse to mix loads: arrivals are drawn from a seed, so that those of the same request are the same numbers."""
    if before is None:
        return
    wanted = [(key, arrivals) for key, _, arrivals in visits]
    found = [(point.key, _arrivals(point)) for point in before.points]
    if found != wanted[: len(found)] or before.rules != site.plan.rules:
        raise InputError(
            f"the load in the samples file was measured in {before.runtime}, sequence {before.seq}, at other rates, "
            "for another time or with other rules of the queue. Ask for the same, or measure into another file."
        )


def _arrivals(point: LoadPoint) -> tuple[float, ...]:
    return tuple(outcome.arrival_s for outcome in point.outcomes)
