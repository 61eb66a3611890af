"""Measure candidates against a baseline over a grid, in one process or in several fresh ones, and go on when stopped.

``bench.process`` measures; this module says what is missing, hands it out, and puts what comes back together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path

from bench.cell import BASELINE, CONTROL, FULL, Cell, Repetition
from bench.contestants import InputSource, name_models
from bench.environment import environment_from_machine
from bench.process import CellKey, Missing, ProcessJob, Watch, measure_process
from bench.result import TORCH_RUNTIMES, BenchModel, BenchResult, BenchSettings
from bench.runners.base import Runner
from bench.runners.registry import runner_class_from_runtime
from bench.telemetry.recorded import ENERGY
from bench.worker import measure_in_fresh_process
from pruning.errors import InputError

Progress = Callable[[int, int, str], None]
"""Told the steps done, all steps, and what is going on."""

Keep = Callable[[BenchResult], None]
"""Handed everything measured so far, after each cell and when the measurement is stopped."""

EXTENDABLE = ("runtimes", "batches", "seqs", "workloads", "blocks", "processes")
"""Settings that may change when a measurement goes on: they ask for more of the same. So does energy, once."""


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
    return measure(models, settings, {} if inputs is None else {FULL: inputs}, progress=progress)


def measure(
    models: tuple[BenchModel, ...],
    settings: BenchSettings,
    sources: Mapping[str, InputSource],
    *,
    previous: BenchResult | None = None,
    progress: Progress = lambda done, total, what: None,
    keep: Keep = lambda result: None,
) -> BenchResult:
    """Measure what ``previous`` lacks.

    Args:
        models: the baseline, then the candidates.
        settings: the grid and the effort.
        sources: inputs by workload; without one for the fixed grid, token ids are random.
        previous: what an earlier measurement left.
        progress: called after each warm-up and each block.
        keep: called with everything so far.

    Raises:
        InputError: if ``previous`` measured something else, and as `bench.process.measure_process`.
    """
    state = _State(begin(models, settings, sources, previous), progress, keep)
    jobs = [
        ProcessJob(models, settings, process, missing_in_process(state.result, process), sources)
        for process in range(settings.processes)
    ]
    state.total = sum(job.steps for job in jobs)
    for job in jobs:
        if job.missing:
            run = measure_process if settings.processes == 1 else measure_in_fresh_process
            run(job, Watch(state.step, partial(state.add, job.process)))
    return state.result


def begin(
    models: tuple[BenchModel, ...],
    settings: BenchSettings,
    sources: Mapping[str, InputSource],
    previous: BenchResult | None = None,
) -> BenchResult:
    """A result in which nothing is measured yet but what ``previous`` holds.

    Raises:
        InputError: if a runtime is not available or lacks the GPU that the settings need, or ``previous`` measured
            something else.
    """
    bound = [model.runtime for model in models if model.runtime]
    for runtime in sorted({*settings.runtimes, *bound}):
        _check_gpu(runner_class_from_runtime(runtime), settings)
    if settings.compiled and not any(name in TORCH_RUNTIMES for name in (*settings.runtimes, *bound)):
        raise InputError("--compile is for PyTorch. Add torch-cpu to --runtime, or leave --compile out.")
    inputs = "token ids of real text" if FULL in sources else "random token ids"
    blank = BenchResult(settings, models, (), environment_from_machine(), inputs)
    if previous is None:
        return blank
    check_continues(previous, blank)
    return replace(blank, cells=previous.cells, experiments=previous.experiments)


def _check_gpu(runner_class: type[Runner], settings: BenchSettings) -> None:
    asked = {"--cold-l2": settings.cold_l2, "--energy": bool(settings.energy_seconds)}
    for option in (name for name, wanted in asked.items() if wanted and not runner_class.on_gpu):
        raise InputError(f"{option} needs a GPU, and {runner_class.runtime} uses none. Leave {option} out.")


def cell_keys(settings: BenchSettings) -> list[CellKey]:
    """Every cell of the grid, the headline first."""
    return list(product(settings.runtimes, settings.workloads, settings.batches, settings.seqs))


def missing_in_process(result: BenchResult, process: int) -> dict[CellKey, Missing]:
    """The cells that a process has not finished, each with the first block and the energies it lacks."""
    measured = {cell.identity: cell.repetitions for cell in result.cells}
    contestants = (BASELINE, CONTROL, *(model.key for model in result.candidates))
    wanted = contestants if result.settings.energy_seconds else ()
    missing = {}
    for key in cell_keys(result.settings):
        found = measured.get(key, ())[process : process + 1]
        blocks = found[0].blocks if found else 0
        energy = tuple(name for name in wanted if not found or name not in found[0].telemetry.get(ENERGY, {}))
        if blocks < result.settings.blocks or energy:
            missing[key] = Missing(blocks, energy)
    return missing


def check_continues(previous: BenchResult, wanted: BenchResult) -> None:
    """Refuse to mix measurements that differ in more than their extent.

    Raises:
        InputError: naming the first difference.
    """
    for name, before, now in (
        *((name, getattr(previous.settings, name), value) for name, value in vars(wanted.settings).items()
          if name not in EXTENDABLE and not (name == "energy_seconds" and not previous.settings.energy_seconds)),
        ("models", previous.models, wanted.models),
        ("inputs", previous.inputs, wanted.inputs),
        ("machine", previous.environment, wanted.environment),
    ):  # fmt: skip
        if before != now:
            raise InputError(
                f"the samples file cannot be continued: its {name} differ, {_short(before)} then, {_short(now)} now. "
                "Measure anew, into another file."
            )


def merge_cell(cells: Sequence[Cell], new: Cell, process: int) -> tuple[Cell, ...]:
    """``cells`` with what one process measured: a new cell, a new repetition, or more blocks of one.

    Raises:
        InputError: if the cell was measured before on other inputs, in other precisions or by other contestants.
    """
    old = next((cell for cell in cells if cell.identity == new.identity), None)
    if old is None:
        return (*cells, new)
    if (old.shapes, old.dtypes, old.runtimes) != (new.shapes, new.dtypes, new.runtimes):
        raise InputError(f"{new} was measured before with other inputs or precisions. Measure anew, into another file.")
    repetitions = list(old.repetitions)
    if process < len(repetitions):
        repetitions[process] = _continued(repetitions[process], new.repetitions[0])
    else:
        repetitions.append(new.repetitions[0])
    merged = replace(old, repetitions=tuple(repetitions))
    return tuple(merged if cell is old else cell for cell in cells)


def _continued(before: Repetition, after: Repetition) -> Repetition:
    samples = {
        clock: {key: blocks + after.samples_ms[clock][key] for key, blocks in by_key.items()}
        for clock, by_key in before.samples_ms.items()
    }
    shifted = tuple(index + before.blocks for index in after.invalid_blocks)
    load = (before.other_load * before.blocks + after.other_load * after.blocks) / (before.blocks + after.blocks)
    return Repetition(
        after.warmups,
        samples,
        load,
        before.restarts + 1,
        before.invalid_blocks + shifted,
        {**before.telemetry, **after.telemetry, **_energy(before, after)},
    )


def _energy(*parts: Repetition) -> dict[str, object]:
    """Windows of energy of contestants measured before and after a restart."""
    windows = {name: window for part in parts for name, window in part.telemetry.get(ENERGY, {}).items()}
    return {ENERGY: windows} if windows else {}


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


@dataclass
class _State:
    """What is known so far, and who wants to know."""

    result: BenchResult
    progress: Progress
    keep: Keep
    total: int = 0
    done: int = field(default=0, init=False)

    def step(self, what: str) -> None:
        self.done += 1
        self.progress(self.done, self.total, what)

    def add(self, process: int, cell: Cell) -> None:
        self.result = replace(self.result, cells=merge_cell(self.result.cells, cell, process))
        self.keep(self.result)
