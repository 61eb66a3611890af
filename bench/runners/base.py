"""The interface of every runtime."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from torch import Tensor

from pruning.batching import Batch


@dataclass(frozen=True)
class Limits:
    """What a model accepts: ids below ``vocab_size``, at most ``max_positions`` tokens. None: not known."""

    vocab_size: int | None
    max_positions: int | None


class Runner(ABC):
    """A loaded model, ready to answer; closing it frees what it holds.

    Loading has two steps, so that a model measured twice is converted once: ``prepare`` makes the file or folder that
    the runtime loads, ``load`` loads it.
    """

    runtime: ClassVar[str]

    @classmethod
    @abstractmethod
    def prepare(cls, path: Path, scratch: Path) -> Path:
        """What ``load`` takes, made from the user's ``path``; anything new is written to the folder ``scratch``.

        Raises:
            InputError: if the runtime cannot take what ``path`` holds.
        """

    @classmethod
    @abstractmethod
    def load(cls, prepared: Path, threads: int) -> Self:
        """A runner that computes with ``threads`` threads."""

    @property
    @abstractmethod
    def dtype(self) -> str:
        """Precision of the weights: fp32, fp16, bf16 or int8."""

    @property
    @abstractmethod
    def limits(self) -> Limits:
        """What the model accepts."""

    @abstractmethod
    def run(self, batch: Batch) -> dict[str, Tensor]:
        """Named outputs of one batch, as ``Predict`` defines them."""

    @abstractmethod
    def close(self) -> None:
        """Free what the runner holds; it must not be used afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
