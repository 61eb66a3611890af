"""What every GPU runtime shares: inputs kept on the device, variants of a launch, and the fastest of them by shape."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from statistics import median
from typing import ClassVar

from torch import Tensor

from bench.device import Device, cuda_device, missing_cuda
from bench.device_timer import GPU_CLOCK, time_on_device
from bench.runners.base import DEFAULTS, Bound, Outputs, Runner, RunnerOptions, Traits, Variant
from pruning.batching import Batch
from pruning.errors import InputError

TUNING_WARMUPS = 10
TUNING_CALLS = 30
CAPTURE_RUNS = 3
"""Runs after which ONNX Runtime has recorded a CUDA graph: it allocates, records, and replays once."""

Shape = tuple[int, int, bool]
"""B, S, and whether any position is padding: without one, attention needs no mask."""


class DeviceRunner(Runner):
    """A model on an accelerator. One stream does all the work; see `bench.device.Device`.

    Args:
        traits: of the loaded model.
        device: that holds the model.
        variant: of every launch; None leaves the choice to `tune`, and is eager until then.
    """

    on_gpu: ClassVar[bool] = True
    variants: ClassVar[tuple[Variant, ...]] = (Variant.EAGER, Variant.CUDA_GRAPH)

    def __init__(self, traits: Traits, device: Device, variant: Variant | None) -> None:
        super().__init__(traits)
        if variant is not None and variant not in self.variants:
            raise InputError(f"{self.runtime} has no variant {variant}; it has {', '.join(self.variants)}.")
        self._device, self._variant = device, variant
        self._fastest: dict[Shape, Variant] = {}
        self._staged: dict[Shape, Bound] = {}

    @classmethod
    def missing(cls) -> str | None:
        """A GPU that PyTorch can use."""
        return missing_cuda()

    @classmethod
    def hardware(cls) -> str:
        """Name of the first GPU, which is used unless `RunnerOptions.gpu` names another."""
        return cuda_device(DEFAULTS.gpu).name

    @property
    def device(self) -> Device:
        """Whose stream does the work."""
        return self._device

    def variant(self, batch: Batch) -> Variant:
        """How batches like this one are launched."""
        return self._variant or self._fastest.get(_shape(batch), Variant.EAGER)

    def bind(self, batch: Batch) -> Bound:
        """Copy a batch to the device and make its launch, compiled or recorded where its variant says so."""
        return self._bind(batch, self.variant(batch))

    def tune(self, batch: Batch) -> Mapping[str, float]:
        """Median device milliseconds of every variant; the fastest is used from now on, unless one was asked for."""
        times = {variant: self._time(batch, variant) for variant in self.variants}
        self._fastest[_shape(batch)] = min(times, key=times.__getitem__)
        self._staged.pop(_shape(batch), None)
        return {variant.value: ms for variant, ms in times.items()}

    def run(self, batch: Batch) -> Outputs:
        """Copy a batch to buffers on the device, launch, and copy the answers back, as fp32."""
        key = _shape(batch)
        if key not in self._staged:
            self._staged[key] = self.bind(batch)
        bound = self._staged[key]
        self.check(batch)
        with self._device.computing():
            for name, buffer in bound.inputs.items():
                buffer.copy_(batch[name], non_blocking=True)
            outputs = {name: value.to("cpu", non_blocking=True, copy=True) for name, value in bound().items()}
        self._device.synchronize()
        return {name: value.float() for name, value in outputs.items()}

    def check(self, batch: Batch) -> None:
        """Do nothing if the model is right for a batch.

        Raises:
            InputError: if not.
        """

    @abstractmethod
    def launcher(self, inputs: Mapping[str, Tensor], unpadded: bool, variant: Variant) -> Callable[[], Outputs]:
        """One forward pass on buffers that stay where they are.

        Args:
            inputs: on the device.
            unpadded: every position holds a token, in all that these buffers will ever hold.
            variant: how to launch.
        """

    def close(self) -> None:
        """Drop the buffers and recordings."""
        self._staged.clear()

    def _bind(self, batch: Batch, variant: Variant) -> Bound:
        self.check(batch)
        inputs = {name: self._device.resident(batch[name]) for name in self.input_names}
        return Bound(inputs, self.launcher(inputs, not _shape(batch)[2], variant))

    def _time(self, batch: Batch, variant: Variant) -> float:
        bound = self._bind(batch, variant)
        with self._device.computing():
            for _ in range(TUNING_WARMUPS):
                bound()
            return median(time_on_device([bound] * TUNING_CALLS, self._device)[GPU_CLOCK])


def gpu_of(options: RunnerOptions) -> Device:
    """The GPU that the options name.

    Raises:
        InputError: if it is not there.
    """
    return cuda_device(options.gpu)


def _shape(batch: Batch) -> Shape:
    B, S = batch["input_ids"].shape
    return B, S, not bool(batch["attention_mask"].all())
