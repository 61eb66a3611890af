"""Energy of a GPU over a window of back-to-back calls: longer than the steps in which its counter moves."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.device import Device
from bench.telemetry.gpu import GpuSample, GpuTelemetry, Window, energy_per_1000_j
from bench.telemetry.sampler import Sampler

ENERGY_SECONDS = 2.0
"""The counter moves in steps of up to a tenth of a second: a twentieth of this."""

GpuReader = tuple[str, Callable[[], GpuSample]]
"""Name of a GPU, and what takes one reading of it: see `bench.telemetry.nvml.gpu_reader`."""


@dataclass(frozen=True)
class EnergyWindow:
    """Raw readings around back-to-back calls.

    Args:
        requests: answered in the window; a request is one row of a batch.
        window: on the clock of the readings.
        gpu: readings from before the window to after it.
    """

    requests: int
    window: Window
    gpu: GpuTelemetry

    @property
    def per_1000_j(self) -> float | None:
        """Joules of the whole GPU for a thousand requests; None if it reports neither energy nor power."""
        energy_j = self.gpu.energy_j(self.window)
        return None if energy_j is None else energy_per_1000_j(energy_j, self.requests)


def measure_energy(
    launch: Callable[[int], object],
    rows: Sequence[int],
    device: Device,
    gpu: GpuReader,
    seconds: float = ENERGY_SECONDS,
    now_s: Callable[[], float] = time.perf_counter,
) -> EnergyWindow:
    """Call without a pause for some time, and read the GPU meanwhile.

    Args:
        launch: queues the work of one of the rotating inputs, named by its index.
        rows: requests in each input.
        device: that does the work.
        gpu: the same one, as it is read.
        seconds: the least that the window lasts; it ends with a whole rotation.
        now_s: the clock of the readings.
    """
    name, read = gpu
    sampler, requests = Sampler(read), 0
    with sampler, device.computing():
        device.synchronize()
        start_s = now_s()
        while requests == 0 or now_s() - start_s < seconds:
            for index in range(len(rows)):
                launch(index)
            device.synchronize()  # or the queue would outlast the window
            requests += sum(rows)
        end_s = now_s()
    return EnergyWindow(requests, Window(start_s, end_s), GpuTelemetry(name, sampler.samples))
