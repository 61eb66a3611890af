"""NVML against a fake of its Python module."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import pytest

from bench.telemetry.nvml import gpu_reader, read_sample, throttle_names
from pruning.errors import InputError


class FakeNvmlError(Exception):
    """As pynvml.NVMLError."""


class NotSupportedError(FakeNvmlError):
    """As pynvml.NVMLError_NotSupported."""


class FakeNvml:
    """The functions that are read, for one GPU; ``lacks`` names those that it does not support."""

    NVMLError, NVMLError_NotSupported = FakeNvmlError, NotSupportedError
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    nvmlClocksEventReasonSwPowerCap = 0x4  # noqa: N815
    nvmlClocksEventReasonHwSlowdown = 0x8  # noqa: N815
    nvmlClocksEventReasonSwThermalSlowdown = 0x20  # noqa: N815
    nvmlClocksEventReasonHwThermalSlowdown = 0x40  # noqa: N815
    nvmlClocksEventReasonHwPowerBrakeSlowdown = 0x80  # noqa: N815

    def __init__(self, *, lacks: tuple[str, ...] = (), broken: bool = False) -> None:
        self.lacks, self.broken, self.opened = lacks, broken, 0

    def nvmlInit(self) -> None:  # noqa: N802
        if self.broken:
            raise FakeNvmlError("Driver Not Loaded")
        self.opened += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.opened -= 1

    def __getattr__(self, name: str) -> object:
        values = {
            "nvmlDeviceGetHandleByUUID": "handle",
            "nvmlDeviceGetName": "Example GPU",
            "nvmlDeviceGetCurrentClocksEventReasons": 0x1 | 0x4 | 0x40,
            "nvmlDeviceGetPowerUsage": 250_000,
            "nvmlDeviceGetTotalEnergyConsumption": 5_000,
            "nvmlDeviceGetTemperature": 61,
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=123),
            "nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=os.getpid()), SimpleNamespace(pid=-1)],
        }

        def read(*arguments: object) -> object:
            if name in self.lacks:
                raise NotSupportedError
            return {1: 1410, 2: 2619}[arguments[1]] if name == "nvmlDeviceGetClockInfo" else values[name]  # type: ignore[index]

        return read


def test_a_reading_holds_what_nvml_says_in_our_units() -> None:
    sample = read_sample(FakeNvml(), "handle")
    assert (sample.sm_clock_mhz, sample.memory_clock_mhz) == (1410, 2619)
    assert (sample.power_w, sample.energy_j, sample.temperature_c) == (250.0, 5.0, 61)
    assert (sample.memory_used_bytes, sample.other_processes) == (123, 1)
    assert sample.throttle == ("SwPowerCap", "HwThermalSlowdown")


def test_what_a_gpu_does_not_support_is_unknown() -> None:
    lacking = FakeNvml(
        lacks=(
            "nvmlDeviceGetPowerUsage",
            "nvmlDeviceGetTotalEnergyConsumption",
            "nvmlDeviceGetTemperature",
            "nvmlDeviceGetComputeRunningProcesses",
        )
    )
    sample = read_sample(lacking, "handle")
    assert (sample.power_w, sample.energy_j, sample.temperature_c, sample.other_processes) == (None, None, None, 0)


def test_idling_is_no_throttling() -> None:
    assert throttle_names(FakeNvml(), 0x1) == ()


def test_every_reason_exists_in_the_real_module() -> None:
    real = pytest.importorskip("pynvml")
    assert throttle_names(real, 0xFF) == (
        "SwPowerCap", "HwSlowdown", "SwThermalSlowdown", "HwThermalSlowdown", "HwPowerBrakeSlowdown",
    )  # fmt: skip


def test_nvml_is_closed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    with gpu_reader("GPU-1") as (name, read):
        assert (name, read().power_w, fake.opened) == ("Example GPU", 250.0, 1)
    assert fake.opened == 0


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(lacks=("nvmlDeviceGetHandleByUUID",)))
    with pytest.raises(InputError, match=r"NVML does not know the GPU GPU-3"), gpu_reader("GPU-3"):
        pass


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(broken=True))
    with pytest.raises(InputError, match=r"NVML cannot be opened \(Driver Not Loaded\)"), gpu_reader("GPU-1"):
        pass


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(InputError, match="nvidia-ml-py is not installed"), gpu_reader("GPU-1"):
        pass
