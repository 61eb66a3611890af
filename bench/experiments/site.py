"""One runtime with its models loaded: what the experiments are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.contestants import InputSource, checked_inputs
from bench.experiments.plan import ExperimentPlan
from bench.paired import Blocks, measure_blocks, samples_from_blocks
from bench.result import BenchSettings
from bench.runners.base import Runner
from bench.timer import THREAD, WALL, Clock, time_calls
from pruning.batching import Batch

Tell = Callable[[str, int, int, str], None]
"""Told the experiment, the steps done, all steps at most, and what is going on."""


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

    @property
    def clock(self) -> Clock:
        """Of closed loops: the thread's where that is the headline, else real time, from host memory to host memory."""
        return THREAD if self.settings.headline_clock == THREAD.name else WALL

    def inputs(self, batch: int, seq: int) -> Sequence[Batch]:
        """Batches that every model accepts."""
        return checked_inputs(self.runners, self.source, batch, seq)

    def warm_up(self, batches: Sequence[Batch]) -> None:
        """Every model, on the first batch."""
        for runner in self.runners.values():
            runner.warm_up(batches[0], self.settings.warmup)

    def time_closed_loop(
        self, runners: Mapping[str, Runner], batches: Sequence[Batch], clock: Clock
    ) -> Mapping[str, Blocks]:
        """Milliseconds of every call, models interleaved."""
        blocks = measure_blocks(
            {key: runner.run for key, runner in runners.items()},
            batches,
            self.plan.block_plan(self.settings.seed),
            partial(time_calls, clocks=(clock,)),
        )
        return samples_from_blocks(tuple(blocks))[clock.name]
