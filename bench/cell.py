"""The raw samples of one cell of the grid, process by process, and the figures derived from them.

Letters: P processes, B blocks, N calls in a block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.paired import Blocks, Samples
from bench.statistics import Comparison, compare_processes
from bench.timer import Latency, Warmup
from pruning.errors import InputError

BASELINE = "baseline"
CONTROL = "control"
FULL = "full"
"""The workload of a fixed grid: every row holds S real tokens."""


@dataclass(frozen=True)
class InputShape:
    """One of the rotating input buffers: rows, length after padding, and real tokens in all rows."""

    batch: int
    seq: int
    tokens: int


@dataclass(frozen=True)
class Repetition:
    """What one process measured in one cell; models were converted and loaded anew for it.

    Args:
        warmups: by contestant.
        samples_ms: clock, then contestant, to B blocks of N calls.
        other_load: mean number of cores that other programs kept busy meanwhile.
        restarts: how often it was stopped and continued, each time in another process.
        invalid_blocks: indices of blocks that no figure may use.
        telemetry: what was seen of the hardware meanwhile, as plain data.

    Raises:
        InputError: if contestants or clocks differ in their blocks, or an index of a block is out of range.
    """

    warmups: Mapping[str, Warmup]
    samples_ms: Samples
    other_load: float = 0.0
    restarts: int = 0
    invalid_blocks: tuple[int, ...] = ()
    telemetry: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = {
            tuple(len(block) for block in blocks) for by_key in self.samples_ms.values() for blocks in by_key.values()
        }
        if len(shapes) != 1:
            raise InputError(f"samples must pair up, the same blocks for every contestant; got {sorted(shapes)}.")
        if self.invalid_blocks and not 0 <= min(self.invalid_blocks) <= max(self.invalid_blocks) < self.blocks:
            raise InputError(f"invalid blocks must be among the {self.blocks} measured; got {self.invalid_blocks}.")

    @property
    def blocks(self) -> int:
        """Blocks measured, the invalid ones included."""
        return len(next(iter(next(iter(self.samples_ms.values())).values())))

    def valid(self, clock: str, key: str) -> Blocks:
        """The blocks of one contestant on one clock that figures may use."""
        kept = self.samples_ms[clock][key]
        return tuple(block for index, block in enumerate(kept) if index not in self.invalid_blocks)


@dataclass(frozen=True)
class Cell:
    """One runtime, batch size, sequence length and workload.

    Args:
        runtime: of every contestant that names none of its own.
        batch: B.
        seq: S, of a workload with padding its longest text.
        runtimes: by contestant.
        dtypes: by contestant.
        shapes: the rotating input buffers, in the order of their use.
        repetitions: P of them, one per process.
        workload: `FULL`, or how texts of different lengths were put into batches.

    Raises:
        InputError: if nothing was measured, or processes differ in their contestants or clocks.
    """

    runtime: str
    batch: int
    seq: int
    runtimes: Mapping[str, str]
    dtypes: Mapping[str, str]
    shapes: tuple[InputShape, ...]
    repetitions: tuple[Repetition, ...]
    workload: str = FULL

    def __post_init__(self) -> None:
        layouts = {
            tuple((clock, *by_key) for clock, by_key in repetition.samples_ms.items())
            for repetition in self.repetitions
        }
        if len(layouts) != 1 or not self.shapes:
            raise InputError(
                f"{self} needs inputs and processes with the same contestants; got {len(self.shapes)} inputs and "
                f"{len(layouts)} sets of contestants."
            )

    @property
    def identity(self) -> tuple[str, str, int, int]:
        """What tells the cells of a benchmark apart."""
        return self.runtime, self.workload, self.batch, self.seq

    @property
    def clocks(self) -> tuple[str, ...]:
        """Names of the clocks that were read."""
        return tuple(self.repetitions[0].samples_ms)

    @property
    def contestants(self) -> tuple[str, ...]:
        """Keys of the baseline, its second copy and the candidates."""
        return tuple(self.repetitions[0].samples_ms[self.clocks[0]])

    @property
    def one_runtime(self) -> bool:
        """Whether all contestants ran in the same runtime."""
        return len(set(self.runtimes.values())) == 1

    @property
    def invalid_blocks(self) -> int:
        """Blocks measured and not used."""
        return sum(len(repetition.invalid_blocks) for repetition in self.repetitions)

    def processes_ms(self, key: str, clock: str) -> tuple[Blocks, ...]:
        """Valid blocks of one contestant by process; a process without any is left out.

        Raises:
            InputError: if no block is valid.
        """
        processes = tuple(blocks for x in self.repetitions if (blocks := x.valid(clock, key)))
        if not processes:
            raise InputError(f"every block of {self} is invalid, so nothing can be said. Measure again.")
        return processes

    def latency(self, key: str, clock: str) -> Latency:
        """Every valid sample of one contestant on one clock."""
        processes = self.processes_ms(key, clock)
        return Latency(clock, tuple(sample for blocks in processes for block in blocks for sample in block))

    def comparison(self, key: str, clock: str, *, seed: int, against: str = BASELINE) -> Comparison:
        """One contestant against the baseline (or another contestant), with the noise floor beside it."""
        baseline, control, candidate, reference = (
            self.processes_ms(name, clock) for name in (BASELINE, CONTROL, key, against)
        )
        return compare_processes(reference, candidate, control=(baseline, control), seed=seed)

    def tokens_per_second(self, key: str, clock: str) -> float:
        """Real tokens of all valid calls over the time they took."""
        tokens, milliseconds = 0, 0.0
        for repetition in self.repetitions:
            for index, block in enumerate(repetition.samples_ms[clock][key]):
                if index not in repetition.invalid_blocks:
                    first = index * len(block)
                    shapes = (self.shapes[(first + call) % len(self.shapes)] for call in range(len(block)))
                    tokens += sum(shape.tokens for shape in shapes)
                    milliseconds += sum(block)
        return 1_000 * tokens / milliseconds

    @property
    def padding(self) -> float:
        """Share of all positions that hold no token."""
        return 1 - sum(x.tokens for x in self.shapes) / sum(x.batch * x.seq for x in self.shapes)

    def __str__(self) -> str:
        runtime = self.runtime if self.one_runtime else "several runtimes"
        return cell_text(runtime, self.workload, self.batch, self.seq)


def cell_text(runtime: str, workload: str, batch: int, seq: int) -> str:
    """What people call a cell."""
    length = f"sequence {seq}" if workload == FULL else f"{workload} texts up to {seq} tokens"
    return f"{runtime}, batch {batch}, {length}"
