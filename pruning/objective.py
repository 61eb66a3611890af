"""What training minimises: examples by number in, one loss out. Letters: N examples, B batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from pruning.batching import Batch


class Objective(ABC):
    """N examples and the loss of a model on some of them. Knows no optimiser, device or schedule."""

    @property
    @abstractmethod
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each example, (N,): examples of similar length share a batch."""

    @abstractmethod
    def batch(self, indices: Sequence[int]) -> Batch:
        """The tensors of B examples, whatever names `loss` expects."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """A scalar, the mean over the batch; ``batch`` comes from `batch`, on the model's device."""
