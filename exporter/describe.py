"""What is inside an ONNX file: operators, parameters, precision, inputs, outputs, architecture."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from exporter.fused import attention_layers, fused_heads
from exporter.metadata import GraphForm, metadata_from_props
from exporter.onnx_file import read_onnx
from pruning.arch import ArchSpec

STANDARD_DOMAIN = "ai.onnx"
NOT_PARAMETERS = ("BOOL", "INT64", "STRING")
"""Types of the constants that shapes and axes need; weights have none of them."""


@dataclass(frozen=True)
class TensorDescription:
    """An input or output: name, element type, and a number or a name for each dimension."""

    name: str
    dtype: str
    dims: tuple[int | str, ...]


@dataclass(frozen=True)
class OnnxDescription:
    """An ONNX file at a glance.

    ``opsets`` maps a domain to its version; ``nodes`` an operator to its count (``domain::Op`` outside the
    standard domain); ``precisions`` an element type to the parameters stored in it. ``fused_attention`` counts the
    operators that hold a whole attention. ``arch``, ``head`` and ``form`` are None if slimbert did not write the file.
    """

    path: Path
    bytes: int
    producer: str
    opsets: Mapping[str, int]
    nodes: Mapping[str, int]
    precisions: Mapping[str, int]
    inputs: tuple[TensorDescription, ...]
    outputs: tuple[TensorDescription, ...]
    fused_attention: int
    arch: ArchSpec | None
    head: str | None
    form: GraphForm | None

    @property
    def parameters(self) -> int:
        """Numbers stored as weights, whatever their type."""
        return sum(self.precisions.values())

    @property
    def attention_layers(self) -> int | None:
        """Layers that have heads; None if the architecture is not known."""
        return None if self.arch is None else attention_layers(self.arch)


def describe_onnx(path: str | Path) -> OnnxDescription:
    """Read an ONNX file, ours or not.

    Raises:
        InputError: if the file is missing or is no ONNX model.
    """
    path = Path(path)
    model = read_onnx(path)
    metadata = metadata_from_props({prop.key: prop.value for prop in model.metadata_props})
    return OnnxDescription(
        path=path,
        bytes=path.stat().st_size,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        opsets={opset.domain or STANDARD_DOMAIN: opset.version for opset in model.opset_import},
        nodes=_count(_operator(node) for node in model.graph.node),
        precisions=_precisions(model.graph),
        inputs=tuple(map(_tensor, model.graph.input)),
        outputs=tuple(map(_tensor, model.graph.output)),
        fused_attention=len(fused_heads(model)),
        arch=metadata.arch if metadata else None,
        head=metadata.head if metadata else None,
        form=metadata.form if metadata else None,
    )


def _operator(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in ("", STANDARD_DOMAIN) else f"{node.domain}::{node.op_type}"


def _count(names: Iterable[str]) -> dict[str, int]:
    """Most frequent first, ties by name."""
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))


def _precisions(graph: onnx.GraphProto) -> dict[str, int]:
    stored: Counter[str] = Counter()
    for tensor in graph.initializer:
        name = onnx.TensorProto.DataType.Name(tensor.data_type)
        if tensor.dims and name not in NOT_PARAMETERS:  # a scalar is a constant of a formula
            stored[name] += math.prod(tensor.dims)
    return dict(sorted(stored.items()))


def _tensor(value: onnx.ValueInfoProto) -> TensorDescription:
    kind = value.type.tensor_type
    dims = tuple(dim.dim_param or (dim.dim_value if dim.HasField("dim_value") else "?") for dim in kind.shape.dim)
    return TensorDescription(value.name, onnx.TensorProto.DataType.Name(kind.elem_type), dims)
