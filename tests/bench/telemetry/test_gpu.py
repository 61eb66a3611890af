"""What GPU readings say about blocks and energy, on given numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.telemetry.gpu import BlockProblem, GpuSample, GpuTelemetry, Window, energy_per_1000_j
from pruning.errors import InputError

STEADY = GpuSample(0.0, 1500, 2600, (), 300.0, 1000.0, 60, 10**9, 0)


def telemetry(*changes: dict[str, object]) -> GpuTelemetry:
    """One reading each tenth of a second; energy grows as 300 W would have it."""
    rows = [{"at_s": index / 10, "energy_j": 1000.0 + 30 * index} | change for index, change in enumerate(changes)]
    return GpuTelemetry("Example GPU", tuple(replace(STEADY, **row) for row in rows))


def windows(*bounds: tuple[float, float]) -> list[Window]:
    return [Window(*bound) for bound in bounds]


def test_steady_blocks_are_valid() -> None:
    checks = telemetry(*[{}] * 10).check_blocks(windows((0.0, 0.35), (0.4, 0.9)))
    assert [check.valid for check in checks] == [True, True]
    assert checks[0].clock_mhz == 1500


def test_a_throttled_reading_spoils_its_block_alone() -> None:
    readings = [{}] * 5 + [{"throttle": ("SwPowerCap",)}] + [{}] * 4
    checks = telemetry(*readings).check_blocks(windows((0.0, 0.45), (0.46, 0.7), (0.71, 0.9)))
    assert [check.problems for check in checks] == [(), (BlockProblem.THROTTLED,), ()]


@pytest.mark.parametrize(("clock", "valid"), [(1470, True), (1469, False), (1530, True), (1531, False)])
def test_a_clock_more_than_two_per_cent_from_the_median_spoils_a_block(clock: int, valid: bool) -> None:
    readings = [{}] * 6 + [{"sm_clock_mhz": clock}] * 2
    checks = telemetry(*readings).check_blocks(windows((0.0, 0.25), (0.25, 0.55), (0.55, 0.75)))
    assert [check.valid for check in checks] == [True, True, valid]


def test_a_short_block_goes_by_the_readings_around_it() -> None:
    readings = [{}] * 3 + [{"throttle": ("HwSlowdown",)}] + [{}] * 3
    checks = telemetry(*readings).check_blocks(windows((0.11, 0.13), (0.22, 0.25)))
    assert [check.valid for check in checks] == [True, False]


def test_a_block_without_readings_is_not_sampled() -> None:
    checks = telemetry({}, {}).check_blocks(windows((5.0, 6.0)))
    assert checks[0].problems == (BlockProblem.NOT_SAMPLED,)
    assert GpuTelemetry("Example GPU", ()).check_blocks(windows((0, 1)))[0].problems == (BlockProblem.NOT_SAMPLED,)


def test_energy_is_read_from_the_counter() -> None:
    assert telemetry(*[{}] * 11).energy_j(Window(0.25, 0.75)) == pytest.approx(150.0)


def test_energy_falls_back_to_power_over_time() -> None:
    ramp = [{"energy_j": None, "power_w": 100.0 * index} for index in range(11)]
    assert telemetry(*ramp).energy_j(Window(0.0, 1.0)) == pytest.approx(500.0)
    assert telemetry(*ramp).energy_j(Window(0.25, 0.35)) == pytest.approx(30.0)


def test_energy_outside_the_readings_is_unknown() -> None:
    assert telemetry(*[{}] * 5).energy_j(Window(0.2, 0.6)) is None
    assert telemetry(*[{"energy_j": None, "power_w": None}] * 5).energy_j(Window(0.1, 0.2)) is None


def test_energy_per_thousand_requests() -> None:
    assert energy_per_1000_j(30.0, 600) == pytest.approx(50.0)
    with pytest.raises(InputError, match="needs at least one request; got 0"):
        energy_per_1000_j(1.0, 0)


def test_other_processes_are_the_most_seen() -> None:
    assert telemetry({}, {"other_processes": 2}, {"other_processes": 1}).other_processes == 2
    assert GpuTelemetry("Example GPU", ()).other_processes == 0


def test_windows_and_readings_go_forward() -> None:
    with pytest.raises(InputError, match="must not end before it starts"):
        Window(2.0, 1.0)
    with pytest.raises(InputError, match="in the order of time"):
        telemetry({"at_s": 1.0}, {"at_s": 0.5})
