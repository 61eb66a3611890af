"""Readings of an NVIDIA GPU through NVML (the distribution ``nvidia-ml-py``)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from bench.telemetry.gpu import GpuSample
from pruning.errors import InputError

THROTTLE_REASONS = (
    "SwPowerCap",
    "HwSlowdown",
    "SwThermalSlowdown",
    "HwThermalSlowdown",
    "HwPowerBrakeSlowdown",
)
"""Reasons that slow the GPU down while it works. Idling, or clocks that the user has set, are none of them."""

MILLI = 1e-3

Value = TypeVar("Value")


@contextmanager
def gpu_reader(uuid: str) -> Iterator[tuple[str, Callable[[], GpuSample]]]:
    """Open NVML; yield the GPU's name and a function that takes one reading of it.

    Args:
        uuid: of the GPU, such as ``GPU-8d3a...``.

    Raises:
        InputError: if nvidia-ml-py is not installed, or there is no such GPU.
    """
    try:
        import pynvml  # noqa: PLC0415  # optional
    except ImportError as error:
        raise InputError('nvidia-ml-py is not installed; install it with: pip install "slimbert[gpu]"') from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise InputError(f"NVML cannot be opened ({error}); is the NVIDIA driver installed?") from error
    try:
        yield _open_gpu(pynvml, uuid)
    finally:
        pynvml.nvmlShutdown()


def _open_gpu(nvml: Any, uuid: str) -> tuple[str, Callable[[], GpuSample]]:
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        return str(nvml.nvmlDeviceGetName(handle)), lambda: read_sample(nvml, handle)
    except nvml.NVMLError as error:
        raise InputError(f"NVML does not know the GPU {uuid} ({error}).") from error


def read_sample(nvml: Any, handle: Any) -> GpuSample:
    """One reading of the GPU behind ``handle``; ``nvml`` is the module ``pynvml``."""

    def supported(read: Callable[[Any], Value]) -> Value | None:
        try:
            return read(handle)
        except nvml.NVMLError_NotSupported:
            return None

    power = supported(nvml.nvmlDeviceGetPowerUsage)
    energy = supported(nvml.nvmlDeviceGetTotalEnergyConsumption)
    processes = supported(nvml.nvmlDeviceGetComputeRunningProcesses) or []
    return GpuSample(
        at_s=time.perf_counter(),
        sm_clock_mhz=nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
        memory_clock_mhz=nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
        throttle=throttle_names(nvml, nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)),
        power_w=None if power is None else power * MILLI,
        energy_j=None if energy is None else energy * MILLI,
        temperature_c=supported(lambda gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)),
        memory_used_bytes=nvml.nvmlDeviceGetMemoryInfo(handle).used,
        other_processes=sum(process.pid != os.getpid() for process in processes),
    )


def throttle_names(nvml: Any, mask: int) -> tuple[str, ...]:
    """The bits of NVML's mask that mean throttling, by name."""
    return tuple(name for name in THROTTLE_REASONS if mask & getattr(nvml, f"nvmlClocksEventReason{name}"))
