"""What a benchmark was asked and what it saw: settings, raw samples, and figures derived from them.

``bench.json`` is a `BenchResult` as plain data. Schema 2::

    {"schema": 2,
     "settings": {...},                        # BenchSettings
     "models": [{"key", "label", "path", "runtime", "dtype", "facts": {"sha256", "bytes", "arch", ...}}, ...],
     "cells": [{"runtime", "workload", "batch", "seq", "runtimes", "dtypes", "shapes": [{"batch", "seq", "tokens"}],
                "repetitions": [{"warmups", "samples_ms": {clock: {contestant: [[ms of a call, ...], ...]}},
                                 "other_load", "restarts", "invalid_blocks", "telemetry"}, ...]}, ...],
     "environment": {...},                     # Environment
     "inputs": "token ids of real text",
     "experiments": {name: plain data, ...}}   # what else was measured: throughput, load, cold start, ...
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bench.cell import FULL, Cell
from bench.device_timer import DEVICE_CLOCKS, ENQUEUE_CLOCK, GPU_CLOCK
from bench.environment import Environment, is_loaded
from bench.paired import BlockPlan
from bench.runners.base import Precision, RunnerOptions
from bench.statistics import Comparison
from bench.timer import THREAD, WALL, Clock, Latency, WarmupPolicy
from pruning.arch import ArchSpec
from pruning.errors import InputError

SCHEMA = 2
WARMUP_CAP_FACTOR = 2.0
TORCH_RUNTIMES = ("torch-cpu", "torch-cuda")


@dataclass(frozen=True)
class BenchSettings:
    """What to measure, and how long.

    Every combination of runtime, workload, batch and sequence length is one cell; the first one is the headline. The
    defaults take 10 to 20 seconds for a cell of two models at 10 to 40 ms per call. Each of ``processes`` fresh
    interpreters converts, loads and measures everything. ``dtype`` is the precision of all models, None what each one
    has; ``mixed_precision`` lets candidates differ from the baseline in it. ``cold_l2`` flushes a GPU's cache before
    each call on its clock; ``energy_seconds`` is the window in which each contestant's energy is measured, 0 for none.
    ``compiled`` lets torch-cpu compile each model for each shape and take what is faster, as torch-cuda always does.

    Raises:
        InputError: if a grid is empty, a number is out of range, or the headline clock cannot be trusted.
    """

    runtimes: tuple[str, ...] = ("ort-cpu",)
    batches: tuple[int, ...] = (1,)
    seqs: tuple[int, ...] = (128,)
    threads: int = 1
    blocks: int = 30
    calls: int = 4
    warmup_seconds: float = 1.0
    seed: int = 0
    headline_clock: str = WALL.name
    processes: int = 1
    workloads: tuple[str, ...] = (FULL,)
    dtype: str | None = None
    mixed_precision: bool = False
    cold_l2: bool = False
    energy_seconds: float = 0.0
    compiled: bool = False

    def __post_init__(self) -> None:
        for name in ("runtimes", "batches", "seqs", "workloads"):
            if not getattr(self, name):
                raise InputError(f"{name} is empty; name at least one.")
        if min(*self.batches, *self.seqs, self.threads, self.processes) < 1:
            raise InputError(
                f"batches, sequence lengths, threads and processes must be at least 1; "
                f"got {self.batches}, {self.seqs}, {self.threads} and {self.processes}."
            )
        if self.blocks < 2:
            raise InputError(f"an interval needs at least two blocks; got {self.blocks}.")
        if self.headline_clock not in {*(clock.name for clock in self.clocks), *DEVICE_CLOCKS}:
            raise InputError(
                f"clock {self.headline_clock!r} cannot be used with {self.threads} threads; "
                f"available: {', '.join(clock.name for clock in self.clocks)} (thread needs threads=1)."
            )
        if self.dtype is not None and self.dtype not in tuple(Precision):
            raise InputError(f"dtype must be one of {', '.join(Precision)}; got {self.dtype!r}.")
        if self.cold_l2 and self.headline_clock not in (GPU_CLOCK, ENQUEUE_CLOCK):
            raise InputError(
                f"a cold L2 cache is measured on the {GPU_CLOCK} clock, not on {self.headline_clock!r}; "
                f"add --clock {GPU_CLOCK} and name a GPU runtime, or leave --cold-l2 out."
            )
        if self.energy_seconds < 0:
            raise InputError(f"energy_seconds must not be negative; got {self.energy_seconds}.")
        _ = self.plan, self.warmup  # both check their own numbers

    @property
    def clock_text(self) -> str:
        """The headline clock and the state of the cache, in words."""
        return f"{self.headline_clock} clock" + (", cold L2 cache" if self.cold_l2 else "")

    @property
    def clocks(self) -> tuple[Clock, ...]:
        """The clocks that see all the work: thread time misses what other threads do."""
        return (WALL, THREAD) if self.threads == 1 else (WALL,)

    @property
    def runner_options(self) -> RunnerOptions:
        """How every model is run."""
        dtype = None if self.dtype is None else Precision(self.dtype)
        return RunnerOptions(dtype=dtype, compiled=self.compiled)

    @property
    def plan(self) -> BlockPlan:
        """Blocks of one cell."""
        return BlockPlan(self.blocks, self.calls, self.seed)

    @property
    def warmup(self) -> WarmupPolicy:
        """Warm-up of one contestant in one cell."""
        return WarmupPolicy(self.warmup_seconds, self.warmup_seconds * WARMUP_CAP_FACTOR)


@dataclass(frozen=True)
class ArtifactFacts:
    """What identifies a model: checksum and size of its file, and its architecture where that is known.

    ``first_token``: exported, its last layer is computed for the first token alone.
    """

    sha256: str
    bytes: int
    arch: Mapping[str, Any] | None = None
    first_token: bool = False


@dataclass(frozen=True)
class BenchModel:
    """One of the models compared: its key in the samples, the name people see, and where it came from.

    ``runtime`` is the one it runs in whatever the cell's is; None: the cell's. ``dtype`` is its precision whatever the
    settings say; None: theirs.

    Raises:
        InputError: if there is no such precision.
    """

    key: str
    label: str
    path: str
    runtime: str | None = None
    facts: ArtifactFacts | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in tuple(Precision):
            raise InputError(f"{self.label}: precision must be one of {', '.join(Precision)}; got {self.dtype!r}.")

    @property
    def arch(self) -> ArchSpec | None:
        """Its architecture, where that is known."""
        return None if self.facts is None or self.facts.arch is None else ArchSpec.from_dict(self.facts.arch)


@dataclass(frozen=True)
class BenchResult:
    """A whole benchmark; every figure in a report can be recomputed from it.

    Args:
        settings: what was asked.
        models: the baseline, then the candidates.
        cells: what was measured so far.
        environment: the machine.
        inputs: what the token ids were.
        experiments: other measurements by name, as plain data.
    """

    settings: BenchSettings
    models: tuple[BenchModel, ...]
    cells: tuple[Cell, ...]
    environment: Environment
    inputs: str
    experiments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def baseline(self) -> BenchModel:
        """The model that the others are compared with."""
        return self.models[0]

    @property
    def candidates(self) -> tuple[BenchModel, ...]:
        """The models compared with it."""
        return self.models[1:]

    @property
    def other_load(self) -> float:
        """Mean number of cores that other programs kept busy during the measurement."""
        loads = [repetition.other_load for cell in self.cells for repetition in cell.repetitions]
        return sum(loads) / len(loads) if loads else 0.0

    @property
    def loaded(self) -> bool:
        """Whether others kept the machine busy."""
        return is_loaded(self.other_load, self.environment.cores)

    def latency(self, cell: Cell, key: str) -> Latency:
        """One contestant's samples on the headline clock."""
        return cell.latency(key, self.settings.headline_clock)

    def comparison(self, cell: Cell, key: str) -> Comparison:
        """One candidate against the baseline on the headline clock."""
        return cell.comparison(key, self.settings.headline_clock, seed=self.settings.seed)

    def ideal(self, cell: Cell, key: str) -> float | None:
        """How many times fewer encoder FLOPs a contestant needs for this cell's inputs; None where not known."""
        before, after = self._flops(cell, self.baseline.key), self._flops(cell, key)
        return before / after if before and after else None

    def _flops(self, cell: Cell, key: str) -> int | None:
        """Of one rotation through the inputs; PyTorch computes every layer for every token, exports may not."""
        model = next((model for model in self.models if model.key == key), self.baseline)
        arch = model.arch
        if arch is None or model.facts is None:
            return None
        first_token = model.facts.first_token and cell.runtimes[key] not in TORCH_RUNTIMES
        return sum(x.batch * arch.encoder_flops(x.seq, first_token=first_token) for x in cell.shapes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data with all raw samples, for ``json.dumps``."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BenchResult:
        """Read what `to_dict` wrote, also after a trip through JSON.

        Raises:
            InputError: if it is not a benchmark result of this schema, or something in it is missing or wrong.
        """
        if data.get("schema") != SCHEMA:
            raise InputError(
                f"not a benchmark result of schema {SCHEMA}: its schema is {data.get('schema')!r}. "
                "Measure again with this version."
            )
        try:
            return TypeAdapter(cls).validate_python({name: value for name, value in data.items() if name != "schema"})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise InputError(f"a benchmark result is damaged: {where}: {first['msg']}. Measure again.") from error
