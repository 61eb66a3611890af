"""Run experiments on real models: runners loaded once per runtime, or started anew where that is the point."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from bench.cell import BASELINE
from bench.contestants import InputSource, checked_inputs, prepare_models, random_source
from bench.experiments.cold_start import ColdStartResult, repeat_starts, start_process
from bench.experiments.load import LoadPoint, LoadResult, TimeSource, poisson_arrivals, serve_open_loop
from bench.experiments.plan import Experiment, ExperimentPlan
from bench.experiments.results import Experiments
from bench.experiments.throughput import ThroughputPoint, ThroughputResult, sweep
from bench.paired import Blocks, measure_blocks, samples_from_blocks
from bench.profiling.breakdown import ModelProfile, ProfileResult, operator_times
from bench.profiling.registry import check_profile, profiler_from_runtime
from bench.result import BenchModel, BenchSettings
from bench.runners.base import Runner
from bench.runners.registry import runner_class_from_runtime
from bench.telemetry.cpu import file_bytes
from bench.timer import WALL, time_calls
from pruning.batching import Batch
from pruning.errors import InputError

PROFILE_WARMUP = 3
"""Calls before those that count: the first one allocates."""

Tell = Callable[[str, int, int, str], None]
"""Told the experiment, the steps done, all steps at most, and what is going on."""

Keep = Callable[[Experiments], None]
"""Handed everything found so far, after each experiment that ended."""


@dataclass(frozen=True)
class ExperimentWatch:
    """Who is told what happens: ``tell`` after every step, ``keep`` when an experiment ends."""

    tell: Tell = lambda name, done, total, what: None
    keep: Keep = lambda found: None


NOTHING = Experiments()
UNWATCHED = ExperimentWatch()


@dataclass(frozen=True)
class Site:
    """One runtime with its models, loaded, and what they are fed."""

    runtime: str
    settings: BenchSettings
    plan: ExperimentPlan
    prepared: Mapping[str, Path]
    runners: Mapping[str, Runner]
    source: InputSource
    scratch: Path
    tell: Tell

    def inputs(self, batch: int, seq: int) -> Sequence[Batch]:
        """Batches that every model accepts."""
        return checked_inputs(self.runners, self.source, batch, seq)


def run_experiments(
    models: Sequence[BenchModel],
    settings: BenchSettings,
    plan: ExperimentPlan,
    *,
    inputs: InputSource | None = None,
    found: Experiments = NOTHING,
    watch: ExperimentWatch = UNWATCHED,
) -> Experiments:
    """Run every experiment of the plan in every runtime, but those that ``found`` already holds.

    Each end is reported, so that an interrupt loses little.

    Throughput and load take the sequence lengths of ``settings``; profiles take every batch and length; a cold start
    takes the first of each.

    Raises:
        InputError: if a runtime is not available or cannot be profiled, a model is bound to a runtime of its own, or
            cannot be run in one or is too short or small in vocabulary for the inputs.
    """
    _check_plan(models, settings, plan)
    for runtime in settings.runtimes:
        with ExitStack() as stack:
            scratch = Path(stack.enter_context(TemporaryDirectory(prefix="slimbert-bench-")))
            runner_class = runner_class_from_runtime(runtime)
            options = settings.runner_options
            prepared = prepare_models(runner_class, models, scratch, options)
            runners = {
                key: stack.enter_context(runner_class.load(path, settings.threads, options))
                for key, path in prepared.items()
            }
            source = inputs or random_source(runners, settings.seed)
            site = Site(runtime, settings, plan, prepared, runners, source, scratch, watch.tell)
            for part in _parts(site):
                found = part(found)
                watch.keep(found)
    return found


def measure_throughput(site: Site, seq: int) -> ThroughputResult:
    """The batch sweep at one sequence length, models interleaved at every size."""
    largest = site.plan.largest_batch

    def measure(batch: int) -> Mapping[str, Blocks]:
        batches = site.inputs(batch, seq)
        _warm_up(site, batches)
        samples = _time_closed_loop(site, site.runners, batches)
        site.tell(Experiment.THROUGHPUT, batch.bit_length(), largest.bit_length(), f"sequence {seq}, batch {batch}")
        return samples

    return ThroughputResult(site.runtime, seq, sweep(measure, seq=seq, largest=largest))


def measure_load(site: Site, seq: int) -> LoadResult:
    """The open loop at one sequence length; every model meets the same arrivals."""
    rules, rates, settings = site.plan.rules, site.plan.rates, site.settings
    saturation = measure_saturation(site, seq)
    rows = site.inputs(1, seq)
    points: list[LoadPoint] = []
    for index, rate in enumerate(rates):
        arrivals = poisson_arrivals(
            rate.per_second(saturation), site.plan.load_seconds, seed=settings.seed * len(rates) + index
        )
        for key, runner in site.runners.items():
            serve = partial(serve_rows, runner, rows)
            points.append(serve_open_loop(key, rate, arrivals, serve, rules, TimeSource()))
            total = len(rates) * len(site.runners)
            site.tell(Experiment.LOAD, len(points), total, f"sequence {seq}, {key} at {rate}")
    return LoadResult(site.runtime, seq, rules, saturation, tuple(points))


def measure_saturation(site: Site, seq: int) -> float:
    """Requests per second that the baseline answers in a closed loop, at the largest batch that the queue forms."""
    size = site.plan.rules.max_batch
    batches = site.inputs(size, seq)
    _warm_up(site, batches)
    blocks = _time_closed_loop(site, {BASELINE: site.runners[BASELINE]}, batches)[BASELINE]
    return ThroughputPoint(size, seq, blocks).requests_per_second


def serve_rows(runner: Runner, rows: Sequence[Batch], requests: Sequence[int]) -> None:
    """Answer some requests as one batch; each asks with one of the rows, in turn."""
    chosen = [rows[request % len(rows)] for request in requests]
    runner.run({name: torch.cat([row[name] for row in chosen]) for name in chosen[0]})


def measure_cold_start(site: Site) -> ColdStartResult:
    """Fresh processes on the first batch and sequence length."""
    batch, seq, plan = site.settings.batches[0], site.settings.seqs[0], site.plan
    starts = iter(range(1, 2 * plan.repeats * len(site.prepared) + 1))
    rows = repeat_starts(
        site.prepared,
        {key: file_bytes(path) for key, path in site.prepared.items()},
        partial(start_process, site.runtime, site.settings.threads, site.inputs(batch, seq)[0]),
        plan.repeats,
        lambda what: site.tell(Experiment.COLD_START, next(starts), 2 * plan.repeats * len(site.prepared), what),
    )
    return ColdStartResult(site.runtime, batch, seq, rows)


def measure_profile(site: Site, batch: int, seq: int) -> ProfileResult:
    """Every model's time by operator, after warming up; profiling slows the small operators down a little."""
    profiler = profiler_from_runtime(site.runtime)
    inputs = site.inputs(batch, seq)
    calls = [inputs[index % len(inputs)] for index in range(site.plan.profile_calls)]
    profiles = []
    for key, path in site.prepared.items():
        with TemporaryDirectory(dir=site.scratch) as folder:
            profiled = profiler(path, [*calls[:PROFILE_WARMUP], *calls], site.settings.threads, Path(folder))
        profiles.append(ModelProfile(key, operator_times(profiled[PROFILE_WARMUP:])))
        site.tell(Experiment.PROFILE, len(profiles), len(site.prepared), f"batch {batch}, sequence {seq}, {key}")
    return ProfileResult(site.runtime, batch, seq, tuple(profiles))


def _parts(site: Site) -> list[Callable[[Experiments], Experiments]]:
    """The experiments of one runtime, each adding its result to those before it."""
    names, settings = site.plan.names, site.settings
    parts: list[Callable[[Experiments], Experiments]] = []
    if Experiment.PROFILE in names:
        parts += [partial(_add_profile, site, batch, seq) for batch in settings.batches for seq in settings.seqs]
    if Experiment.THROUGHPUT in names:
        parts += [partial(_add_throughput, site, seq) for seq in settings.seqs]
    if Experiment.LOAD in names:
        parts += [partial(_add_load, site, seq) for seq in settings.seqs]
    if Experiment.COLD_START in names:
        parts.append(partial(_add_cold_start, site))
    return parts


def _add_profile(site: Site, batch: int, seq: int, found: Experiments) -> Experiments:
    if any((x.runtime, x.batch, x.seq) == (site.runtime, batch, seq) for x in found.profile):
        return found
    return replace(found, profile=(*found.profile, measure_profile(site, batch, seq)))


def _add_throughput(site: Site, seq: int, found: Experiments) -> Experiments:
    if any((x.runtime, x.seq) == (site.runtime, seq) for x in found.throughput):
        return found
    return replace(found, throughput=(*found.throughput, measure_throughput(site, seq)))


def _add_load(site: Site, seq: int, found: Experiments) -> Experiments:
    if any((x.runtime, x.seq) == (site.runtime, seq) for x in found.load):
        return found
    return replace(found, load=(*found.load, measure_load(site, seq)))


def _add_cold_start(site: Site, found: Experiments) -> Experiments:
    if any(x.runtime == site.runtime for x in found.cold_start):
        return found
    return replace(found, cold_start=(*found.cold_start, measure_cold_start(site)))


def _check_plan(models: Sequence[BenchModel], settings: BenchSettings, plan: ExperimentPlan) -> None:
    bound = [model.label for model in models if model.runtime is not None]
    if bound:
        raise InputError(
            f"experiments beside latency run all models in one runtime; {bound[0]} is bound to its own. Use --runtime."
        )
    if Experiment.PROFILE in plan.names:
        for runtime in settings.runtimes:
            check_profile(runtime, settings.dtype)


def _time_closed_loop(site: Site, runners: Mapping[str, Runner], batches: Sequence[Batch]) -> Mapping[str, Blocks]:
    """Wall-clock milliseconds of every call, from host memory to host memory, models interleaved."""
    blocks = measure_blocks(
        {key: runner.run for key, runner in runners.items()},
        batches,
        site.plan.block_plan(site.settings.seed),
        partial(time_calls, clocks=(WALL,)),
    )
    return samples_from_blocks(tuple(blocks))[WALL.name]


def _warm_up(site: Site, batches: Sequence[Batch]) -> None:
    for runner in site.runners.values():
        runner.warm_up(batches[0], site.settings.warmup)
