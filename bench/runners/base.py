"""The interface of every runtime."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self, final

from torch import Tensor

from bench.device import Device
from bench.environment import environment_from_machine
from bench.timer import Warmup, WarmupPolicy, warm_up
from exporter.options import Dialect
from pruning.batching import Batch
from pruning.errors import InputError

Outputs = dict[str, Tensor]


class Precision(StrEnum):
    """What a runtime may be asked to compute in."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"


class Variant(StrEnum):
    """How the same work is put on a device: call by call, through a compiler, or recorded once and replayed."""

    EAGER = "eager"
    COMPILED = "compiled"
    CUDA_GRAPH = "cuda-graph"


@dataclass(frozen=True)
class Limits:
    """What a model accepts: ids below ``vocab_size``, at most ``max_positions`` tokens. None: not known."""

    vocab_size: int | None
    max_positions: int | None


@dataclass(frozen=True)
class Traits:
    """What is known of a model once it is loaded.

    Args:
        dtype: precision really in use: fp32, fp16, bf16 or int8.
        limits: what the model accepts.
        input_names: the parts of a batch that it reads.
        output_names: what it answers with.
    """

    dtype: str
    limits: Limits
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]


@dataclass(frozen=True)
class RunnerOptions:
    """How a runtime is to run a model.

    Attributes:
        dtype: precision; None takes what an ONNX file or engine has, and fp32 for a checkpoint.
        dialect: operators of a checkpoint that is exported on the way; None takes the runtime's own.
        variant: how a GPU runtime puts its work on the device; None measures all that it has and takes the fastest.
        gpu: index of the GPU.
        compiled: torch-cpu: also compile a model for each shape, and take what is faster there.
    """

    dtype: Precision | None = None
    dialect: Dialect | None = None
    variant: Variant | None = None
    gpu: int = 0
    compiled: bool = False


DEFAULTS = RunnerOptions()


@dataclass(frozen=True, eq=False)
class Bound:
    """Inputs where the runtime wants them, and one forward pass on them: nothing is copied when it is called.

    On a GPU the call only queues the work; the outputs are ready when the device's stream gets there, and the next
    call may overwrite them.
    """

    inputs: Batch
    launch: Callable[[], Outputs]

    def __call__(self) -> Outputs:
        """One forward pass."""
        return self.launch()


class Runner(ABC):
    """A loaded model, ready to answer; closing it frees what it holds.

    Loading has two steps, so that a model measured twice is converted once: ``prepare`` makes the file or folder that
    the runtime loads, ``load`` loads it.

    Args:
        traits: of the loaded model.
    """

    runtime: ClassVar[str]
    precisions: ClassVar[tuple[Precision, ...]]
    """What may be asked for in ``RunnerOptions.dtype``."""
    on_gpu: ClassVar[bool] = False
    """Whether a GPU does the work."""

    def __init__(self, traits: Traits) -> None:
        self._traits = traits

    @classmethod
    def missing(cls) -> str | None:
        """What this machine lacks for the runtime and how to get it, in one line; None if it can be used."""
        return None

    @classmethod
    def hardware(cls) -> str:
        """Name of the CPU or GPU that computes."""
        return environment_from_machine().cpu

    @classmethod
    @abstractmethod
    def prepare(cls, path: Path, scratch: Path, options: RunnerOptions = DEFAULTS) -> Path:
        """What ``load`` takes, made from the user's ``path``; anything new is written to the folder ``scratch``.

        Raises:
            InputError: if the runtime cannot take what ``path`` holds, or not in this precision.
        """

    @classmethod
    @abstractmethod
    def load(cls, prepared: Path, threads: int, options: RunnerOptions = DEFAULTS) -> Self:
        """A runner that computes with ``threads`` CPU threads.

        Raises:
            InputError: if the runtime is missing, would fall back to another device, or refuses the model.
        """

    @final
    @property
    def dtype(self) -> str:
        """Precision really in use: fp32, fp16, bf16 or int8."""
        return self._traits.dtype

    @final
    @property
    def limits(self) -> Limits:
        """What the model accepts."""
        return self._traits.limits

    @final
    @property
    def input_names(self) -> tuple[str, ...]:
        """The parts of a batch that the model reads."""
        return self._traits.input_names

    @final
    @property
    def output_names(self) -> tuple[str, ...]:
        """What ``run`` answers with."""
        return self._traits.output_names

    @property
    def device(self) -> Device | None:
        """The accelerator whose stream does the work; None for the CPU."""
        return None

    @abstractmethod
    def run(self, batch: Batch) -> Outputs:
        """Named outputs of one batch as ``Predict`` defines them: from host memory to host memory, finished."""

    def bind(self, batch: Batch) -> Bound:
        """Bring a batch to where the model is, ready to be run again and again.

        Raises:
            InputError: if the model cannot take the batch.
        """
        return Bound(batch, partial(self.run, batch))

    def tune(self, batch: Batch) -> Mapping[str, float]:
        """Milliseconds of each variant on batches of this shape, of which the fastest is used from now on.

        Empty where there is only one way to run a model.
        """
        return {}

    @abstractmethod
    def close(self) -> None:
        """Free what the runner holds; it must not be used afterwards."""

    @final
    def warm_up(self, batch: Batch, policy: WarmupPolicy) -> Warmup:
        """Run one batch until its timing settles."""
        bound, device = self.bind(batch), self.device
        if device is None:
            return warm_up(bound, policy)

        def finished() -> None:
            bound()
            device.synchronize()

        with device.computing():
            return warm_up(finished, policy)

    @classmethod
    def check_precision(cls, dtype: Precision | None) -> None:
        """Do nothing if the runtime can be asked for a precision.

        Raises:
            InputError: if not, naming those it can be asked for.
        """
        if dtype is not None and dtype not in cls.precisions:
            raise InputError(f"{cls.runtime} cannot be asked for {dtype}; it has {', '.join(cls.precisions)}.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
