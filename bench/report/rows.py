"""A benchmark result as rows of a table, and the reasons to distrust it: shared by all reports."""

from __future__ import annotations

from dataclasses import dataclass

from bench.cell import BASELINE, CONTROL, Cell
from bench.report.wording import percent_text
from bench.result import BenchResult
from bench.statistics import Comparison
from bench.timer import Latency

P99_SAMPLES = 1_000
WIDE_NOISE = 1.05


@dataclass(frozen=True)
class Row:
    """One contestant in one cell. ``comparison`` is None for the baseline, which is compared with nothing."""

    key: str
    label: str
    dtype: str
    latency: Latency
    comparison: Comparison | None

    @property
    def verdict_text(self) -> str:
        """The verdict; the control's row shows the noise that all others are judged by."""
        if self.key == CONTROL:
            return "noise floor (A/A)"
        return self.comparison.verdict.value if self.comparison else "baseline"


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
        )
        if caveat
    )


def p99_note(result: BenchResult) -> str | None:
    """Said under every table whose tail rests on few samples."""
    samples = result.settings.blocks * result.settings.calls
    if samples >= P99_SAMPLES:
        return None
    return f"p99 rests on {samples} samples per model; below {P99_SAMPLES:,} it is a rough guide."


def _rows_from_cell(result: BenchResult, cell: Cell) -> tuple[Row, ...]:
    labels = {BASELINE: result.baseline.label, CONTROL: f"{result.baseline.label} (again)"}
    labels |= {model.key: model.label for model in result.candidates}
    return tuple(
        Row(
            key=key,
            label=label,
            dtype=cell.dtypes[key],
            latency=result.latency(cell, key),
            comparison=None if key == BASELINE else result.comparison(cell, key),
        )
        for key, label in labels.items()
    )


def _load_caveat(result: BenchResult) -> str | None:
    if not result.loaded:
        return None
    return (
        f"Other programs kept {result.other_load:.1f} of {result.environment.cores} cores busy meanwhile. "
        "Measure again on an idle machine, or use the thread clock."
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


def _settled(cell: Cell) -> bool:
    return all(warmup.stable for repetition in cell.repetitions for warmup in repetition.warmups.values())
