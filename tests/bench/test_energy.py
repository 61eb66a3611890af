"""Energy and cold caches on a fake GPU, from the settings to the samples file and the reports."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Self

import pytest
from torch import Tensor

from bench import process
from bench.compare import measure
from bench.contestants import name_models
from bench.energy import EnergyWindow, measure_energy
from bench.report.bench_report import html_from_result, markdown_from_result
from bench.report.console import console_from_result
from bench.result import BenchResult, BenchSettings
from bench.runners.base import DEFAULTS, Outputs, RunnerOptions, Variant
from bench.runners.registry import RUNNERS
from bench.runners.torch_cuda import TorchCudaRunner
from bench.telemetry.gpu import GpuTelemetry, Window
from bench.telemetry.recorded import energy_per_1000_j
from pruning.errors import InputError
from tests.bench.device_result import device_result, gpu_sample
from tests.bench.fake_device import FakeDevice
from tests.bench.telemetry.test_nvml import FakeNvml
from tests.bench.test_report import shown
from tests.tiny import tiny_bert

GPU_SETTINGS = BenchSettings(("torch-cuda",), (2,), (8,), blocks=2, calls=2, warmup_seconds=0.0, headline_clock="gpu")
JOULES = itertools.count(1_000_000, 500)


class SteadyNvml(FakeNvml):
    """Nothing holds it back, and every look at its counter finds half a joule more."""

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: object) -> int:  # noqa: N802
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object) -> int:  # noqa: N802
        return next(JOULES)


class FakeGpuRunner(TorchCudaRunner):
    """PyTorch on a GPU of Python objects, two virtual milliseconds a call; all models share it."""

    variants = (Variant.EAGER,)
    shared = FakeDevice()

    @classmethod
    def missing(cls) -> None:
        return None

    @classmethod
    def load(cls, prepared: Path, threads: int, options: RunnerOptions = DEFAULTS) -> Self:
        return cls(tiny_bert(), cls.shared)

    def launcher(self, inputs: Mapping[str, Tensor], unpadded: bool, variant: Variant) -> Callable[[], Outputs]:
        launch = super().launcher(inputs, unpadded, variant)

        def worked() -> Outputs:
            self.shared.work(gpu_ms=2.0)
            return launch()

        return worked


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    """A machine with a fake GPU that NVML knows."""
    monkeypatch.setitem(RUNNERS, "torch-cuda", FakeGpuRunner)
    monkeypatch.setitem(sys.modules, "pynvml", SteadyNvml())
    monkeypatch.setattr(process, "gpu_uuid", lambda device: "GPU-1")
    monkeypatch.setattr(FakeGpuRunner, "shared", FakeDevice())
    return FakeGpuRunner.shared


def test_a_window_counts_requests_and_the_joules_between_its_ends() -> None:
    device = FakeDevice()
    launched: list[int] = []

    def launch(index: int) -> None:
        launched.append(index)
        device.work(gpu_ms=100.0)

    def now_s() -> float:
        return device.host_ms / 1_000

    found = measure_energy(launch, [2, 4], device, ("Example GPU", lambda: gpu_sample(now_s())), 0.5, now_s)
    assert launched == [0, 1] * 3
    assert (found.requests, found.window) == (18, Window(0.0, 0.6))
    assert found.gpu.gpu == "Example GPU"
    assert found.per_1000_j == pytest.approx(300 * 0.6 / 18 * 1_000)  # the fake counter shows 300 W
    assert device.inside == 0


def test_a_gpu_without_energy_or_power_has_no_figure() -> None:
    readings = tuple(gpu_sample(at_s, power_w=None, energy_j=None) for at_s in (0.0, 3.0))
    assert EnergyWindow(10, Window(1.0, 2.0), GpuTelemetry("Example GPU", readings)).per_1000_j is None
    by_power = tuple(replace(reading, power_w=200.0) for reading in readings)
    assert EnergyWindow(10, Window(1.0, 2.0), GpuTelemetry("Example GPU", by_power)).per_1000_j == pytest.approx(20_000)


def test_energy_is_in_the_samples_file_and_in_every_report(gpu: FakeDevice, dense: Path) -> None:
    settings = replace(GPU_SETTINGS, energy_seconds=0.01)
    steps: list[tuple[int, int]] = []
    models = name_models([dense, dense])
    result = measure(models, settings, {}, progress=lambda done, total, what: steps.append((done, total)))
    assert steps == [(done, 3 + 2 + 3) for done in range(1, 9)]
    read = BenchResult.from_dict(json.loads(json.dumps(result.to_dict())))
    (cell,) = read.cells
    energies = {key: energy_per_1000_j(cell, key) for key in cell.contestants}
    assert all(energy is not None and energy > 0 for energy in energies.values())
    for text in (shown(console_from_result(read)), markdown_from_result(read), html_from_result(read)):
        assert re.search(r"energy\s*/", text)
        assert f"{energies['baseline']:.3g} J" in text
    assert "at least 0.01 s of back-to-back calls" in markdown_from_result(read)
    assert "energy" not in markdown_from_result(device_result()).casefold()


def test_a_stopped_measurement_goes_on_with_the_energy_it_lacks(gpu: FakeDevice, dense: Path) -> None:
    models, settings = name_models([dense, dense]), replace(GPU_SETTINGS, energy_seconds=0.01)
    kept: list[BenchResult] = []

    def press(done: int, total: int, what: str) -> None:
        if what.endswith("energy of control"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(models, settings, {}, progress=press, keep=kept.append)
    part = BenchResult.from_dict(json.loads(json.dumps(kept[-1].to_dict())))
    steps: list[str] = []
    whole = measure(models, settings, {}, previous=part, progress=lambda done, total, what: steps.append(what))
    assert [step.rpartition(": ")[2] for step in steps[3:]] == ["energy of candidate-1"]
    (before,), (after,) = part.cells[0].repetitions, whole.cells[0].repetitions
    assert after.samples_ms == before.samples_ms
    windows = after.telemetry["energy"]
    assert list(windows) == ["baseline", "control", "candidate-1"]
    assert {key: windows[key] for key in before.telemetry["energy"]} == before.telemetry["energy"]
    assert measure(models, settings, {}, previous=whole).cells == whole.cells


def test_energy_can_be_asked_for_afterwards(gpu: FakeDevice, dense: Path) -> None:
    models = name_models([dense, dense])
    without = measure(models, GPU_SETTINGS, {})
    with_energy = measure(models, replace(GPU_SETTINGS, energy_seconds=0.01), {}, previous=without)
    assert with_energy.cells[0].repetitions[0].samples_ms == without.cells[0].repetitions[0].samples_ms
    assert energy_per_1000_j(with_energy.cells[0], "control") is not None
    with pytest.raises(InputError, match=r"its energy_seconds differ, 0\.01 then, 0\.0 now"):
        measure(models, GPU_SETTINGS, {}, previous=with_energy)


def test_energy_is_the_mean_over_processes() -> None:
    def windows(requests: int) -> dict[str, object]:
        readings = (gpu_sample(0.0), gpu_sample(3.0))
        return {"baseline": asdict(EnergyWindow(requests, Window(0.0, 2.0), GpuTelemetry("GPU", readings)))}

    (cell,) = device_result(energy=windows(1_000)).cells
    (other,) = device_result(energy=windows(2_000)).cells
    both = replace(cell, repetitions=cell.repetitions + other.repetitions)
    assert energy_per_1000_j(both, "baseline") == pytest.approx((600 + 300) / 2)
    assert energy_per_1000_j(both, "candidate-1") is None
    markdown = markdown_from_result(device_result(energy=windows(1_000)))
    assert "| 600 J |" in markdown
    assert "| - |" in markdown


def test_damaged_energy_is_one_line() -> None:
    with pytest.raises(InputError, match="telemetry of a benchmark is damaged"):
        markdown_from_result(device_result(energy={"baseline": {"requests": "many"}}))


def test_a_gpu_that_cannot_be_read_is_refused_before_it_is_timed(
    gpu: FakeDevice, dense: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(InputError, match="nvidia-ml-py is not installed"):
        measure(name_models([dense, dense]), replace(GPU_SETTINGS, energy_seconds=0.01), {})
    assert gpu.log == []


def test_a_cold_cache_is_flushed_and_named(gpu: FakeDevice, dense: Path) -> None:
    models = name_models([dense, dense])
    warm = measure(models, GPU_SETTINGS, {})
    assert "flush" not in gpu.log
    cold = measure(models, replace(GPU_SETTINGS, cold_l2=True), {})
    assert gpu.log.count("flush") == 3 * 2 * 2
    assert BenchResult.from_dict(json.loads(json.dumps(cold.to_dict()))).settings.cold_l2
    for text in (html_from_result, markdown_from_result, lambda result: shown(console_from_result(result))):
        assert "gpu clock, cold L2 cache" in text(cold)
        assert "cold L2 cache" not in text(warm)
    assert "flushed before each call on the gpu and enqueue clocks" in markdown_from_result(cold)


@pytest.mark.parametrize(
    ("setting", "option"), [({"cold_l2": True}, "--cold-l2"), ({"energy_seconds": 2.0}, "--energy")]
)
def test_a_runtime_without_a_gpu_is_refused(setting: dict[str, object], option: str, dense: Path) -> None:
    settings = replace(GPU_SETTINGS, runtimes=("torch-cpu",), **setting)
    with pytest.raises(InputError, match=f"^{option} needs a GPU, and torch-cpu uses none. Leave {option} out.$"):
        measure(name_models([dense, dense]), settings, {})


@pytest.mark.parametrize("clock", ["wall", "end-to-end"])
def test_a_cold_cache_needs_the_clock_of_the_gpu(clock: str) -> None:
    with pytest.raises(InputError, match=r"measured on the gpu clock, not on .*add --clock gpu"):
        BenchSettings(cold_l2=True, headline_clock=clock)


def test_negative_windows_are_refused() -> None:
    with pytest.raises(InputError, match=r"energy_seconds must not be negative; got -1"):
        BenchSettings(energy_seconds=-1)
