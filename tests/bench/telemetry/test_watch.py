"""From readings to invalid blocks and the result file, with a fake NVML."""

from __future__ import annotations

import json
import sys
import time

import pytest
import torch

from bench.telemetry.cpu import CpuTelemetry
from bench.telemetry.gpu import GpuSample, GpuTelemetry, Window
from bench.telemetry.watch import HardwareRecord, HardwareWatch, gpu_uuid
from tests.bench.telemetry.test_nvml import FakeNvml


def test_a_watch_without_a_gpu_reads_the_cpu() -> None:
    with HardwareWatch(None) as watch:
        watch.mark()
        time.sleep(0.002)
        watch.mark()
    record = watch.record()
    assert len(record.blocks) == 2
    assert record.blocks[0].end_s == record.blocks[1].start_s
    assert record.blocks[1].end_s - record.blocks[1].start_s >= 0.002
    assert len(record.cpu.samples) >= 2
    assert (record.gpu, record.gpu_problem, record.invalid_blocks) == (None, None, ())
    assert HardwareRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_a_throttled_gpu_makes_its_blocks_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())  # it reports a power cap all the time
    with HardwareWatch("GPU-1") as watch:
        watch.mark()
    record = watch.record()
    assert record.gpu is not None
    assert record.gpu.gpu == "Example GPU"
    assert record.invalid_blocks == (0,)
    assert HardwareRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_a_gpu_that_cannot_be_read_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with HardwareWatch("GPU-1") as watch:
        watch.mark()
    record = watch.record()
    assert record.gpu is None
    assert "nvidia-ml-py is not installed" in (record.gpu_problem or "")
    assert record.invalid_blocks == ()


def test_invalid_blocks_are_named_by_index() -> None:
    def reading(at_s: float, clock: int) -> GpuSample:
        return GpuSample(at_s, clock, 2600, (), None, None, None, 0, 0)

    gpu = GpuTelemetry("Example GPU", (reading(0.5, 1500), reading(1.5, 1500), reading(2.5, 1200)))
    blocks = (Window(0.0, 1.0), Window(1.0, 2.0), Window(2.0, 3.0))
    assert HardwareRecord(blocks, CpuTelemetry(()), gpu, None, None).invalid_blocks == (2,)


def test_only_cuda_devices_have_an_identifier() -> None:
    assert gpu_uuid(torch.device("cpu")) is None
