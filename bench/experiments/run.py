"""Run experiments on real models: runners loaded once per runtime, or started anew where that is the point."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.contestants import InputSource, prepare_models, random_source
from bench.experiments.plan import Experiment, ExperimentPlan
from bench.experiments.results import Experiments
from bench.experiments.site import Site, Tell
from bench.experiments.stages import measure_cold_start, measure_load, measure_profile, measure_throughput
from bench.profiling.registry import profiler_from_runtime
from bench.result import BenchModel, BenchSettings
from bench.runners.registry import runner_class_from_runtime
from pruning.errors import InputError

Keep = Callable[[Experiments], None]
"""Handed everything found so far, after each step of an experiment."""


@dataclass(frozen=True)
class ExperimentWatch:
    """Who is told what happens, after every step."""

    tell: Tell = lambda name, done, total, what: None
    keep: Keep = lambda found: None


NOTHING = Experiments()
UNWATCHED = ExperimentWatch()


@dataclass(frozen=True)
class Part:
    """One experiment at one size.

    Args:
        name: of its field in `Experiments`.
        identity: the first fields of its result, which tell it from others under that name.
        measure: yields its result after every step, given what was found of it before.
    """

    name: str
    identity: tuple[object, ...]
    measure: Callable[[Any], Iterator[Any]]

    def grow(self, found: Experiments) -> Iterator[Experiments]:
        """``found`` with more and more of this experiment."""
        results = getattr(found, self.name)
        before = next((result for result in results if self._is_of(result)), None)
        for result in self.measure(before):
            others = tuple(result if other is before else other for other in results)
            yield replace(found, **{self.name: others if before else (*results, result)})

    def _is_of(self, result: object) -> bool:
        return tuple(vars(result).values())[: len(self.identity)] == self.identity


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

    Every step is reported, so that an interrupt loses little; what a stopped one lacks is measured.

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
                for grown in part.grow(found):
                    found = grown
                    watch.keep(found)
    return found


def _parts(site: Site) -> Iterator[Part]:
    """The experiments of one runtime."""
    names, settings = site.plan.names, site.settings
    if Experiment.PROFILE in names:
        for batch, seq in product(settings.batches, settings.seqs):
            yield Part("profile", (site.runtime, batch, seq), partial(measure_profile, site, batch, seq))
    if Experiment.THROUGHPUT in names:
        for seq in settings.seqs:
            yield Part("throughput", (site.runtime, seq), partial(measure_throughput, site, seq))
    if Experiment.LOAD in names:
        for seq in settings.seqs:
            yield Part("load", (site.runtime, seq), partial(measure_load, site, seq))
    if Experiment.COLD_START in names:
        first = (site.runtime, settings.batches[0], settings.seqs[0])
        yield Part("cold_start", first, partial(measure_cold_start, site))


def _check_plan(models: Sequence[BenchModel], settings: BenchSettings, plan: ExperimentPlan) -> None:
    bound = [model.label for model in models if model.runtime is not None]
    if bound:
        raise InputError(
            f"experiments beside latency run all models in one runtime; {bound[0]} is bound to its own. Use --runtime."
        )
    if Experiment.PROFILE in plan.names:
        for runtime in settings.runtimes:
            profiler_from_runtime(runtime)
