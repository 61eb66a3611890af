"""A benchmark result as rows of a table, and the reasons to distrust it: shared by all reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bench.cell import BASELINE, CONTROL, FULL, Cell
from bench.device_timer import ENQUEUE_CLOCK, GPU_CLOCK, LAUNCH_BOUND_SHARE, is_launch_bound
from bench.report.experiment_tables import UNKNOWN
from bench.report.wording import count_text, ms_text, percent_text
from bench.result import BenchResult
from bench.statistics import Comparison
from bench.telemetry.recorded import energy_per_1000_j, variants_ms
from bench.timer import THREAD, WALL, Latency, samples_for_percentile

TAILS = (90, 99)
WIDE_NOISE = 1.05


@dataclass(frozen=True)
class Row:
    """One contestant in one cell.

    Args:
        key: of the contestant.
        label: what people call it.
        runtime: it ran in.
        dtype: it computed in.
        latency: on the headline clock.
        comparison: with the baseline; None for the baseline itself.
        ideal: how many times fewer encoder FLOPs it needs; None where that is not known.
        tokens_per_second: real tokens, padding left out.
        clocks_ms: median on every clock of a device, by clock; empty on the CPU.
        variants_ms: on the clock of the GPU, or real time on a CPU, by variant; empty where a runtime has one way to
            launch a model.
        energy_1000_j: joules of the GPU for a thousand requests; None where it was not measured.
    """

    key: str
    label: str
    runtime: str
    dtype: str
    latency: Latency
    comparison: Comparison | None
    ideal: float | None
    tokens_per_second: float
    clocks_ms: Mapping[str, float] = field(default_factory=dict)
    variants_ms: Mapping[str, float] = field(default_factory=dict)
    energy_1000_j: float | None = None

    @property
    def launch_bound(self) -> bool:
        """Whether the host that queues the work was measured, not the device; never so on the CPU."""
        times = self.clocks_ms
        return ENQUEUE_CLOCK in times and is_launch_bound(times[GPU_CLOCK], times[ENQUEUE_CLOCK])

    @property
    def enqueue_text(self) -> str:
        """Median time to queue a call, and a warning where the device waits for it."""
        return ms_text(self.clocks_ms[ENQUEUE_CLOCK]) + (" (launch-bound)" if self.launch_bound else "")

    @property
    def energy_text(self) -> str:
        """Energy per thousand requests, for the control too: their difference is noise."""
        return UNKNOWN if self.energy_1000_j is None else f"{self.energy_1000_j:.3g} J"

    @property
    def variants_text(self) -> str:
        """Every way to launch the model, the fastest first: that one was measured."""
        ordered = sorted(self.variants_ms.items(), key=lambda item: item[1])
        return ", ".join(f"{name} {ms_text(ms)}" for name, ms in ordered)

    @property
    def verdict_text(self) -> str:
        """The verdict; the control's row shows the noise that all others are judged by."""
        if self.key == CONTROL:
            return "noise floor (A/A)"
        return self.comparison.verdict.value if self.comparison else "baseline"

    @property
    def ideal_text(self) -> str:
        """The measured speedup as a share of the one that FLOPs promise; empty where they promise none."""
        if self.comparison is None or self.ideal is None or self.ideal == 1:
            return ""
        return f"{percent_text(self.comparison.ratio.value / self.ideal)} of {self.ideal:.2f}x"

    @property
    def spread_text(self) -> str:
        """Distance between the quartiles over the median."""
        return percent_text(self.latency.spread) + (" (noisy)" if self.latency.noisy else "")


@dataclass(frozen=True)
class Column:
    """A column of the tables, the same in a terminal, in Markdown and in HTML."""

    name: str
    text: Callable[[Row], str]
    numeric: bool = True


@dataclass(frozen=True)
class CellRows:
    """All contestants of one cell, the baseline first and its second copy next."""

    cell: Cell
    rows: tuple[Row, ...]


def rows_from_result(result: BenchResult) -> tuple[CellRows, ...]:
    """Every cell's rows on the headline clock. Each interval is computed once, here."""
    return tuple(CellRows(cell, _rows_from_cell(result, cell)) for cell in result.cells)


def caveats_from_result(result: BenchResult, cells: tuple[CellRows, ...]) -> tuple[str, ...]:
    """What a reader must know before trusting the numbers; empty if all is well."""
    return tuple(
        caveat
        for caveat in (
            _load_caveat(result),
            _invalid_caveat(result),
            _noise_caveat(cells),
            _spread_caveat(cells),
            _warmup_caveat(cells),
            _launch_caveat(cells),
            _restart_caveat(cells),
        )
        if caveat
    )


def columns_from_cells(cells: tuple[CellRows, ...]) -> tuple[Column, ...]:
    """The columns that have something to say: percentiles with enough samples, FLOPs where they are known."""
    rows = [row for cell in cells for row in cell.rows]
    clock = rows[0].latency.clock
    variants_clock = GPU_CLOCK if GPU_CLOCK in cells[0].cell.clocks else WALL.name
    others = [name for name in rows[0].clocks_ms if name not in (clock, ENQUEUE_CLOCK)]
    optional = (
        (not all(cell.cell.one_runtime for cell in cells), Column("runtime", lambda row: row.runtime, numeric=False)),
        (True, Column("type", lambda row: row.dtype, numeric=False)),
        (True, Column(f"p50 ({clock} clock)", lambda row: ms_text(row.latency.p50_ms))),
        *((_has_tail(rows, percent), _tail_column(percent, clock)) for percent in TAILS),
        (True, Column("IQR / p50", lambda row: row.spread_text)),
        (
            any(cell.cell.workload != FULL for cell in cells),
            Column("tokens / s", lambda row: count_text(row.tokens_per_second)),
        ),
        (True, Column("speedup (95 % interval)", lambda row: str(row.comparison.ratio) if row.comparison else "")),
        (any(row.ideal_text for row in rows), Column("of the ideal", lambda row: row.ideal_text)),
        *((True, _clock_column(name)) for name in others),
        (bool(rows[0].clocks_ms), Column(f"p50 ({ENQUEUE_CLOCK} clock)", lambda row: row.enqueue_text)),
        (
            any(row.variants_ms for row in rows),
            Column(f"variants ({variants_clock} clock)", lambda row: row.variants_text, numeric=False),
        ),
        (
            any(row.energy_1000_j is not None for row in rows),
            Column("energy / 1,000 requests", lambda row: row.energy_text),
        ),
    )
    return tuple(column for shown, column in optional if shown)


def tail_note(result: BenchResult) -> str | None:
    """Said under every table that leaves a percentile out."""
    samples = min(
        (len(result.latency(cell, key).samples_ms) for cell in result.cells for key in cell.contestants), default=0
    )
    short = [percent for percent in TAILS if samples < samples_for_percentile(percent)]
    if not short:
        return None
    needs = " and ".join(f"p{percent} needs {samples_for_percentile(percent):,} samples" for percent in short)
    return f"{needs} per model; there are {samples}. More --blocks or --processes give more."


def _has_tail(rows: list[Row], percent: int) -> bool:
    return all(row.latency.tail_ms(percent) is not None for row in rows)


def _tail_column(percent: int, clock: str) -> Column:
    return Column(f"p{percent} ({clock} clock)", lambda row: ms_text(row.latency.percentile_ms(percent)))


def _clock_column(clock: str) -> Column:
    return Column(f"p50 ({clock} clock)", lambda row: ms_text(row.clocks_ms[clock]))


def _clocks_ms(cell: Cell, key: str) -> dict[str, float]:
    """Medians on the clocks of a device, none on the CPU: there the headline says it all."""
    return {clock: cell.latency(key, clock).p50_ms for clock in cell.clocks} if GPU_CLOCK in cell.clocks else {}


def _rows_from_cell(result: BenchResult, cell: Cell) -> tuple[Row, ...]:
    labels = {BASELINE: result.baseline.label, CONTROL: f"{result.baseline.label} (again)"}
    labels |= {model.key: model.label for model in result.candidates}
    return tuple(
        Row(
            key=key,
            label=label,
            runtime=cell.runtimes[key],
            dtype=cell.dtypes[key],
            latency=result.latency(cell, key),
            comparison=None if key == BASELINE else result.comparison(cell, key),
            ideal=result.ideal(cell, key),
            tokens_per_second=cell.tokens_per_second(key, result.settings.headline_clock),
            clocks_ms=_clocks_ms(cell, key),
            variants_ms=variants_ms(cell, key),
            energy_1000_j=energy_per_1000_j(cell, key),
        )
        for key, label in labels.items()
    )


def _load_caveat(result: BenchResult) -> str | None:
    if not result.loaded:
        return None
    other_way = "" if result.settings.headline_clock == THREAD.name else ", or use the thread clock"
    return (
        f"Other programs kept {result.other_load:.1f} of {result.environment.cores} cores busy meanwhile. "
        f"Measure again on an idle machine{other_way}."
    )


def _invalid_caveat(result: BenchResult) -> str | None:
    dropped = sum(cell.invalid_blocks for cell in result.cells)
    if not dropped:
        return None
    measured = sum(repetition.blocks for cell in result.cells for repetition in cell.repetitions)
    return (
        f"{dropped} of {measured} blocks were dropped: the GPU throttled in them, or its clock moved by more than 2 %. "
        "Their samples stay in the file."
    )


def _noise_caveat(cells: tuple[CellRows, ...]) -> str | None:
    floors = [row.comparison.noise_floor for cell in cells for row in cell.rows if row.comparison]
    if max(floors) <= WIDE_NOISE:
        return None
    return (
        f"The same model measured against itself differed by up to {percent_text(max(floors) - 1)}: "
        "smaller differences cannot be told apart here."
    )


def _spread_caveat(cells: tuple[CellRows, ...]) -> str | None:
    noisy = [str(cell.cell) for cell in cells if any(row.latency.noisy for row in cell.rows)]
    if not noisy:
        return None
    return f"Latencies spread widely (IQR / p50 above 10 %) in: {'; '.join(noisy)}. Trust the ratio before the times."


def _warmup_caveat(cells: tuple[CellRows, ...]) -> str | None:
    unstable = [str(cell.cell) for cell in cells if not _settled(cell.cell)]
    if not unstable:
        return None
    return f"Warm-up ended before timings settled within 1 % in: {'; '.join(unstable)}."


def _launch_caveat(cells: tuple[CellRows, ...]) -> str | None:
    bound = [f"{row.label} in {cell.cell}" for cell in cells for row in cell.rows if row.launch_bound]
    if not bound:
        return None
    return (
        f"Launch-bound, queueing takes more than {percent_text(LAUNCH_BOUND_SHARE)} of the GPU's time: "
        f"{'; '.join(bound)}. There the host is measured, not the GPU."
    )


def _restart_caveat(cells: tuple[CellRows, ...]) -> str | None:
    restarted = [str(cell.cell) for cell in cells if any(x.restarts for x in cell.cell.repetitions)]
    return f"Stopped and continued in another process: {'; '.join(restarted)}." if restarted else None


def _settled(cell: Cell) -> bool:
    return all(warmup.stable for repetition in cell.repetitions for warmup in repetition.warmups.values())
