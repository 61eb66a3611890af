"""What repetitions recorded beside their samples, from plain data back to types."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bench.cell import Cell, Repetition
from bench.energy import EnergyWindow
from bench.telemetry.watch import HardwareRecord
from pruning.errors import InputError

VARIANTS = "variants_ms"
"""Key of the milliseconds by contestant, shape and variant."""

ENERGY = "energy"
"""Key of the windows in which energy was measured, by contestant."""

_ENERGY_WINDOWS = TypeAdapter(dict[str, EnergyWindow])
_VARIANT_TIMES = TypeAdapter(dict[str, dict[str, dict[str, float]]])


def hardware_records(cell: Cell) -> tuple[HardwareRecord, ...]:
    """Readings of every process, and of every continuation of one; empty for a cell that has none.

    Raises:
        InputError: if a recording is damaged.
    """
    return tuple(
        _hardware_record(value)
        for repetition in cell.repetitions
        for key, value in repetition.telemetry.items()
        if key.isdigit()  # the first block that the readings belong to
    )


def variants_ms(cell: Cell, key: str) -> dict[str, float]:
    """Milliseconds on the GPU clock, or real time on a CPU, by variant: the mean over processes and input shapes.

    Empty without variants.

    Raises:
        InputError: if a recording is damaged.
    """
    found = [times for repetition in cell.repetitions for times in _variant_times(repetition, key)]
    names = dict.fromkeys(name for times in found for name in times)
    seen = {name: [times[name] for times in found if name in times] for name in names}
    return {name: math.fsum(values) / len(values) for name, values in seen.items()}


def energy_per_1000_j(cell: Cell, key: str) -> float | None:
    """Joules per thousand requests of one contestant, the mean over processes; None where it is not known.

    Raises:
        InputError: if a recording is damaged.
    """
    windows = [_energy_windows(repetition).get(key) for repetition in cell.repetitions]
    known = [energy for window in windows if window and (energy := window.per_1000_j) is not None]
    return math.fsum(known) / len(known) if known else None


def _energy_windows(repetition: Repetition) -> dict[str, EnergyWindow]:
    try:
        return _ENERGY_WINDOWS.validate_python(repetition.telemetry.get(ENERGY, {}))
    except ValidationError as error:
        raise _damaged(error) from error


def _variant_times(repetition: Repetition, key: str) -> Iterator[dict[str, float]]:
    try:
        by_contestant = _VARIANT_TIMES.validate_python(repetition.telemetry.get(VARIANTS, {}))
    except ValidationError as error:
        raise _damaged(error) from error
    yield from by_contestant.get(key, {}).values()


def _hardware_record(data: Mapping[str, Any]) -> HardwareRecord:
    try:
        return HardwareRecord.from_dict(data)
    except ValidationError as error:
        raise _damaged(error) from error


def _damaged(error: ValidationError) -> InputError:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return InputError(f"the telemetry of a benchmark is damaged: {where}: {first['msg']}. Measure again.")
