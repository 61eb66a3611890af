"""What one process measures: models loaded once per runtime, then cell after cell, interleaved with the baseline.

The baseline is loaded twice: its second copy is the A/A control, whose distance from 1 is the noise floor of
everything else. The order within a cell and random inputs come from one seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.cell import BASELINE, CONTROL, FULL, Cell, InputShape, Repetition, cell_text
from bench.contestants import InputSource, checked_inputs, prepare_models, random_source
from bench.energy import EnergyWindow, measure_energy
from bench.environment import OtherLoad
from bench.measuring import Contest, check_headline, contest_from_runners
from bench.paired import Block, BlockPlan, Samples, measure_blocks, samples_from_blocks
from bench.result import BenchModel, BenchSettings
from bench.runners.base import Precision, Runner, RunnerOptions
from bench.runners.checks import check_comparable
from bench.runners.registry import runner_class_from_runtime
from bench.telemetry.nvml import gpu_reader
from bench.telemetry.recorded import ENERGY, VARIANTS
from bench.telemetry.watch import HardwareRecord, HardwareWatch, gpu_uuid
from bench.timer import Warmup
from pruning.batching import Batch
from pruning.errors import InputError

CellKey = tuple[str, str, int, int]
"""Runtime, workload, batch and sequence length: see `Cell.identity`."""


@dataclass(frozen=True)
class Missing:
    """What one process has not measured of a cell: blocks from ``first_block`` on, and the energy of contestants."""

    first_block: int
    energy: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProcessJob:
    """What one process is to measure.

    Args:
        models: the baseline, then the candidates.
        settings: the grid and the effort.
        process: index of this process; it shifts the seed of the order.
        missing: the cells to measure, each with what it lacks.
        sources: inputs by workload; without one for the fixed grid, token ids are random.
    """

    models: tuple[BenchModel, ...]
    settings: BenchSettings
    process: int
    missing: Mapping[CellKey, Missing]
    sources: Mapping[str, InputSource]

    @property
    def steps(self) -> int:
        """Warm-ups, blocks and windows of energy, as a progress bar counts them."""
        fixed = len(self.models) + 1 + self.settings.blocks
        return sum(fixed - lacks.first_block + len(lacks.energy) for lacks in self.missing.values())

    @property
    def plan(self) -> BlockPlan:
        """Blocks of one cell."""
        settings = self.settings
        return BlockPlan(settings.blocks, settings.calls, settings.seed + self.process)


@dataclass(frozen=True)
class Watch:
    """Who is told what happens: ``step`` after each warm-up and block, ``cell`` when a cell ends or is stopped."""

    step: Callable[[str], None]
    cell: Callable[[Cell], None]


def measure_process(job: ProcessJob, watch: Watch) -> None:
    """Measure every cell of the job; what was measured of a cell is handed over even if it is interrupted.

    Raises:
        InputError: if a runtime is not available, or a model cannot be run in one or is too short or small in
            vocabulary for the inputs.
    """
    for runtime in dict.fromkeys(key[0] for key in job.missing):
        with ExitStack() as stack:
            scratch = Path(stack.enter_context(TemporaryDirectory(prefix="slimbert-bench-")))
            runners = _load_contestants(runtime, job, scratch, stack)
            for key in [key for key in job.missing if key[0] == runtime]:
                _measure_cell(runners, key, job, watch)


def _load_contestants(runtime: str, job: ProcessJob, scratch: Path, stack: ExitStack) -> dict[str, Runner]:
    """Runners by key: each model prepared once, the baseline loaded twice."""
    classes = {model.key: runner_class_from_runtime(model.runtime or runtime) for model in job.models}
    options = {model.key: _options(model, job.settings) for model in job.models}
    prepared: dict[str, Path] = {}
    for model in job.models:
        prepared |= prepare_models(classes[model.key], [model], scratch, options[model.key])
    contestants = {BASELINE: prepared[BASELINE], CONTROL: prepared[BASELINE], **prepared}
    threads = job.settings.threads
    classes[CONTROL], options[CONTROL] = classes[BASELINE], options[BASELINE]
    runners = {
        key: stack.enter_context(classes[key].load(path, threads, options[key])) for key, path in contestants.items()
    }
    asked = job.settings.mixed_precision or any(model.dtype for model in job.models)
    check_comparable(runners, BASELINE, mixed_precision=asked)
    if job.settings.energy_seconds:
        with gpu_reader(_required_gpu(runners)):  # what cannot be read is refused before anything is measured
            pass
    return runners


def _options(model: BenchModel, settings: BenchSettings) -> RunnerOptions:
    options = settings.runner_options
    return options if model.dtype is None else replace(options, dtype=Precision(model.dtype))


def _measure_cell(runners: Mapping[str, Runner], key: CellKey, job: ProcessJob, watch: Watch) -> None:
    runtime, workload, B, S = key
    batches = checked_inputs(runners, _source(runners, workload, job), B, S)
    shapes = tuple(_input_shape(batch) for batch in batches)
    where = cell_text(*key)
    warmups, variants = {}, {}
    for name, runner in runners.items():
        variants[name] = {shape: runner.tune(batch) for shape, batch in _shapes(batches).items()}
        warmups[name] = _warm_up(runner, batches, job.settings)
        watch.step(f"{where}: {name} warmed up")
    contest = contest_from_runners(runners, batches, job.settings.clocks, cold_l2=job.settings.cold_l2)
    check_headline(contest, job.settings.headline_clock, where)
    taken, hardware = _Taken(job.missing[key].first_block), HardwareWatch(_gpu(runners))
    try:
        with hardware:
            for block in measure_blocks(contest.contestants, contest.inputs, job.plan, contest.time_block, taken.first):
                taken.blocks.append(block)
                hardware.mark()
                watch.step(f"{where}: block {taken.first + len(taken.blocks)} of {job.settings.blocks}")
        for name, window in _energy_windows(runners, contest, shapes, key, job):
            taken.energy[name] = window
            watch.step(f"{where}: energy of {name}")
    finally:
        if taken.blocks or taken.energy:
            repetition = taken.repetition(contest, warmups, hardware.record(), _variant_facts(variants))
            runtimes = {name: runner.runtime for name, runner in runners.items()}
            dtypes = {name: runner.dtype for name, runner in runners.items()}
            watch.cell(Cell(runtime, B, S, runtimes, dtypes, shapes, (repetition,), workload))


@dataclass
class _Taken:
    """What was measured of a cell so far, from its block ``first`` on."""

    first: int
    blocks: list[Block] = field(default_factory=list)
    energy: dict[str, EnergyWindow] = field(default_factory=dict)
    meter: OtherLoad = field(default_factory=OtherLoad)

    def repetition(
        self, contest: Contest, warmups: Mapping[str, Warmup], record: HardwareRecord, variants: Mapping[str, Any]
    ) -> Repetition:
        """As it is handed over; after a restart, readings from another first block join these."""
        nothing: Samples = {clock: dict.fromkeys(contest.contestants, ()) for clock in contest.clocks}
        hardware = {str(self.first): record.to_dict()} if self.blocks else {}
        energy = {ENERGY: {name: asdict(window) for name, window in self.energy.items()}} if self.energy else {}
        return Repetition(
            warmups,
            samples_from_blocks(self.blocks) if self.blocks else nothing,
            self.meter.cores(),
            invalid_blocks=record.invalid_blocks,
            telemetry={**hardware, **variants, **energy},
        )


def _energy_windows(
    runners: Mapping[str, Runner], contest: Contest, shapes: Sequence[InputShape], key: CellKey, job: ProcessJob
) -> Iterator[tuple[str, EnergyWindow]]:
    """One contestant after the other, each in a window of its own; those that are still missing."""
    names = job.missing[key].energy
    if not names:
        return
    device, rows = runners[BASELINE].device, [shape.batch for shape in shapes]
    assert device is not None, "energy is asked of GPU runtimes only"
    with gpu_reader(_required_gpu(runners)) as gpu:
        for name in names:
            yield name, measure_energy(contest.contestants[name], rows, device, gpu, job.settings.energy_seconds)


def _required_gpu(runners: Mapping[str, Runner]) -> str:
    gpu = _gpu(runners)
    assert gpu is not None, "energy is asked of GPU runtimes only"
    return gpu


def _gpu(runners: Mapping[str, Runner]) -> str | None:
    """The GPU that the models run on, if any does."""
    devices = [runner.device for runner in runners.values() if runner.device is not None]
    return gpu_uuid(devices[0].torch_device) if devices else None


def _warm_up(runner: Runner, batches: Sequence[Batch], settings: BenchSettings) -> Warmup:
    """Run every shape once, so that none is met for the first time on the clock, then warm up on the first."""
    for batch in _shapes(batches).values():
        runner.run(batch)
    return runner.warm_up(batches[0], settings.warmup)


def _shapes(batches: Sequence[Batch]) -> dict[str, Batch]:
    """One batch of every shape, by its shape as text."""
    return {"x".join(map(str, batch["input_ids"].shape)): batch for batch in batches}


def _variant_facts(variants: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, object]:
    """Device milliseconds by contestant, shape and variant, where a runtime has several."""
    return {VARIANTS: variants} if any(times for by in variants.values() for times in by.values()) else {}


def _source(runners: Mapping[str, Runner], workload: str, job: ProcessJob) -> InputSource:
    if workload in job.sources:
        return job.sources[workload]
    if workload != FULL:
        raise InputError(f"{workload} batches need texts of different lengths; pass --lengths DATA.")
    return random_source(runners, job.settings.seed)


def _input_shape(batch: Batch) -> InputShape:
    B, S = batch["input_ids"].shape
    return InputShape(B, S, int(batch["attention_mask"].sum()))
