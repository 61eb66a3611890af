"""What the hardware did while a benchmark measured, as a table: one row per cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from bench.report.experiment_tables import UNKNOWN, ReportTable
from bench.report.wording import size_text
from bench.result import BenchResult
from bench.telemetry.gpu import GpuSample
from bench.telemetry.recorded import hardware_records
from bench.telemetry.watch import HardwareRecord

Records = Sequence[HardwareRecord]

TITLE = "Hardware while measuring"
NOTE = "Lowest, median and highest reading during the blocks of a cell."


def hardware_table(result: BenchResult) -> ReportTable | None:
    """GPU and CPU readings by cell; columns and cells of which nothing is known are left out, None if nothing is.

    Raises:
        InputError: if a recording is damaged.
    """
    cells = [(str(cell), records) for cell in result.cells if (records := hardware_records(cell))]
    columns = {
        name: texts
        for name, text in COLUMNS.items()
        if any(texts := [text(records) for _, records in cells])  # a column of empty texts says nothing
    }
    if not columns:
        return None
    rows = tuple(
        (where, *(texts[index] or UNKNOWN for texts in columns.values())) for index, (where, _) in enumerate(cells)
    )
    problems = dict.fromkeys(x.gpu_problem for _, records in cells for x in records if x.gpu_problem)
    note = " ".join([NOTE, *(f"The GPU could not be read: {problem}" for problem in problems)])
    return ReportTable(TITLE, ("cell", *columns), rows, 1, note)


def _gpu_names(records: Records) -> str:
    return ", ".join(dict.fromkeys(record.gpu.gpu for record in records if record.gpu))


def _throttling(records: Records) -> str:
    """The reasons seen; none if the GPU was read and nothing held it back."""
    samples = _gpu_samples(records)
    reasons = dict.fromkeys(reason for sample in samples for reason in sample.throttle)
    return (", ".join(reasons) or "none") if samples else ""


def _dropped_blocks(records: Records) -> str:
    read = [record for record in records if record.gpu]
    dropped, measured = sum(len(x.invalid_blocks) for x in read), sum(len(x.blocks) for x in read)
    return f"{dropped} of {measured}" if read else ""


def _other_processes(records: Records) -> str:
    seen = [record.gpu.other_processes for record in records if record.gpu]
    return str(max(seen)) if seen else ""


def _gpu_memory(records: Records) -> str:
    used = [sample.memory_used_bytes for sample in _gpu_samples(records)]
    return size_text(max(used)) if used else ""


def _peak_memory(records: Records) -> str:
    known = [record.peak_resident_bytes for record in records if record.peak_resident_bytes is not None]
    return size_text(max(known)) if known else ""


def _cpu_frequency(records: Records) -> str:
    return _range_text((sample.frequency_mhz for record in records for sample in record.cpu.samples), "MHz")


def _gpu_range(name: str, unit: str) -> Callable[[Records], str]:
    return lambda records: _range_text((getattr(sample, name) for sample in _gpu_samples(records)), unit)


def _gpu_samples(records: Records) -> list[GpuSample]:
    return [sample for record in records if record.gpu for sample in record.gpu.samples]


def _range_text(readings: Iterable[float | None], unit: str) -> str:
    """Lowest, median and highest of what could be read; one figure where they agree, empty without any."""
    known = [reading for reading in readings if reading is not None]
    if not known:
        return ""
    values = dict.fromkeys(f"{value:.0f}" for value in (min(known), float(np.median(known)), max(known)))
    return f"{' / '.join(values)} {unit}"


COLUMNS: dict[str, Callable[[Records], str]] = {
    "GPU": _gpu_names,
    "SM clock": _gpu_range("sm_clock_mhz", "MHz"),
    "memory clock": _gpu_range("memory_clock_mhz", "MHz"),
    "throttling": _throttling,
    "blocks dropped": _dropped_blocks,
    "power": _gpu_range("power_w", "W"),
    "temperature": _gpu_range("temperature_c", "°C"),
    "GPU memory": _gpu_memory,
    "other processes": _other_processes,
    "CPU frequency": _cpu_frequency,
    "peak memory": _peak_memory,
}
