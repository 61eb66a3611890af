"""``slimbert bench``: what is asked for, made ready, measured with progress, and held against the gates."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.cell import FULL
from bench.compare import begin, measure
from bench.contestants import InputSource, name_models
from bench.environment import OtherLoad, core_count, is_loaded
from bench.experiments.plan import Experiment, ExperimentPlan, experiment_named, rate_from_text
from bench.experiments.results import Experiments
from bench.experiments.run import ExperimentWatch, run_experiments
from bench.frontier import read_metrics, read_published
from bench.ladder import require_ladder
from bench.report.bench_report import Extras
from bench.result import BenchModel, BenchResult, BenchSettings
from bench.runners.registry import RUNNERS
from bench.samples_file import read_samples, require_samples_or_nothing, write_samples
from bench.statistics import Verdict
from bench.workloads import length_sources, text_sources
from pruning.checkpoint import load_tokenizer, read_config
from pruning.errors import InputError
from pruning.tasks.source import load_evaluation
from tools.console import Steps
from tools.settings import DataSettings

LOAD_SECONDS = 0.5
"""How long the load of other programs is watched before a measurement."""


def models_from_words(words: Sequence[str]) -> tuple[BenchModel, ...]:
    """The models as a command line names them: ``PATH``, ``PATH@RUNTIME`` or ``PATH@RUNTIME:DTYPE``.

    Raises:
        InputError: if there is no candidate, a path holds nothing that can be run, or a precision is none.
    """
    bound = [_path_runtime_dtype(word) for word in words]
    return name_models(
        [path for path, _, _ in bound],
        runtimes=[runtime for _, runtime, _ in bound],
        dtypes=[dtype for _, _, dtype in bound],
    )


def sources_from_data(
    models: Sequence[BenchModel], texts: DataSettings | None, lengths: DataSettings | None, seed: int
) -> dict[str, InputSource]:
    """Inputs from the user's data, tokenised by the first model that has a tokenizer.

    The fixed grid is cut from ``texts``, or from ``lengths`` if there are no others.

    Raises:
        InputError: if the data cannot be read, or no model has a tokenizer.
    """
    given = texts or lengths
    if given is None:
        return {}
    folder = _folder_with_tokenizer(models)
    tokenizer = load_tokenizer(folder, read_config(folder)["vocab_size"])
    sources = text_sources(tokenizer, load_evaluation(given.source).texts, seed)
    if lengths is not None:
        sources |= length_sources(tokenizer, load_evaluation(lengths.source).texts, seed)
    return sources


def bench(
    models: tuple[BenchModel, ...],
    settings: BenchSettings,
    sources: Mapping[str, InputSource],
    samples: Path,
    *,
    plan: ExperimentPlan,
    resume: bool,
) -> BenchResult:
    """Measure with a progress display; whatever was measured is in ``samples``, also after Ctrl-C.

    Raises:
        InputError: if ``samples`` holds something else, and as
            `bench.compare.measure` and `bench.experiments.run.run_experiments`.
    """
    check_latency_options(settings, plan)
    require_samples_or_nothing(samples)
    previous = read_samples(samples) if resume and samples.exists() else None
    with Steps() as steps:
        steps.note(f"writing to {samples} ...")
        if Experiment.LATENCY in plan.names:
            result = measure(
                models,
                settings,
                sources,
                previous=previous,
                progress=lambda done, total, what: steps.update("bench", done, total, what),
                keep=lambda result: write_samples(samples, result),
            )
        else:
            result = begin(models, settings, sources, previous)
        if set(plan.names) - {Experiment.LATENCY}:
            result = _with_experiments(result, sources, plan, steps, samples)
    write_samples(samples, result)
    return result


def check_latency_options(settings: BenchSettings, plan: ExperimentPlan) -> None:
    """Refuse options that only the latency experiment heeds, where it is not asked for.

    Raises:
        InputError: naming the first.
    """
    if Experiment.LATENCY not in plan.names:
        asked = {
            "--cold-l2": settings.cold_l2,
            "--energy": bool(settings.energy_seconds),
            "--compile": settings.compiled,
        }
        for option, given in asked.items():
            if given:
                raise InputError(f"{option} belongs to the latency experiment; add latency to --experiment.")


def _with_experiments(
    result: BenchResult, sources: Mapping[str, InputSource], plan: ExperimentPlan, steps: Steps, samples: Path
) -> BenchResult:
    found = run_experiments(
        result.models,
        result.settings,
        plan,
        inputs=sources.get(FULL),
        found=Experiments.from_dict(result.experiments),
        watch=ExperimentWatch(
            steps.update, lambda found: write_samples(samples, replace(result, experiments=found.to_dict()))
        ),
    )
    return replace(result, experiments=found.to_dict())


def plan_from_names(names: Sequence[str], rates: Sequence[str], *, profile: bool, **extent: Any) -> ExperimentPlan:
    """What to measure, from the words of a command line.

    Args:
        names: of experiments.
        rates: of arrivals.
        profile: whether to profile too.
        extent: further fields of `ExperimentPlan`.

    Raises:
        InputError: if a name or a rate is none, or a number is out of range.
    """
    if not names or not rates:
        raise InputError("name at least one experiment and one rate of arrivals.")
    chosen = tuple(dict.fromkeys(map(experiment_named, names)))
    if profile and Experiment.PROFILE not in chosen:
        chosen = (*chosen, Experiment.PROFILE)
    return ExperimentPlan(chosen, rates=tuple(map(rate_from_text, rates)), **extent)


def failed_gates(result: BenchResult, under: float | None, *, slower: bool) -> list[str]:
    """A line for every cell and candidate that does not pass what was asked for.

    Raises:
        InputError: if a gate was asked for and no latency was measured, so that nothing could fail it.
    """
    if (under is not None or slower) and not result.cells:
        raise InputError("--fail-under and --fail-if-slower need latencies; add latency to --experiment.")
    failed = [] if under is None else cells_under(result, under)
    return failed + (cells_slower(result) if slower else [])


def read(samples: Path, models: Sequence[str], *, copy: Path | None) -> BenchResult:
    """What a samples file holds, copied to another file where asked.

    Raises:
        InputError: if models are named too, or the file holds no samples.
    """
    if models:
        raise InputError(f"--from {samples} measures nothing; leave the models out, or --from.")
    result = read_samples(samples)
    if copy is not None:
        require_samples_or_nothing(copy)
        write_samples(copy, result)
    return result


def extras_from_files(result: BenchResult, metrics: Path | None, published: Path | None, *, ladder: bool) -> Extras:
    """What the reports are to show beside the measurement.

    Raises:
        InputError: if a file cannot be used, or there are too few models for a ladder.
    """
    if ladder:
        require_ladder(result)
    if metrics is None:
        if published is not None:
            raise InputError("--published needs --metrics: published points are shown beside the models measured here.")
        return Extras(ladder)
    quality = read_metrics(metrics, result.models)
    return Extras(ladder, quality, () if published is None else read_published(published, quality))


def check_idle(result: BenchResult) -> None:
    """Refuse a result that was measured beside other work.

    Raises:
        InputError: if others kept more than a quarter of the cores busy.
    """
    if result.loaded:
        raise InputError(_load_text(result.other_load, result.environment.cores) + "; --strict refuses the result.")


def cells_under(result: BenchResult, wanted: float) -> list[str]:
    """A line for every cell and candidate whose interval does not lie at or above ``wanted``."""
    return [
        f"{model.label}, {cell}: {ratio.value:.2f}x, at least {ratio.low:.2f}x; wanted {wanted:g}x"
        for cell in result.cells
        for model in result.candidates
        if (ratio := result.comparison(cell, model.key).ratio).low < wanted
    ]


def cells_slower(result: BenchResult) -> list[str]:
    """A line for every cell and candidate that is slower than the baseline."""
    return [
        f"{model.label}, {cell}: slower, {comparison.ratio}"
        for cell in result.cells
        for model in result.candidates
        if (comparison := result.comparison(cell, model.key)).verdict is Verdict.SLOWER
    ]


def workloads_from_sources(sources: Mapping[str, InputSource]) -> tuple[str, ...]:
    """The fixed grid first, then the length distributions that there are texts for."""
    return (FULL, *(name for name in sources if name != FULL))


def _path_runtime_dtype(word: str) -> tuple[Path, str | None, str | None]:
    """A path may hold an @ of its own: only a known runtime behind the last one counts."""
    path, at, bound = word.rpartition("@")
    runtime, colon, dtype = bound.partition(":")
    if not at or runtime not in RUNNERS:
        return Path(word), None, None
    return Path(path), runtime, dtype if colon else None


def _folder_with_tokenizer(models: Sequence[BenchModel]) -> Path:
    for model in models:
        path = Path(model.path)
        for folder in (path, path.parent, path.parent.parent):
            if (folder / "tokenizer_config.json").is_file() and (folder / "config.json").is_file():
                return folder
    raise InputError("no model has a tokenizer beside it, so --data and --lengths cannot be tokenised. Add one.")


def check_load(*, strict: bool) -> None:
    """Watch for a moment what other programs do, and warn if it is much.

    Raises:
        InputError: if it is, and ``strict``.
    """
    meter = OtherLoad()
    time.sleep(LOAD_SECONDS)
    busy, cores = meter.cores(), core_count()
    if not is_loaded(busy, cores):
        return
    if strict:
        raise InputError(_load_text(busy, cores) + "; --strict refuses to measure. Wait, or leave --strict out.")
    Steps().note(f"warning: {_load_text(busy, cores)}; timings will wander ...")


def _load_text(busy: float, cores: int) -> str:
    return f"other programs keep {busy:.1f} of {cores} cores busy"
