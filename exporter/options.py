"""How a graph is to be written: for whom, how precisely, for which masks. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from exporter.choices import choice_from_text
from pruning.errors import InputError

OPSETS = (20, 21, 22, 23)
"""Gelu needs 20; newer ones only narrow who can read the file."""
DEFAULT_OPSET = 20


class Dialect(StrEnum):
    """Who reads the graph: every runtime, or ONNX Runtime on a CPU or with CUDA."""

    STANDARD = "standard"
    ORT_CPU = "ort-cpu"
    ORT_CUDA = "ort-cuda"


class Dtype(StrEnum):
    """Type of the weights and of what flows between the operators; outputs are always float32."""

    FP32 = "fp32"
    FP16 = "fp16"


class Fp32Part(StrEnum):
    """What may stay float32 in a float16 graph."""

    SOFTMAX = "softmax"
    LAYER_NORM = "layer_norm"


class Pooling(StrEnum):
    """How a bare encoder's states become one vector per text."""

    MEAN = "mean"


FP32_CHOICES: tuple[tuple[Fp32Part, ...], ...] = (
    (),
    (Fp32Part.SOFTMAX,),
    (Fp32Part.LAYER_NORM,),
    (Fp32Part.SOFTMAX, Fp32Part.LAYER_NORM),
)
"""What a float16 graph may keep in float32, cheapest first."""


@dataclass(frozen=True)
class GraphOptions:
    """How to write a graph. The defaults are right everywhere, for every mask; plain text is accepted for the enums.

    Attributes:
        dialect: standard operators only, or ONNX Runtime's fused ones for one of its providers.
        dtype: fp32 or fp16.
        opset: version of the standard operators, one of `OPSETS`.
        right_padding: masks become one length per row, which has faster kernels and is wrong for any other mask.
            ONNX Runtime dialects only.
        first_token: compute the end of the encoder for the first token alone where only that is read, which is
            exact and 1.10 to 1.15 times faster; heads that return something for every token are written in full
            whatever this says.
        pooling: "mean" adds an output ``sentence_embedding``, (batch, hidden), L2 norm 1, to a bare encoder.
        fp32_parts: what an fp16 graph keeps in fp32; None lets the export measure what parity needs.

    Raises:
        InputError: if a value is unknown, or two of them exclude each other.
    """

    dialect: Dialect = Dialect.STANDARD
    dtype: Dtype = Dtype.FP32
    opset: int = DEFAULT_OPSET
    right_padding: bool = False
    first_token: bool = True
    pooling: Pooling | None = None
    fp32_parts: tuple[Fp32Part, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "dialect", choice_from_text("dialect", Dialect, self.dialect))
        object.__setattr__(self, "dtype", choice_from_text("dtype", Dtype, self.dtype))
        if self.pooling is not None:
            object.__setattr__(self, "pooling", choice_from_text("pooling", Pooling, self.pooling))
        if self.fp32_parts is not None:
            parts = {choice_from_text("fp32_parts", Fp32Part, part) for part in self.fp32_parts}
            object.__setattr__(self, "fp32_parts", tuple(part for part in Fp32Part if part in parts))
        self._check()

    def _check(self) -> None:
        if self.opset not in OPSETS:
            raise InputError(f"the opset must be one of {', '.join(map(str, OPSETS))}; got {self.opset}.")
        if self.right_padding and not self.fused:
            raise InputError(
                "right_padding needs the dialect ort-cpu or ort-cuda; got standard, which is right for every mask."
            )
        if self.fp32_parts and self.dtype != Dtype.FP16:
            raise InputError(f"fp32_parts is for fp16 graphs only; got {self.dtype}. Leave it out.")
        if self.fused and Fp32Part.SOFTMAX in (self.fp32_parts or ()):
            raise InputError(f"softmax is inside {self.dialect}'s fused attention: it cannot be kept apart in fp32.")

    @property
    def fused(self) -> bool:
        """Whether attention is one operator, which only ONNX Runtime knows."""
        return self.dialect != Dialect.STANDARD

    @property
    def fp32_choices(self) -> tuple[tuple[Fp32Part, ...], ...]:
        """What to try, cheapest first: the parts that were asked for, or all that this graph can keep in fp32."""
        if self.dtype == Dtype.FP32:
            return ((),)
        if self.fp32_parts is not None:
            return (self.fp32_parts,)
        return tuple(parts for parts in FP32_CHOICES if not (self.fused and Fp32Part.SOFTMAX in parts))
