"""How far an int8 model may be from its float reference, measured on real text.

Rounding to 8 bits is an approximation, not a bug, so the tolerance is not that of `exporter.parity`: it is about
what users see. Letters: B batch, S sequence, E hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import torch
from torch import Tensor

from exporter.agreement import LEAST_AGREEMENT, VECTORS, agreements
from exporter.ort_session import predict_from_session, session_from_onnx
from exporter.parity import kept_values
from pruning.batching import Batch, Predict
from pruning.errors import InputError


@dataclass(frozen=True)
class Int8Tolerance:
    """What int8 may cost.

    ``relative_error`` bounds the root mean square of the error over that of the output, for every output;
    ``argmax_agreement`` is the least share of equal decisions, for logits; ``cosine`` the least mean cosine, for
    hidden states and sentence embeddings.

    Raises:
        InputError: if a share or cosine is not in [0, 1], or the error is not positive.
    """

    relative_error: float = 0.2
    argmax_agreement: float = LEAST_AGREEMENT["int8"]
    cosine: float = 0.98

    def __post_init__(self) -> None:
        if not self.relative_error > 0:
            raise InputError(f"the relative error allowed must be above 0; got {self.relative_error}.")
        for name, value in (("argmax agreement", self.argmax_agreement), ("cosine", self.cosine)):
            if not 0 <= value <= 1:
                raise InputError(f"the least {name} must be between 0 and 1; got {value}.")

    def with_margin(self) -> Int8Tolerance:
        """Half of the disagreement allowed: for a choice that other texts are to confirm."""
        return replace(self, argmax_agreement=(1 + self.argmax_agreement) / 2, cosine=(1 + self.cosine) / 2)


@dataclass(frozen=True)
class Int8Agreement:
    """One output of an int8 model beside its reference's; ``agreement`` is argmax agreement, or cosine for vectors."""

    output: str
    relative_error: float
    agreement: float
    tolerance: Int8Tolerance

    @property
    def required(self) -> float:
        """The least ``agreement`` that passes."""
        return self.tolerance.cosine if self.output in VECTORS else self.tolerance.argmax_agreement

    @property
    def passed(self) -> bool:
        """Whether both numbers are within the tolerance."""
        return self.relative_error <= self.tolerance.relative_error and self.agreement >= self.required

    def __str__(self) -> str:
        measure = "cosine" if self.output in VECTORS else "argmax agreement"
        return (
            f"{self.output}: relative error {self.relative_error:.3f} (at most {self.tolerance.relative_error:g}), "
            f"{measure} {self.agreement:.4f} (at least {self.required:g})"
        )


class Int8Error(RuntimeError):
    """An int8 model is further from its reference than the tolerance allows; ``model`` says which of several."""

    def __init__(self, failed: Sequence[Int8Agreement], model: str | None = None) -> None:
        self.failed = tuple(failed)
        subject = "int8" if model is None else f"{model}: int8"
        super().__init__(
            f"{subject} costs more than the tolerance ({'; '.join(map(str, self.failed))}). "
            "Leave more products in float, or use fp16."
        )


def check_int8(
    reference: Predict, candidate: Predict, batches: Sequence[Batch], tolerance: Int8Tolerance
) -> tuple[Int8Agreement, ...]:
    """Compare two models over all batches together: one result for each output of the reference.

    Only tokens that the mask keeps count. Decisions are compared per row for a classifier, per token where there
    are logits for each, and per row among its kept tokens for start and end of an answer.

    Raises:
        InputError: if there is no batch, the reference is not finite, or the candidate lacks an output
            or gives it in another shape.
    """
    totals: dict[str, Tensor] = {}
    for batch in batches:
        expected, found = reference(batch), candidate(batch)
        for name, value in expected.items():
            if name not in found or found[name].shape != value.shape:
                shapes = ", ".join(f"{other} {tuple(x.shape)}" for other, x in found.items())
                raise InputError(f"the int8 model has no output {name} {tuple(value.shape)}; it has {shapes}.")
            sums = _sums(name, value, found[name], batch["attention_mask"].bool())
            totals[name] = totals.get(name, torch.zeros_like(sums)) + sums
    if not totals:
        raise InputError("int8 is checked on real text; pass at least one batch.")
    return tuple(_agreement(name, sums, tolerance) for name, sums in totals.items())


def require_int8(results: Sequence[Int8Agreement]) -> None:
    """Do nothing if every output passed.

    Raises:
        Int8Error: naming the outputs that did not.
    """
    failed = [result for result in results if not result.passed]
    if failed:
        raise Int8Error(failed)


def predict_from_proto(model: onnx.ModelProto) -> Predict:
    """A graph in memory as a `Predict`, on the CPU with one thread."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        onnx.save(model, path)
        return predict_from_session(session_from_onnx(path))


def _sums(name: str, expected: Tensor, found: Tensor, mask: Tensor) -> Tensor:
    """Squared error, squared reference, sum of agreement, number of decisions: float64 (4,)."""
    if not torch.isfinite(expected).all():
        raise InputError(f"the reference gives {name} that is not finite. Use a model that answers.")
    x, y = (kept_values(name, value, mask).double() for value in (expected, found))
    agreement = agreements(name, expected, found, mask)
    count = torch.tensor(agreement.numel(), dtype=torch.float64)
    return torch.stack([(x - y).square().sum(), x.square().sum(), agreement.sum(), count])


def _agreement(name: str, sums: Tensor, tolerance: Int8Tolerance) -> Int8Agreement:
    error, scale, agreed, count = sums.tolist()
    relative = (error / scale) ** 0.5 if scale else float(error > 0)
    return Int8Agreement(name, relative, agreed / count if count else 1.0, tolerance)
