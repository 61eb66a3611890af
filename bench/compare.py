"""Measure candidates against a baseline over a grid of runtimes, batches and sequence lengths.

The baseline is loaded twice: its second copy is the A/A control, whose distance from 1 is the noise floor of
everything else. The order within a cell and the inputs come from one seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.cell import BASELINE, CONTROL, Cell, InputShape, Repetition
from bench.contestants import InputSource, checked_inputs, name_models, prepare_models, random_source
from bench.environment import OtherLoad, environment_from_machine
from bench.paired import measure_paired
from bench.result import BenchModel, BenchResult, BenchSettings
from bench.runners.base import Runner
from bench.runners.registry import runner_class_from_runtime
from bench.timer import Warmup, time_calls, warm_up
from pruning.batching import Batch

Progress = Callable[[int, int, str], None]
"""Told the steps done, all steps, and what is going on."""


def compare(
    baseline: Path,
    candidates: Sequence[Path],
    settings: BenchSettings,
    *,
    inputs: InputSource | None = None,
    labels: Sequence[str] | None = None,
    progress: Progress = lambda done, total, what: None,
) -> BenchResult:
    """Time every model in every cell, interleaved with the baseline and its second copy.

    Args:
        baseline: the model to compare with: a checkpoint, a deploy folder or an ONNX file.
        candidates: the models to compare, alike.
        settings: the grid and the effort.
        inputs: real token ids; without it they are random ids of the smallest vocabulary.
        labels: what reports call the baseline and the candidates; default: the names of their files or folders.
        progress: called after each warm-up and each block.

    Raises:
        InputError: if there is no candidate, a runtime is not available, or a model cannot be run in one or
            is too short or small in vocabulary for the inputs.
    """
    models = name_models([baseline, *candidates], labels)
    runner_classes = [runner_class_from_runtime(runtime) for runtime in settings.runtimes]
    cells_per_runtime = len(settings.batches) * len(settings.seqs)
    contestants = len(models) + 1
    total = len(runner_classes) * cells_per_runtime * (contestants + settings.blocks)
    steps = _Steps(progress, total)
    cells = [
        cell
        for runner_class in runner_classes
        for cell in _measure_runtime(runner_class, models, settings, inputs, steps)
    ]
    return BenchResult(
        settings=settings,
        models=models,
        cells=tuple(cells),
        environment=environment_from_machine(),
        inputs="random token ids" if inputs is None else "token ids of real text",
    )


@dataclass
class _Steps:
    """Counts steps for the progress callback."""

    report: Progress
    total: int
    done: int = 0

    def advance(self, what: str) -> None:
        self.done += 1
        self.report(self.done, self.total, what)


def _measure_runtime(
    runner_class: type[Runner],
    models: Sequence[BenchModel],
    settings: BenchSettings,
    inputs: InputSource | None,
    steps: _Steps,
) -> list[Cell]:
    """All cells of one runtime, models loaded once."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="slimbert-bench-")))
        runners = _load_contestants(runner_class, models, settings.threads, scratch, stack)
        source = inputs or random_source(runners, settings.seed)
        return [
            _measure_cell(runners, checked_inputs(runners, source, batch, seq), settings, steps)
            for batch in settings.batches
            for seq in settings.seqs
        ]


def _load_contestants(
    runner_class: type[Runner], models: Sequence[BenchModel], threads: int, scratch: Path, stack: ExitStack
) -> dict[str, Runner]:
    """Runners by key: each model prepared once, the baseline loaded twice."""
    prepared = prepare_models(runner_class, models, scratch)
    contestants = {BASELINE: prepared[BASELINE], CONTROL: prepared[BASELINE], **prepared}
    return {key: stack.enter_context(runner_class.load(path, threads)) for key, path in contestants.items()}


def _measure_cell(
    runners: Mapping[str, Runner], batches: Sequence[Batch], settings: BenchSettings, steps: _Steps
) -> Cell:
    B, S = batches[0]["input_ids"].shape
    runtime = next(iter(runners.values())).runtime
    where = f"{runtime}, batch {B}, sequence {S}"
    meter = OtherLoad()
    warmups: dict[str, Warmup] = {}
    for key, runner in runners.items():
        warmups[key] = warm_up(partial(runner.run, batches[0]), settings.warmup)
        steps.advance(f"{where}: {key} warmed up")
    samples = measure_paired(
        {key: runner.run for key, runner in runners.items()},
        batches,
        settings.plan,
        partial(time_calls, clocks=settings.clocks),
        on_block=lambda done: steps.advance(f"{where}: block {done} of {settings.blocks}"),
    )
    dtypes = {key: runner.dtype for key, runner in runners.items()}
    return Cell(
        runtime=runtime,
        batch=B,
        seq=S,
        runtimes=dict.fromkeys(runners, runtime),
        dtypes=dtypes,
        shapes=tuple(InputShape(B, S, int(batch["attention_mask"].sum())) for batch in batches),
        repetitions=(Repetition(warmups, samples, meter.cores()),),
    )
