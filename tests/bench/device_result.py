"""A benchmark result as a GPU would leave it: clocks of a device, variants, and readings of NVML."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bench.cell import BASELINE, CONTROL, Repetition
from bench.result import BenchResult
from bench.telemetry.cpu import CpuSample, CpuTelemetry
from bench.telemetry.gpu import GpuSample, GpuTelemetry, Window
from bench.telemetry.watch import HardwareRecord
from bench.timer import Warmup
from tests.bench.fakes import fake_result

KEYS = (BASELINE, CONTROL, "candidate-1")
ENQUEUE_MS = {BASELINE: 0.5, CONTROL: 0.5, "candidate-1": 0.9}
GPU_MS = {BASELINE: 2.0, CONTROL: 2.0, "candidate-1": 1.0}
VARIANTS_MS = {"eager": 3.0, "compiled": 2.5, "cuda-graph": 2.0}


def gpu_sample(at_s: float, **fields: Any) -> GpuSample:
    usual = GpuSample(at_s, 1500, 2600, (), 300.0, 1_000.0 + 300 * at_s, 60, 2_000_000_000, 0)
    return replace(usual, **fields)


def hardware_record(*samples: GpuSample, problem: str | None = None) -> HardwareRecord:
    """Two blocks of a second each, on a CPU at 2.9 GHz; without samples no GPU was read."""
    cpu = CpuTelemetry((CpuSample(0.0, 2_900.0, 0.5), CpuSample(2.0, 3_100.0, 0.5)))
    gpu = GpuTelemetry("Example GPU", samples) if samples else None
    return HardwareRecord((Window(0.0, 1.0), Window(1.0, 2.0)), cpu, gpu, problem, 1_500_000_000)


def device_result(record: HardwareRecord | None = None, **telemetry: Any) -> BenchResult:
    """One cell; the candidate takes half the time on the GPU, and 0.9 of that to be queued."""
    result = fake_result(cells=1)

    def samples(times: dict[str, float]) -> dict[str, Any]:
        return {key: tuple((times[key] * (1 + 0.001 * (block % 3)),) for block in range(30)) for key in KEYS}

    end_to_end = {key: ms + 1 for key, ms in GPU_MS.items()}
    repetition = Repetition(
        {key: Warmup(1.0, 50, stable=True) for key in KEYS},
        {"gpu": samples(GPU_MS), "enqueue": samples(ENQUEUE_MS), "end-to-end": samples(end_to_end)},
        telemetry=telemetry if record is None else {"0": record.to_dict(), **telemetry},
    )
    runtimes = dict.fromkeys(KEYS, "torch-cuda")
    cell = replace(result.cells[0], runtime="torch-cuda", runtimes=runtimes, repetitions=(repetition,))
    return replace(result, settings=replace(result.settings, headline_clock="gpu"), cells=(cell,))
