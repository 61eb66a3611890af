"""Time on a device and time to queue, on a device whose clock is known."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from bench import device as devices
from bench.device import CudaDevice, cuda_device, missing_cuda
from bench.device_timer import DEVICE_CLOCKS, END_TO_END, is_launch_bound, time_on_device
from bench.timer import time_calls
from pruning.errors import InputError
from tests.bench.fake_device import FakeDevice


def test_device_and_host_time_are_told_apart() -> None:
    device = FakeDevice()
    samples = time_on_device([partial(device.work, gpu_ms, 0.25) for gpu_ms in (4, 6)], device, host=device.clock)
    assert samples == {"gpu": (4.25, 6.0), "enqueue": (0.25, 0.25)}  # the first one waits for the host


def test_queued_work_hides_the_hosts_time_and_an_idle_device_shows_it() -> None:
    device = FakeDevice()
    bound = time_on_device([partial(device.work, 1, 3)] * 3, device, host=device.clock)
    assert bound["gpu"] == (4.0, 3.0, 3.0)
    assert is_launch_bound(bound["gpu"][1], bound["enqueue"][1])
    device = FakeDevice()
    free = time_on_device([partial(device.work, 10, 3)] * 3, device, host=device.clock)
    assert free["gpu"] == (13.0, 10.0, 10.0)
    assert not is_launch_bound(free["gpu"][1], free["enqueue"][1])


def test_earlier_work_is_not_counted() -> None:
    device = FakeDevice()
    device.work(100)
    assert time_on_device([partial(device.work, 2)], device, host=device.clock)["gpu"] == (2.0,)


def test_a_flush_runs_before_each_call_and_is_not_timed() -> None:
    device = FakeDevice()
    flush = partial(device.work, 50)
    samples = time_on_device([partial(device.work, 2, 1)] * 2, device, host=device.clock, before=flush)
    assert samples["gpu"] == (2.0, 2.0)
    assert samples["enqueue"] == (1.0, 1.0)


@pytest.mark.parametrize(("enqueue_ms", "bound"), [(0.8, False), (0.81, True), (0.1, False)])
def test_launch_bound_is_above_eight_tenths(enqueue_ms: float, bound: bool) -> None:
    assert is_launch_bound(1.0, enqueue_ms) is bound


def test_clocks_have_names_of_their_own() -> None:
    assert DEVICE_CLOCKS == ("gpu", "enqueue", "end-to-end")
    assert list(time_calls([lambda: None], [END_TO_END])) == ["end-to-end"]


def test_a_pytorch_without_cuda_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    assert missing_cuda() == (
        "this PyTorch is built without CUDA; install torch from PyPI, or from PyTorch's index for your CUDA."
    )


def test_a_machine_without_a_gpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="finds no CUDA device; check the driver with nvidia-smi"):
        cuda_device.__wrapped__(0)


def test_an_index_beyond_the_gpus_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "missing_cuda", lambda: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match="there is no GPU 2; this machine has 2, numbered from 0"):
        cuda_device.__wrapped__(2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_real_device_times_a_product_and_replays_it() -> None:
    device = cuda_device(0)
    assert isinstance(device, CudaDevice)
    assert device.stream != 0
    x = device.resident(torch.randn(2048, 2048))
    with device.computing():
        samples = time_on_device([lambda: x @ x] * 20, device, before=device.flusher())
    assert all(0 < sample < 100 for sample in samples["gpu"] + samples["enqueue"])
    replay = device.captured(lambda: x * 2)
    x.fill_(3.0)
    torch.cuda.synchronize()
    with device.computing():
        doubled = replay()
    device.synchronize()
    assert (doubled == 6).all()
    assert device.pinned(torch.ones(3)).is_pinned()
