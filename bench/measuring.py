"""What a block of runners is timed with: clocks of the host for the CPU, events and copies for a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from bench.device import Device
from bench.device_timer import DEVICE_CLOCKS, END_TO_END, time_on_device
from bench.runners.base import Runner
from bench.timer import BlockTimer, Call, Clock, time_calls
from pruning.batching import Batch
from pruning.errors import InputError


@dataclass(frozen=True)
class Contest:
    """What `bench.paired.measure_blocks` takes: contestants that are given the index of a batch, and a timer."""

    contestants: Mapping[str, Callable[[int], object]]
    inputs: Sequence[int]
    time_block: BlockTimer
    clocks: tuple[str, ...]


def contest_from_runners(
    runners: Mapping[str, Runner], batches: Sequence[Batch], clocks: Sequence[Clock], *, cold_l2: bool = False
) -> Contest:
    """Every runner on the same batches.

    On the CPU each call is read by the clocks. On a GPU the batches are resident for the clocks ``gpu`` and
    ``enqueue``, and in pinned host memory for ``end-to-end``.

    Args:
        runners: by name, all on the CPU or all on one GPU.
        batches: of any shapes.
        clocks: of the host, for the CPU.
        cold_l2: on a GPU, flush its cache before each call whose device time is taken.

    Raises:
        InputError: if CPU and GPU are mixed, which no clock could compare.
    """
    devices = {id(runner.device): runner.device for runner in runners.values()}
    if len(devices) != 1:
        raise InputError("CPU and GPU runtimes cannot be timed against each other in one cell; measure them apart.")
    (device,) = devices.values()
    inputs = range(len(batches))
    if device is None:
        calls = {name: partial(_run_nth, runner, batches) for name, runner in runners.items()}
        return Contest(calls, inputs, partial(time_calls, clocks=clocks), tuple(x.name for x in clocks))
    pinned = [{name: device.pinned(value) for name, value in batch.items()} for batch in batches]
    bound = {
        name: _DeviceContestant(runner, pinned, [runner.bind(batch) for batch in batches])
        for name, runner in runners.items()
    }
    return Contest(bound, inputs, partial(_time_block, device, device.flusher() if cold_l2 else None), DEVICE_CLOCKS)


def check_headline(contest: Contest, clock: str, where: str) -> None:
    """Do nothing if a contest reads a clock.

    Raises:
        InputError: naming the clocks that it has.
    """
    if clock not in contest.clocks:
        raise InputError(f"{where} has no clock {clock!r}; name one of {', '.join(contest.clocks)} with --clock.")


@dataclass(frozen=True)
class _DeviceContestant:
    runner: Runner
    pinned: Sequence[Batch]
    resident: Sequence[Call]

    def __call__(self, index: int, end_to_end: bool = False) -> object:
        return self.runner.run(self.pinned[index]) if end_to_end else self.resident[index]()


def _time_block(
    device: Device, flush: Call | None, calls: Sequence[Callable[..., object]]
) -> Mapping[str, tuple[float, ...]]:
    """Device and enqueue time of all calls, then their time from host to host."""
    with device.computing():
        samples = time_on_device(calls, device, before=flush)
    return {**samples, **time_calls([partial(call, end_to_end=True) for call in calls], [END_TO_END])}


def _run_nth(runner: Runner, batches: Sequence[Batch], index: int) -> object:
    return runner.run(batches[index])
