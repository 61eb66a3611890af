"""What the hardware did during the blocks of one cell, from its samplers to the result file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self, final

import torch
from pydantic import TypeAdapter

from bench.telemetry.cpu import CPU_PERIOD_S, CpuSample, CpuTelemetry, peak_resident_bytes, read_cpu
from bench.telemetry.gpu import GpuSample, GpuTelemetry, Window
from bench.telemetry.nvml import gpu_reader
from bench.telemetry.sampler import Sampler
from pruning.errors import InputError


@dataclass(frozen=True)
class HardwareRecord:
    """Raw readings, and the window of each block on their clock.

    Args:
        blocks: in the order of measurement.
        cpu: readings of the CPU.
        gpu: readings of the GPU; None where none is used, or where it could not be read.
        gpu_problem: why it could not be read.
        peak_resident_bytes: of the process that measured, with all models in it; None where not known.
    """

    blocks: tuple[Window, ...]
    cpu: CpuTelemetry
    gpu: GpuTelemetry | None
    gpu_problem: str | None
    peak_resident_bytes: int | None

    @property
    def invalid_blocks(self) -> tuple[int, ...]:
        """Indices of the blocks in which the GPU throttled or left its usual clock."""
        if self.gpu is None:
            return ()
        return tuple(index for index, check in enumerate(self.gpu.check_blocks(self.blocks)) if not check.valid)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> HardwareRecord:
        """Read what `to_dict` wrote, also after a trip through JSON."""
        return TypeAdapter(cls).validate_python(data)


@final
class HardwareWatch:
    """Takes readings between entering and leaving; `mark` ends a block, and the next one starts there.

    Args:
        gpu: identifier of the GPU, as CUDA and NVML write it; None where none is used.
    """

    def __init__(self, gpu: str | None) -> None:
        self._uuid = gpu
        self._stack = ExitStack()
        self._cpu = Sampler[CpuSample](read_cpu, CPU_PERIOD_S)
        self._gpu: Sampler[GpuSample] | None = None
        self._gpu_name, self._gpu_problem = "", None if gpu is None else ""
        self._marks: list[float] = []

    def __enter__(self) -> Self:
        if self._uuid is not None:
            self._open_gpu(self._uuid)
        self._stack.enter_context(self._cpu)
        self._marks.append(time.perf_counter())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def mark(self) -> None:
        """A block ends now."""
        self._marks.append(time.perf_counter())

    def record(self) -> HardwareRecord:
        """Everything read so far."""
        blocks = tuple(Window(start, end) for start, end in zip(self._marks[:-1], self._marks[1:], strict=True))
        gpu = None if self._gpu is None else GpuTelemetry(self._gpu_name, self._gpu.samples)
        cpu = CpuTelemetry(self._cpu.samples)
        return HardwareRecord(blocks, cpu, gpu, self._gpu_problem or None, peak_resident_bytes())

    def _open_gpu(self, uuid: str) -> None:
        """A GPU that cannot be read can still be timed: the record says why nothing is known of it."""
        try:
            self._gpu_name, read = self._stack.enter_context(gpu_reader(uuid))
        except InputError as error:
            self._gpu_problem = str(error)
            return
        self._gpu = self._stack.enter_context(Sampler(read))


def gpu_uuid(device: torch.device) -> str | None:
    """What NVML calls a CUDA device; None for any other. Its index is no use: NVML ignores CUDA_VISIBLE_DEVICES."""
    if device.type != "cuda":
        return None
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"
