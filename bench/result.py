"""What a benchmark was asked and what it saw: settings, raw samples, and figures derived from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bench.environment import Environment, is_loaded
from bench.paired import BlockPlan, Samples
from bench.statistics import Comparison, compare_blocks
from bench.timer import THREAD, WALL, Clock, Latency, Warmup, WarmupPolicy
from pruning.errors import InputError

SCHEMA = 1
BASELINE = "baseline"
CONTROL = "control"
WARMUP_CAP_FACTOR = 2.0


@dataclass(frozen=True)
class BenchSettings:
    """What to measure, and how long.

    Every combination of runtime, batch and sequence length is one cell; the first one is the headline. The defaults
    take 10 to 20 seconds for a cell of two models at 10 to 40 ms per call.

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

    def __post_init__(self) -> None:
        for name in ("runtimes", "batches", "seqs"):
            if not getattr(self, name):
                raise InputError(f"{name} is empty; name at least one.")
        if min(*self.batches, *self.seqs, self.threads) < 1:
            raise InputError(
                f"batches, sequence lengths and threads must be at least 1; "
                f"got {self.batches}, {self.seqs} and {self.threads}."
            )
        if self.blocks < 2:
            raise InputError(f"an interval needs at least two blocks; got {self.blocks}.")
        if self.headline_clock not in {clock.name for clock in self.clocks}:
            raise InputError(
                f"clock {self.headline_clock!r} cannot be used with {self.threads} threads; "
                f"available: {', '.join(clock.name for clock in self.clocks)} (thread needs threads=1)."
            )
        _ = self.plan, self.warmup  # both check their own numbers

    @property
    def clocks(self) -> tuple[Clock, ...]:
        """The clocks that see all the work: thread time misses what other threads do."""
        return (WALL, THREAD) if self.threads == 1 else (WALL,)

    @property
    def plan(self) -> BlockPlan:
        """Blocks of one cell."""
        return BlockPlan(self.blocks, self.calls, self.seed)

    @property
    def warmup(self) -> WarmupPolicy:
        """Warm-up of one contestant in one cell."""
        return WarmupPolicy(self.warmup_seconds, self.warmup_seconds * WARMUP_CAP_FACTOR)


@dataclass(frozen=True)
class BenchModel:
    """One of the models compared: its key in the samples, the name people see, and where it came from."""

    key: str
    label: str
    path: str


@dataclass(frozen=True)
class Cell:
    """Raw samples of one runtime, batch and sequence length.

    ``samples_ms`` maps clock, then contestant, to blocks of calls. The contestants are the baseline, its second copy
    (the A/A control) and the candidates.
    """

    runtime: str
    batch: int
    seq: int
    dtypes: Mapping[str, str]
    warmups: Mapping[str, Warmup]
    samples_ms: Samples

    def latency(self, key: str, clock: str) -> Latency:
        """Every sample of one contestant on one clock."""
        blocks = self.samples_ms[clock][key]
        return Latency(clock, tuple(sample for block in blocks for sample in block))

    def comparison(self, key: str, clock: str, *, seed: int) -> Comparison:
        """One contestant against the baseline, with the noise floor beside it."""
        by_key = self.samples_ms[clock]
        return compare_blocks(by_key[BASELINE], by_key[CONTROL], by_key[key], seed=seed)

    def __str__(self) -> str:
        return f"{self.runtime}, batch {self.batch}, sequence {self.seq}"


@dataclass(frozen=True)
class BenchResult:
    """A whole benchmark; every figure in a report can be recomputed from it.

    ``other_load`` is the mean number of cores that other processes kept busy meanwhile; ``inputs`` says what the token
    ids were.
    """

    settings: BenchSettings
    models: tuple[BenchModel, ...]
    cells: tuple[Cell, ...]
    environment: Environment
    other_load: float
    inputs: str

    @property
    def baseline(self) -> BenchModel:
        """The model that the others are compared with."""
        return self.models[0]

    @property
    def candidates(self) -> tuple[BenchModel, ...]:
        """The models compared with it."""
        return self.models[1:]

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

    def to_dict(self) -> dict[str, Any]:
        """Plain data with all raw samples, for ``json.dumps``."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BenchResult:
        """Read what `to_dict` wrote, also after a trip through JSON.

        Raises:
            InputError: if it is not a benchmark result of this schema.
        """
        if data.get("schema") != SCHEMA:
            raise InputError(
                f"not a benchmark result of schema {SCHEMA}: its schema is {data.get('schema')!r}. "
                "Measure again with this version."
            )
        try:
            return _result_from_dict(data)
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"a benchmark result is damaged: {error!r}. Measure again.") from error


def _result_from_dict(data: Mapping[str, Any]) -> BenchResult:
    settings: dict[str, Any] = dict(data["settings"])
    settings |= {name: tuple(settings[name]) for name in ("runtimes", "batches", "seqs")}
    return BenchResult(
        settings=BenchSettings(**settings),
        models=tuple(BenchModel(**model) for model in data["models"]),
        cells=tuple(_cell_from_dict(cell) for cell in data["cells"]),
        environment=Environment(**data["environment"]),
        other_load=data["other_load"],
        inputs=data["inputs"],
    )


def _cell_from_dict(data: Mapping[str, Any]) -> Cell:
    samples = {
        clock: {key: tuple(map(tuple, blocks)) for key, blocks in by_key.items()}
        for clock, by_key in data["samples_ms"].items()
    }
    warmups = {key: Warmup(**warmup) for key, warmup in data["warmups"].items()}
    return Cell(
        runtime=data["runtime"],
        batch=data["batch"],
        seq=data["seq"],
        dtypes=dict(data["dtypes"]),
        warmups=warmups,
        samples_ms=samples,
    )
